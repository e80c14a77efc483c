"""Paths as people write them: ~ is the home folder, in arguments, settings and variables alike."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from regimes.errors import UserError


def home(path: Path | str) -> Path:
    """The path with a leading ~ or ~user replaced by that home folder, as a shell does it; a folder `./~` is left."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path} needs a home folder, and there is none of that name; write it out") from None
    except TypeError:
        raise UserError(f"a path is needed, as text or a Path; got {path!r}") from None


def typed(path: Path | str) -> str:
    """The path as it can be typed in a shell, whatever is in it: in quotes where needed, never like an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def refuse_twice(runs: Sequence[Path], why: str) -> None:
    """UserError if a folder is named twice, in whatever spelling; why: what would come of it."""
    seen: dict[Path, Path] = {}
    for run in runs:
        if (other := seen.get(run.resolve())) is not None:
            names = f"{run} is named twice" if str(other) == str(run) else f"{other} and {run} are one folder"
            raise UserError(f"each run can be named once; {names}, {why}: leave one out")
        seen[run.resolve()] = run
