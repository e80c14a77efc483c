"""Nets of several widths, and slopes over them, one a seed."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.course import Start, course, rows_of
from regimes.experiments.least_action.small_nets.settings import SmallNets
from regimes.lab import numbers
from regimes.lab.numbers import Number


class Config(SmallNets):
    """Widths, data, nets and training; configs/overfitting_width.yaml is the real size."""

    width: tuple[Annotated[int, Field(ge=1)], ...] = Field((8, 16), min_length=2, description="features of the states")
    train_size: int = Field(50, ge=2, description="training images")


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: accuracies and risks after the protocol's steps and at equal risk."""
    starts = [Start(point["seed"], config.gain) for point in points]
    return rows_of(course(config, points[0]["arm"], config.train_size, points[0]["width"], starts))


def gains(rows: Any, other: str, column: str) -> Any:
    """Least action's accuracy less the other arm's, in points, by width and seed."""
    first, second = contrasts.pairs(rows, column, other, ("width", "seed"))
    return 100 * (first - second)


def slope(values: Any) -> Number | None:
    """Of values by width and seed: least-squares slope against log₂ width in each seed; their mean.

    Seeds with fewer than two widths are left out.
    """
    if values.isna().any():
        return numbers.mean([np.nan] * values.index.get_level_values("seed").nunique())
    found = [
        np.polyfit(np.log2(some.index.get_level_values("width").to_numpy(dtype=float)), some.to_numpy(), 1)[0]
        for _, some in values.groupby("seed")
        if len(some) > 1
    ]
    return numbers.mean(found)
