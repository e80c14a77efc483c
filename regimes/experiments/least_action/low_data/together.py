"""Rows of points that differ in their seeds alone, whose nets are trained side by side if there are several."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from regimes.experiments.least_action.low_data.course import Course, Data, data, run_all


def measured(
    config: Any,
    points: Sequence[dict[str, Any]],
    course: Course,
    train_size: int,
    unfinished: Path | None = None,
) -> list[dict[str, Any]]:
    """A row for each of some points that differ in their seeds alone, in training of the sizes of a configuration.

    unfinished: folder of what it goes on from where it was stopped.
    """
    seeds, halves = tuple(point["seed"] for point in points), (config.first_half, config.second_half)
    sets = shared(config.dataset, seeds, train_size, config.validation, halves, config.data_dir)
    return run_all(sets, points[0]["arm"], course, seeds, unfinished)


@lru_cache(maxsize=1)
def shared(name: str, seeds: tuple[int, ...], *sizes: Any) -> tuple[Data, ...]:
    """The data of each seed, the same for all arms."""
    return tuple(data(name, seed, *sizes) for seed in seeds)
