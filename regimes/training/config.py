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
MOST_SEED = 2**53  # and some thousand more fit into torch's generators; exact in every reader of JSON


class NetSettings(Settings):
    """Which network learns which samples."""

    dataset: Literal["circles", "digits", "mnist", "cifar10", "cifar100"] = Field("digits", description="data set")
    data_dir: Path | None = Field(None, description="folder with the data files; null: REGIMES_DATA_DIR")
    train_size: Count | None = Field(None, description="training samples; null: all that validation leaves")
    validation: Annotated[int, Field(ge=0)] = Field(description="samples that choose the best epoch")
    test_size: Count | None = Field(None, description="test samples; null: all")
    balanced: bool = Field(False, description="classes of the training subset equal, not in the mean only")
    augment: bool = Field(description="random crop and flip")
    cutout: Count | None = Field(
        None, description="side in pixels of a black square somewhere on each image; null: none"
    )

    arch: str = Field(description="architecture")
    arch_options: dict[str, Any] = Field(description="options of the architecture, such as filters and blocks")
    init: Literal["kaiming", "orthogonal", "normal", "xavier"] = Field(description="law of the initial weights")
    gain: Positive = Field(description="factor on the initial weights")
    init_biases: bool = Field(False, description="draw the biases too, in place of zeros")


class StepSettings(Settings):
    """How a network is trained, whichever it is: what `train` and `regimes.fit` have in common."""

    epochs: Count = Field(description="passes over the training samples")
    max_steps: Count | None = Field(None, description="stop after this many optimiser steps; null: never")
    batch: Count = Field(description="samples a step")
    optimiser: Literal["sgd", "adam", "adamw"] = Field(description="how weights are changed")
    lr: Positive = Field(description="learning rate at the start")
    momentum: Share = Field(description="of sgd")
    nesterov: bool = Field(False, description="Nesterov's momentum, of sgd")
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = Field(description="of adam and adamw")
    weight_decay: NotNegative = Field(description="factor of the penalty on the squared weights")
    schedule: Literal["multistep", "cosine", "constant"] = Field(description="course of the learning rate")
    milestones: list[Count] = Field(description="epochs after which multistep multiplies it by gamma")
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(description="factor of multistep")

    lap: bool = Field(False, description="least action in place of the risk alone")
    multiplier: Positive = Field(description="λ at the start, of least action")
    growth: NotNegative = Field(description="τ: how fast λ grows with the risk, of least action")
    every: Count = Field(description="s: steps between two updates of λ, of least action")
    p: Annotated[float, Field(ge=1)] = Field(2.0, description="exponent of the transport cost")
    convention: Literal["mean_over_features", "sum_over_features"] = Field(
        "mean_over_features", description="norm of the transport cost, over the features of a state"
    )
    form: Literal["divided", "multiplied", "risk_only"] = Field(
        description="objective of least action: risk + cost/λ, λ·risk + cost, or λ·risk alone"
    )
    level: Literal["batch", "batch_after", "running", "whole"] = Field(
        description="risk by which λ grows: of the batch before or after the step, a running mean, or all"
    )
    memory: Share = Field(0.9, description="of the running mean")

    tau_lr_factor: NotNegative | None = Field(
        None, description="learning rate of τ over that of θ; null: 1/L², so that L τ has that of θ"
    )
    tau_weight_decay: NotNegative = Field(0.0, description="weight decay of τ")
    tau_clip: Positive | None = Field(None, description="largest norm of τ's gradient; null: none")

    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = Field(0, description="of data, weights and batches")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")
    bf16: bool = Field(False, description="products in bfloat16")
    target: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="validation accuracy whose time is told; null: none"
    )
    checkpoint_seconds: NotNegative = Field(60.0, description="seconds between two checkpoints within an epoch")
    tensorboard: bool = Field(False, description="write TensorBoard events")


class TrainConfig(StepSettings, NetSettings):
    """One training run of a classifier. Fields without a default take it from the data set's recipe."""

    mean_field: bool = Field(False, description="blocks as particles (θ, τ), sorted by their times τ")
    tau_start: Literal["uniform", "random"] = Field(
        "uniform", description="times at the start: τ^l = l/L, which is the plain net, or drawn from [0, 1]"
    )
    tau_first_gap: bool = Field(True, description="the first block moves by its τ, else by weight 1")
    tau_sort: Literal["forward", "epoch", "never"] = Field(
        "forward", description="when blocks are put in the order of their times"
    )

    seeds: Count = Field(1, description="runs, with seed, seed + 1, ...")
    channels_last: bool = Field(True, description="memory layout of images")
    compile: bool = Field(False, description="torch.compile the network")
    cuda_graphs: bool = Field(False, description="compiled, and replayed as CUDA graphs")

    @model_validator(mode="before")
    @classmethod
    def fill(cls, values: Any) -> Any:
        """Settings that were not given are those of the data set."""
        return resolve(values) if isinstance(values, dict) else values
