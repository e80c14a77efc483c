"""How a measure moves with the weight: its order over the weights, and the largest weight that keeps the task."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from regimes.lab.report import Interval
from regimes.lab.statistics import Mean, geometric_mean_interval, mean_interval

if TYPE_CHECKING:
    from pandas import DataFrame

RESOLUTION = 1e-9  # relative gap below which the certificate does not tell from 0
KEPT = 0.05  # loss of accuracy against weight 0 up to which the task counts as kept

UNKNOWN = Mean(float("nan"), Interval(-np.inf, np.inf))  # of no seeds


def floored(gap: Any) -> Any:
    """Gaps with everything below the resolution of the certificate put there."""
    return np.maximum(gap, RESOLUTION)


def spearman(x: Any, y: Any) -> float:
    """Correlation of the ranks, ties at their mean rank; 0 where all ranks of one side are equal."""
    a, b = (rankdata(side) - (len(side) + 1) / 2 for side in (x, y))
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def order(some: "DataFrame", column: str) -> Mean:
    """Spearman correlation of weight and column in each seed; mean and Student interval over the seeds."""
    found = [spearman(one.weight, floored(one[column])) for _, one in some.groupby("seed")]
    return mean_interval(found) if found else UNKNOWN


def with_first_gap(ends: Any) -> Any:
    """The table with a further column: the gap of the same problem and seed at weight 0."""
    first = ends[ends.weight == 0].set_index(["problem", "seed"]).gap.rename("first_gap")
    return ends.join(first, on=["problem", "seed"])


def gap_ratio(some: Any, weight: float) -> Mean:
    """Gap at that weight over the one at weight 0, both at least the resolution: geometric mean over the seeds."""
    there = some[some.weight == weight]
    return geometric_mean_interval(floored(there.gap) / floored(there.first_gap)) if len(there) else UNKNOWN


def usable(some: "DataFrame") -> Any:
    """Rows of the largest weight with mean accuracy at most 0.05 below that of weight 0, else of the least above 0."""
    accuracy: Any = some.groupby("weight").accuracy.mean()
    paid = accuracy[accuracy.index > 0]
    kept = paid[paid >= accuracy.loc[0.0] - KEPT]
    return some[some.weight == (kept.index.max() if len(kept) else paid.index.min())]
