"""Configuration of one comparison of checkpoints; the files are held by their hashes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from regimes.errors import UserError
from regimes.lab.config import Settings
from regimes.lab.hashed import File

DEFAULT_POINTS = 1000


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
