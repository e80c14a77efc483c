"""Settings of the lazy-CNN statement: the defaults are a smoke run of seconds on digits."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

Scale = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Scales, data, net and training; configs/lazy_cnn.yaml is the real size."""

    alpha: tuple[Scale, ...] = (1.0, 1e7)  # in float64
    alpha_float32: tuple[Scale, ...] = (1e7,)
    seeds: int = Field(2, ge=2)
    dataset: Literal["digits", "mnist", "cifar10"] = "digits"
    data_dir: Path | None = None
    train_size: int | None = Field(64, ge=2)  # None: the whole training set
    test_size: int | None = Field(50, ge=1)  # None: the whole test set
    augment: bool = False  # random crop and flip
    width: int = Field(2, ge=1)
    gain: float = Field(1.0, gt=0)
    epochs: int = Field(3, ge=1)
    batch: int = Field(32, ge=1)
    rate: float = Field(1.0, gt=0)
    decay: float = Field(1 / 3, ge=0)  # β in rate/(1 + β·epoch)
    momentum: float = Field(0.9, ge=0, lt=1)
    device: Literal["cpu", "cuda"] = "cpu"
