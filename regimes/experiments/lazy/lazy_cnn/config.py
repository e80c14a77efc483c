"""Settings of the lazy-CNN statement, and its grid: the defaults are a smoke run of seconds on digits."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.lab.config import Settings

Scale = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Scales, data, net and training; configs/lazy_cnn.yaml is the real size."""

    alpha: tuple[Scale, ...] = Field((1.0, 1e7), min_length=1, description="output scales α trained in float64")
    alpha_float32: tuple[Scale, ...] = Field((1e7,), description="output scales α trained in float32 as well")
    seeds: int = Field(2, ge=2, description="repetitions: weights, images and their order drawn afresh")
    dataset: Literal["digits", "mnist", "cifar10"] = Field("digits", description="images; digits need no download")
    data_dir: Path | None = Field(None, description="folder of the data files")
    train_size: int | None = Field(64, ge=2, description="training images; null: the whole training set")
    test_size: int | None = Field(50, ge=1, description="test images; null: the whole test set")
    augment: bool = Field(False, description="random crop and flip")
    width: int = Field(2, ge=1, description="channels of the first layer (published: 64)")
    gain: float = Field(1.0, gt=0, description="factor on the Xavier initialisation")
    epochs: int = Field(2, ge=1, description="passes over the training images")
    batch: int = Field(32, ge=1, description="images of a step")
    rate: float = Field(1.0, gt=0, description="learning rate of the first epoch")
    decay: float = Field(1 / 3, ge=0, description="β in the learning rate rate/(1 + β·epoch)")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to train")


def points(config: Config) -> list[dict[str, Any]]:
    """All scales in float64 and those chosen in float32; the seed is slowest, for its tangent model is trained once."""
    scales = {"float64": config.alpha, "float32": config.alpha_float32}
    return [
        {"seed": seed, "precision": precision, "alpha": float(alpha)}
        for seed in range(config.seeds)
        for precision, alphas in scales.items()
        for alpha in alphas
    ]
