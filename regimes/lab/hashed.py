"""Files that a run is given, held in its settings by their hashes."""

import hashlib
from pathlib import Path

from pydantic import Field

from regimes.lab.config import Settings

CHECKPOINT = "give a last.pt or best.pt that `train` has written"


class File(Settings):
    """A file: where it lies and what is in it."""

    path: str = Field(description="where it lies")
    sha256: str = Field(description="hash of its content")


def hashed(path: Path, advice: str = CHECKPOINT, *, of_train: bool = True) -> File:
    """A file with the hash of its content; FileNotFoundError if it is not there.

    of_train: whether it may be a checkpoint of `train`, so that those in a folder named in its place are a hint.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; {advice}{_hint(path) if of_train else ''}")
    with path.open("rb") as file:
        return File(path=str(path), sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _hint(path: Path) -> str:
    """The checkpoints that lie in a folder: its own, or those of the seeds below it."""
    if not path.is_dir():
        return ""
    own = [path / name for name in ("best.pt", "last.pt") if (path / name).is_file()]
    below = [sorted(path.glob(f"*/{name}")) for name in ("best.pt", "last.pt")]
    seeds = max(below, key=len)
    if own:
        return f": {own[0]}"
    if len(seeds) > 3:
        return f": {seeds[0]}, ... {seeds[-1]}, which are {len(seeds)} (in a shell {path / '*' / seeds[0].name})"
    return (
        f": {', '.join(map(str, seeds))}"
        if seeds
        else f"; neither {path / 'best.pt'} nor one in a folder below is there"
    )
