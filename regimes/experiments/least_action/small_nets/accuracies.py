"""Accuracies of many seeds, at several numbers of training images."""

from typing import Annotated, Any

from pydantic import Field

from regimes.experiments.least_action.small_nets.course import Start, course, rows_of
from regimes.experiments.least_action.small_nets.settings import SmallNets


class Config(SmallNets):
    """Data, nets and training; configs/narrower_intervals.yaml is the real size."""

    train_size: tuple[Annotated[int, Field(ge=2)], ...] = Field((50, 80), min_length=1, description="training images")
    width: int = Field(16, ge=1, description="features of the states")


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: accuracies after the protocol's steps and at equal risk."""
    starts = [Start(point["seed"], config.gain) for point in points]
    return rows_of(course(config, points[0]["arm"], points[0]["train_size"], config.width, starts))
