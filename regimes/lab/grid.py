"""The grid of an experiment: its points, and which of them go to one call of measure."""

import itertools
from typing import Any

from regimes.errors import UserError
from regimes.lab.calls import Point, describe
from regimes.lab.config import Settings, refuse_huge
from regimes.lab.log import point_key

MOST = 1_000_000  # seeds: their points are listed in memory


def grid_points(experiment: Any, config: Settings) -> list[Point]:
    """The points of an experiment: its own `points(config)`, or the product of the axes GRID, first axis slowest.

    The values of an axis are the list of that name in the configuration; the axis "seed" is 0..seeds−1.
    """
    refuse_huge(config)
    if (seeds := getattr(config, "seeds", 1)) > MOST:
        raise UserError(f"the number of seeds needs to be at most {MOST:,}; got {seeds:,}")
    if hasattr(experiment, "points"):
        points = [dict(point) for point in experiment.points(config)]
    else:
        axes = {axis: _axis_values(config, axis) for axis in experiment.GRID}
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if not points:
        raise UserError("the grid needs at least one point; got none: give every axis at least one value")
    seen: set[str] = set()
    for point in points:
        if point_key(point) in seen:
            raise UserError(f"the grid holds the point {describe(point)} twice; give every axis different values")
        seen.add(point_key(point))
    return points


def calls_of_measure(experiment: Any, config: Settings, parts: int = 1) -> list[list[Point]]:
    """The points of each call of measure, in the order of the grid; UserError if they are too few for so many parts."""
    batches = _cut(_batches(experiment, config, grid_points(experiment, config)), 1 if is_joint(experiment) else parts)
    if len(batches) < parts:
        raise UserError(
            f"the sweep has {len(batches)} calls of measure, too few for {parts} parts: take at most {len(batches)}"
        )
    return batches


def is_joint(experiment: Any) -> bool:
    """Whether the rows of one call of measure depend on each other."""
    return getattr(experiment, "JOINT", False)


def _axis_values(config: Settings, axis: str) -> list[Any]:
    if axis == "seed" and not hasattr(config, "seed"):
        seeds = int(getattr(config, "seeds", 0))
        if seeds < 1:
            raise UserError(f"the number of seeds needs to be at least 1; got {seeds}")
        return list(range(seeds))
    if not hasattr(config, axis):
        raise ValueError(f"the grid's axis {axis!r} needs a list of that name in the configuration; it has none")
    values = getattr(config, axis)
    if isinstance(values, (list, tuple)) and not values:
        raise UserError(f"the axis {axis!r} of the grid needs at least one value; got an empty list")
    return list(values) if isinstance(values, (list, tuple)) else [values]


def _batches(experiment: Any, config: Settings, points: list[Point]) -> list[list[Point]]:
    """The points of each call, in the order of their first ones."""
    batched, most = getattr(experiment, "BATCHED", ("seed",)), getattr(config, "ensemble", len(points))
    batches: list[list[Point]] = []
    growing: dict[str, list[Point]] = {}
    for point in points:
        key = point_key({axis: value for axis, value in point.items() if axis not in batched})
        if key not in growing or len(growing[key]) == most:
            growing[key] = []
            batches.append(growing[key])
        growing[key].append(point)
    return batches


def _cut(batches: list[list[Point]], parts: int) -> list[list[Point]]:
    """The batches, cut into pieces of about equal size if there are fewer than parts."""
    pieces = min(-(-parts // len(batches)), max(map(len, batches)))
    if pieces == 1:
        return batches
    cut = [batch[i * len(batch) // pieces : (i + 1) * len(batch) // pieces] for batch in batches for i in range(pieces)]
    return [piece for piece in cut if piece]
