"""Configuration of one comparison of checkpoints; the files are held by their hashes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from regimes.errors import UserError
from regimes.lab.config import Settings

DEFAULT_POINTS = 1000


class File(Settings):
    """A checkpoint: where it lies and what is in it."""

    path: str = Field(description="where it lies")
    sha256: str = Field(description="hash of its content")


class Config(Settings):
    """Is the map of each of these networks an optimal transport map?"""

    checkpoints: Annotated[list[File], Field(min_length=1)] = Field(
        description="files that `train` has written, with their hashes"
    )
    points: Annotated[int, Field(ge=3)] | None = Field(
        None, description="points to be transported; null: 1,000, or all where there are fewer"
    )
    split: Literal["train", "validation", "test"] = Field("test", description="which samples")
    stage: int | None = Field(None, description="segment of blocks, from 0; null: every one")
    p: Annotated[float, Field(ge=1, le=20)] = Field(2.0, description="exponent of the cost ‖x − y‖^p")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the choice of points and of the probes")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")
    data_dir: Path | None = Field(None, description="folder with the data files; null: where the run had it")
    seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="limit of each exact solve, beyond which a bracket is what is known; null: none"
    )


def hashed(path: Path) -> File:
    """A file with the hash of its content; FileNotFoundError if it is not there."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; give a last.pt or best.pt that `train` has written{_hint(path)}")
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


def refuse_twice(files: Sequence[File]) -> None:
    """UserError if a checkpoint is named twice, or lies under two names: it would count as two seeds."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.get(file.sha256)
        if other is not None:
            same = Path(other).resolve() == Path(file.path).resolve()
            what = f"{file.path} is named twice" if same else f"{other} and {file.path} hold the same weights"
            raise UserError(f"each checkpoint can be named once; {what}: leave one out")
        seen[file.sha256] = file.path


def labels(paths: list[str]) -> list[str]:
    """Short names of checkpoints, each another: folder and stem as runs write them (runs/a/best.pt: a/best)."""
    parts = [Path(path).with_suffix("").parts for path in paths]
    for length in range(2, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def folder_stem(config: Config) -> str:
    """Name of the run folder: ot-gap and the checkpoints, the later ones as a count."""
    first, *others = labels([file.path for file in config.checkpoints])
    return f"ot-gap-{first.strip('/').replace('/', '-')}" + (f"-and-{len(others)}-more" if others else "")
