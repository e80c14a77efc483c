"""Configuration of one diagnosis; the files are held by their hashes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.lab.config import Settings
from regimes.lab.hashed import File, hashed

STATES = "give a last.pt or best.pt of `train`, or a state dict (.pt, .safetensors) with --factory"
INITIAL = "give the weights before the training"
SAMPLES = "give a .pt or .safetensors file with tensors x and y, and held_out if there is one"


class Config(Settings):
    """Was this training lazy?"""

    checkpoint: File = Field(description="the network after training: a checkpoint of `train`, or a state dict")
    against: Annotated[list[File], Field(max_length=1)] = Field(
        [], description="the network before training; none: initial.pt of the run, or weights drawn again"
    )
    initial: Annotated[list[File], Field(max_length=1)] = Field(
        [], description="initial.pt, where none is given and it lies beside the checkpoint; found, not to be set"
    )
    factory: str | None = Field(
        None, description="module:function or file.py:function that makes the network; null: a network of `train`"
    )
    factory_code: Annotated[list[File], Field(max_length=1)] = Field(
        [], description="the file with that function; found, not to be set"
    )
    samples: Annotated[list[File], Field(max_length=1)] = Field(
        [], description="file with x, y and held_out; none: the samples of the run"
    )
    points: Annotated[int, Field(ge=1)] = Field(200, description="training samples that outputs are measured on")
    kernel_points: Annotated[int, Field(ge=2)] = Field(100, description="those of them that kernels are measured on")
    held_out: Annotated[int, Field(ge=1)] = Field(200, description="test samples for the trained tangent model")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the choice of points and of the subsamples")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")
    data_dir: Path | None = Field(None, description="folder with the data files; null: where the run had it")


def given_files(checkpoint: Path, against: Path | None, samples: Path | None) -> dict[str, Any]:
    """The files named on a command line, with their hashes, as settings."""
    optional = {"against": (against, INITIAL), "samples": (samples, SAMPLES)}
    found = {
        name: [hashed(path, advice, of_train=name == "against").model_dump()]
        for name, (path, advice) in optional.items()
        if path is not None
    }
    return {"checkpoint": hashed(checkpoint, STATES).model_dump(), **found}


def folder_stem(config: Config) -> str:
    """Name of the run folder: diagnose and the checkpoint."""
    return "diagnose-" + "-".join(Path(config.checkpoint.path).with_suffix("").parts[-2:]).strip("-/")
