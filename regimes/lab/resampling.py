"""Intervals by resampling over two crossed things at once, such as hand-picked settings and seeds."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from regimes.lab.intervals import LEVEL, REAL, Estimate, Interval

RESAMPLES, FEWEST = 4000, 3
Crossed = Float[np.ndarray, "*draws seeds settings"]


def two_way(
    statistic: Callable[..., Float[np.ndarray, "*draws"]],
    *tables: Float[np.ndarray, "seeds settings"],
    within: Interval = REAL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A number of crossed tables, one row a seed and one column a setting, with an interval over both.

    Rows and columns are drawn anew with repetition, independently, the same for all tables (the two-way, or pigeonhole,
    bootstrap of Owen, 2007); the ends of the interval at a level are quantiles of the statistic over the draws. Such
    an interval is wider than one over the seeds alone: settings that were picked by hand are a sample, too. Fewer than
    3 rows or columns give the range `within`. statistic: (draws, seeds, settings) of each table → one number a draw.
    Draws in which it is not defined (NaN) are left out.
    """
    rows, columns = tables[0].shape
    value = float(np.asarray(statistic(*(table[None] for table in tables)))[0])
    draw = np.random.default_rng(0)
    seeds, settings = draw.integers(rows, size=(resamples, rows)), draw.integers(columns, size=(resamples, columns))
    found = np.asarray(statistic(*(table[seeds[:, :, None], settings[:, None, :]] for table in tables)))

    def at(level: float) -> Interval:
        if min(rows, columns) < FEWEST or not np.isfinite(found).any():
            return within
        low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))

    return Estimate.of(value, at, LEVEL, rows)
