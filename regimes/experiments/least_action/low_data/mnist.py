"""Settings and training of the table on MNIST: the protocol of the author code of 2019."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from regimes.experiments.least_action.low_data.arms import ArmName
from regimes.experiments.least_action.low_data.config import (
    ARM,
    COMPILE,
    CUDA_GRAPHS,
    DATA_DIR,
    DATASET,
    DEVICE,
    ENSEMBLE,
    FIRST_HALF,
    FIRST_LOOK,
    LOOK_EVERY,
    SECOND_HALF,
    SEEDS,
    TRAIN_SIZE,
    fits,
    on_a_card,
)
from regimes.experiments.least_action.low_data.course import Course
from regimes.experiments.least_action.low_data.together import measured
from regimes.lab.config import Settings
from regimes.training.config import TrainConfig


class More(Settings):
    """Further seeds, sizes and arms, trained and looked at like the rest."""

    first_seed: int = Field(0, ge=0, description="first of these seeds")
    seeds: int = Field(1, ge=1, description="how many of them")
    train_size: list[int] = Field([100], min_length=1, description=TRAIN_SIZE)
    arm: list[ArmName] = Field(["vanilla", "lap", "control"], min_length=1, description=ARM)


class Config(Settings):
    """Data, arms, training and looks; the defaults are a smoke run, configs/mnist_low_data.yaml is the real size."""

    dataset: Literal["digits", "mnist"] = Field("digits", description=DATASET)
    data_dir: str | None = Field(None, description=DATA_DIR)
    train_size: list[int] = Field([100], min_length=1, description=TRAIN_SIZE)
    arm: list[ArmName] = Field(
        ["vanilla", "lap", "lap_divided", "control", "vanilla_lr0.1"], min_length=1, description=ARM
    )
    extra_train_size: list[int] = Field([100], description="training samples at which the extra arms are run")
    extra_arm: list[ArmName] = Field(["lap_lr0.1", "control_lr0.1"], description="further arms, which tune a method")
    seeds: int = Field(2, ge=1, description=SEEDS)
    more: list[More] = Field([], description="further seeds with train sizes and arms of their own")
    validation: int = Field(100, ge=1, description="validation samples, which choose the epoch and the best rate")
    first_half: int = Field(100, ge=1, description=FIRST_HALF)
    second_half: int = Field(100, ge=1, description=SECOND_HALF)
    epochs: int = Field(6, ge=1, description="epochs of training")
    first_look: int = Field(4, ge=1, description=FIRST_LOOK)
    look_every: int = Field(1, ge=1, description=LOOK_EVERY)
    look_precision: Literal["float32", "bfloat16"] = Field("float32", description="precision of these measurements")
    filters: int = Field(8, ge=2, description="filters of each convolution of ResNet9")
    blocks: int = Field(3, ge=1, description="residual blocks")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of SGD, constant")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    batch: int = Field(128, ge=2, description="samples a batch")
    gain: float = Field(0.1, gt=0, description="gain of the orthogonal initial weights")
    encoder_gain: float = Field(1.0, gt=0, description="gain of those of the encoder")
    multiplier: float = Field(5.0, gt=0, description="λ at the start")
    growth: float = Field(1.0, ge=0, description="λ grows by this times the risk")
    every: int = Field(5, ge=1, description="steps between two growths of λ")
    device: Literal["cpu", "cuda"] = Field("cpu", description=DEVICE)
    compile: bool = Field(False, description=COMPILE)
    cuda_graphs: bool = Field(False, description=CUDA_GRAPHS)
    ensemble: int = Field(1, ge=1, description=ENSEMBLE)

    _on_a_card = field_validator("cuda_graphs")(on_a_card)
    _fits = field_validator("ensemble")(fits)


def points(config: Config) -> list[dict[str, Any]]:
    """Seed after seed, so that a run cut short is a whole one of fewer seeds."""
    plans = [
        [(config.train_size, config.arm), (config.extra_train_size, config.extra_arm)] if seed < config.seeds else []
        for seed in range(max([config.seeds, *(more.first_seed + more.seeds for more in config.more)]))
    ]
    for more in config.more:
        for seed in range(more.first_seed, more.first_seed + more.seeds):
            plans[seed].append((more.train_size, more.arm))
    return [
        {"seed": seed, "train_size": size, "arm": arm}
        for seed, plan in enumerate(plans)
        for size, arm in dict.fromkeys((size, arm) for sizes, arms in plan for size in sizes for arm in arms)
    ]


def course(config: Config) -> Course:
    """The training of all arms as `train` knows it, and when it is looked at."""
    shared = ("momentum", "weight_decay", "batch", "epochs", "gain", "multiplier", "growth", "every")
    train = TrainConfig.model_validate(
        {name: getattr(config, name) for name in shared}
        | {name: getattr(config, name) for name in ("dataset", "data_dir", "device", "compile", "cuda_graphs")}
        | {"lr": config.learning_rate}
        | {"arch": "resnet9", "arch_options": {"filters": config.filters, "blocks": config.blocks}}
        | {"init": "orthogonal", "optimiser": "sgd", "schedule": "constant", "level": "batch_after"}
    )
    looks = {name: getattr(config, name) for name in ("encoder_gain", "first_look", "look_every", "look_precision")}
    return Course(train, **looks, refreshed=True)


def measure(config: Config, points: list[dict[str, Any]], unfinished: Path | None = None) -> list[dict[str, Any]]:
    """One row a point: accuracies as shares by both protocols, and the net at the end of training."""
    return measured(config, points, course(config), points[0]["train_size"], unfinished)
