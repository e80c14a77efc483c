"""Arms of the circles against each other, paired by seed, and what the cheapest right map would have."""

import math
import operator
from typing import Any

import torch

from regimes.experiments.least_action.circles.outcome import cheapest_map, lost_covariance
from regimes.lab import numbers
from regimes.lab.numbers import Number
from regimes.lab.report import Interval
from regimes.transport.pairing import exact_gap


def ratio(runs: Any, above: str, below: str, column: str = "transport") -> Number | None:
    """One arm over another: geometric mean over the seeds."""
    return numbers.geometric_mean(_both(runs, above, below, column, operator.truediv))


def difference(runs: Any, arm: str, other: str, column: str, most: float = 1.0) -> Number | None:
    """One arm less another, of a number from 0 to `most`: mean over the seeds."""
    return numbers.mean(_both(runs, arm, other, column, operator.sub), within=Interval(-most, most))


def cheapest(rows: Any) -> dict[str, float]:
    """Gaps of the cheapest right map, on the input cloud that was kept for the figure."""
    inputs = rows[(rows.kind == "cloud") & (rows.block == 0)] if "block" in rows else rows[:0]
    if len(inputs) == 0:
        return {}
    first = inputs[(inputs.seed == inputs.seed.min()) & (inputs.arm == inputs.arm.iloc[0])]
    x = torch.tensor(first[["x", "y"]].to_numpy(dtype=float))
    goal = cheapest_map(x, torch.tensor(first.label.to_numpy(dtype=int)))
    gap = exact_gap(x, goal)
    return {
        "relative OT gap of the cheapest right map": math.nan if gap.relative_gap is None else gap.relative_gap,
        "share of covariance lost by the cheapest right map": lost_covariance(x, goal, gap.gap),
    }


def _both(runs: Any, above: str, below: str, column: str, combine: Any) -> Any:
    """combine(above, below) by seed, for each that has both; what is not known in one of them stays so."""
    first, second = (runs[runs.arm == arm].set_index("seed")[column].astype(float) for arm in (above, below))
    first, second = first.align(second, join="inner")
    return combine(first, second).to_numpy()
