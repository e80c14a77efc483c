"""Paths as people write them: ~ is the home folder, in arguments, settings and variables alike."""

import shlex
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
