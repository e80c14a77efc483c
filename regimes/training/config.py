"""Settings of one training run; what is not given comes from the recipe of the data set."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from regimes.lab.config import Settings
from regimes.training.recipes import resolve

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class NetSettings(Settings):
    """Which network learns which samples."""

    dataset: Literal["circles", "digits", "mnist", "cifar10", "cifar100"] = "digits"
    data_dir: Path | None = None
    train_size: Count | None = None  # None: all that validation leaves
    validation: Annotated[int, Field(ge=0)]
    test_size: Count | None = None  # None: all
    balanced: bool = False  # classes of the subset equal, not in the mean only
    augment: bool  # random crop and flip
    cutout: Count | None = None  # side in pixels of a black square somewhere on each image

    arch: str
    arch_options: dict[str, Any]
    init: Literal["kaiming", "orthogonal", "normal", "xavier"]
    gain: Positive
    init_biases: bool = False


class StepSettings(Settings):
    """How a network is trained, whichever it is: what `train` and `regimes.fit` have in common."""

    epochs: Count
    max_steps: Count | None = None
    batch: Count
    optimiser: Literal["sgd", "adam", "adamw"]
    lr: Positive
    momentum: Share  # of sgd
    nesterov: bool = False
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)]  # of adam, adamw
    weight_decay: NotNegative
    schedule: Literal["multistep", "cosine", "constant"]
    milestones: list[Count]
    gamma: Annotated[float, Field(gt=0, le=1)]

    lap: bool = False  # least action in place of the risk alone; the settings below are its own
    multiplier: Positive  # λ at the start
    growth: NotNegative  # τ
    every: Count  # s
    p: Annotated[float, Field(ge=1)] = 2.0
    convention: Literal["mean_over_features", "sum_over_features"] = "mean_over_features"
    form: Literal["divided", "multiplied", "risk_only"]
    level: Literal["batch", "batch_after", "running", "whole"]
    memory: Share = 0.9

    tau_lr_factor: NotNegative | None = None  # learning rate of τ over that of θ; None: 1/L², so that L τ has that of θ
    tau_weight_decay: NotNegative = 0.0
    tau_clip: Positive | None = None  # largest norm of τ's gradient; None: none

    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["cpu", "cuda"] = "cpu"
    bf16: bool = False
    target: Annotated[float, Field(gt=0, le=1)] | None = None  # validation accuracy whose time is told
    checkpoint_seconds: NotNegative = 60.0
    tensorboard: bool = False


class TrainConfig(StepSettings, NetSettings):
    """One training run of a classifier. Fields without a default take it from the data set's recipe."""

    mean_field: bool = False  # blocks as particles (θ, τ), sorted by their times τ; the settings of τ are its own
    tau_start: Literal["uniform", "random"] = "uniform"  # τ^l = l/L, the plain net; or drawn from [0, 1]
    tau_first_gap: bool = True  # the first block moves by its τ; else by weight 1
    tau_sort: Literal["forward", "epoch", "never"] = "forward"  # when blocks are put in the order of their times

    seeds: Count = 1  # runs with seed, seed + 1, ...
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = False  # compiled, and replayed as CUDA graphs

    @model_validator(mode="before")
    @classmethod
    def fill(cls, values: Any) -> Any:
        """Settings that were not given are those of the data set."""
        return resolve(values) if isinstance(values, dict) else values
