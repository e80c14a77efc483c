"""Intervals by resampling over two crossed things at once, such as hand-picked settings and seeds."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int

from regimes.lab.intervals import LEVEL, REAL, Estimate, Interval

RESAMPLES, FEWEST = 4000, 3
Crossed = Float[np.ndarray, "*draws seeds settings"]


def two_way(
    statistic: Callable[..., Float[np.ndarray, "*draws"]],
    *tables: Float[np.ndarray, "seeds settings"],
    kinds: Sequence[Hashable] | None = None,
    within: Interval = REAL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A number of crossed tables, one row a seed and one column a setting, with an interval over both.

    Rows and columns are drawn anew with repetition, independently, the same for all tables (the two-way, or pigeonhole,
    bootstrap of Owen, 2007); the ends of the interval at a level are quantiles of the statistic over the draws. Such
    an interval is wider than one over the seeds alone: settings that were picked by hand are a sample, too.
    kinds: a label for each column. Settings of one kind, such as gains of one law, are alike, and many of them say
    little of other kinds: kinds are drawn then, each with all its columns. Without it every column is of its own kind.
    Fewer than 3 rows or kinds give the range `within`. statistic: (draws, seeds, settings) of each table → one number a
    draw; draws of few columns are filled up with NaN, which it has to leave out. Draws in which it is not defined (NaN)
    are left out.
    """
    rows, columns = tables[0].shape
    value = float(np.asarray(statistic(*(table[None] for table in tables)))[0])
    blocks = _blocks(range(columns) if kinds is None else kinds)
    draw = np.random.default_rng(0)
    seeds = draw.integers(rows, size=(resamples, rows))
    settings = blocks[draw.integers(len(blocks), size=(resamples, len(blocks)))].reshape(resamples, -1)
    filled = (np.pad(table, ((0, 0), (0, 1)), constant_values=np.nan) for table in tables)  # column −1 is NaN
    found = np.asarray(statistic(*(table[seeds[:, :, None], settings[:, None, :]] for table in filled)))

    def at(level: float) -> Interval:
        if min(rows, len(blocks)) < FEWEST or not np.isfinite(found).any():
            return within
        low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))

    return Estimate.of(value, at, LEVEL, rows)


def _blocks(kinds: Sequence[Hashable]) -> Int[np.ndarray, "kinds most"]:
    """The columns of each kind, a row a kind, filled up with −1."""
    of: dict[Hashable, list[int]] = {}
    for column, kind in enumerate(kinds):
        of.setdefault(kind, []).append(column)
    most = max(map(len, of.values()))
    return np.array([columns + [-1] * (most - len(columns)) for columns in of.values()])
