"""Settings, and the training of a net of some depth made of some blocks."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from regimes.experiments.least_action.low_data.arms import ArmName
from regimes.experiments.least_action.low_data.config import TableConfig, refuse_other_sizes
from regimes.experiments.least_action.low_data.course import Course
from regimes.experiments.least_action.low_data.together import measured
from regimes.training.config import TrainConfig


class Config(TableConfig):
    """The defaults are a smoke run on digits, configs/depth_without_batch_norm.yaml is the size that was run."""

    SMOKE: ClassVar[dict[str, Any]] = {"epochs": 2, "arch_options": {"filters": 4}}

    train_size: list[Annotated[int, Field(ge=1)]] = Field(
        [100], min_length=1, max_length=1, description="training samples, one number"
    )
    depth: list[Annotated[int, Field(ge=1)]] = Field([2, 6], min_length=2, description="residual blocks")
    block: list[Literal["two_convolutions", "last_convolution"]] = Field(
        ["two_convolutions", "last_convolution"], description="kinds of block: as published, and as the code ran"
    )
    arm: list[ArmName] = Field(
        ["vanilla", "lap_divided", "vanilla_lr0.01", "lap_divided_lr0.01"],
        min_length=1,
        description="objectives that are compared",
    )


def points(config: Config) -> list[dict[str, Any]]:
    """Seed after seed, so that a run cut short is a whole one of fewer seeds."""
    refuse_other_sizes(config)
    return [
        {"seed": seed, "depth": depth, "block": block, "arm": arm}
        for seed in range(config.seeds)
        for depth in config.depth
        for block in config.block
        for arm in config.arm
    ]


def course(config: Config, depth: int, block: str) -> Course:
    """The training of a net of this depth, made of these blocks."""
    made = config.course()
    options = {**made.train.arch_options, "blocks": depth, "batch_norm": False, "compat": block == "last_convolution"}
    return made._replace(train=TrainConfig.model_validate({**made.train.model_dump(), "arch_options": options}))


def measure(config: Config, points: list[dict[str, Any]], unfinished: Path | None = None) -> list[dict[str, Any]]:
    """One row a point: accuracies as shares, and the net at the end of training."""
    (train_size,) = config.train_size
    made = course(config, points[0]["depth"], points[0]["block"])
    return [{"train_size": train_size} | row for row in measured(config, points, made, train_size, unfinished)]
