"""Losses by scale τ, and what is compared of them: verdict, table and figure share these numbers."""

import math
from typing import TYPE_CHECKING, Any

from regimes.lab.intervals import POSITIVE, Interval
from regimes.lab.numbers import Number, at_lowest, by_seed, each, mean, means, paired

if TYPE_CHECKING:
    from pandas import DataFrame

LAZY = 1.99  # scales τ from here on (10^0.3 is the first) are called lazy
SMALL = 0.02  # and up to here small: the published ones begin at 10^-2.2 and at 0.01
PUBLISHED_END, PUBLISHED_BEST, PUBLISHED_UNIT = 3.7e-3, 2.06e-3, 7.5e-3  # of the first version, as predicted
FINAL_END = 3.10e-3  # of the final version
LINEAR_SHARE = (1 - 2 / math.pi) / 2  # of m0/(4d): what the best linear function plus a constant leaves


def losses(rows: "DataFrame", setting: str, column: str = "test_end") -> dict[float, Number]:
    """1000 × loss by scale: means over trials with intervals that stay positive."""
    some = _of(rows, setting)
    if column not in some or some[column].isna().all():
        return {}
    return each(some, "tau", lambda at: mean(1000 * at[column], within=POSITIVE))


def lazy(rows: "DataFrame", setting: str, column: str) -> Any:
    """Mean of a column over the lazy scales of each trial."""
    some = _of(rows, setting)
    return by_seed(some[some.tau >= LAZY], column)


def best_scale(rows: "DataFrame", setting: str) -> float | None:
    """The scale whose test loss at the end is least in the mean of all trials; NaN where one loss is not known."""
    found = means(_of(rows, setting).groupby("tau").test_end)
    if found.isna().any():
        return math.nan
    return float(found.idxmin()) if len(found) else None


def gain(rows: "DataFrame", setting: str) -> Any:
    """In each trial: mean loss of the lazy scales over the loss at the best scale; none without a small scale."""
    if at_lowest(_of(rows, setting), "tau", SMALL).empty:
        return _of(rows, setting).test_end[:0]
    some, above, scale = _of(rows, setting), lazy(rows, setting, "test_end"), best_scale(rows, setting)
    if scale is not None and math.isnan(scale):
        return above * math.nan
    best = some[some.tau == scale].set_index("seed").test_end
    return paired(above, best, lambda above, below: above / below)


def notes(rows: "DataFrame", end: Number | None, best: Number | None) -> tuple[str, ...]:
    """Published plateaus outside the measured intervals, and best scales at the end of the grid."""
    plateaus = (("end of training", end, FINAL_END), ("best along training", best, PUBLISHED_BEST))
    told = [
        f"The published plateau, {1000 * value:g} ({name}), lies outside the measured interval."
        for name, number, value in plateaus
        if number is not None and not Interval(value / PUBLISHED_UNIT, value / PUBLISHED_UNIT).inside(number.interval)
    ]
    for setting in dict.fromkeys(rows.setting):
        if (scale := best_scale(rows, setting)) == _of(rows, setting).tau.min():
            words = setting.replace("_", " ")
            told.append(
                f"The best τ, {words}, is the smallest measured, {scale:.2g}: the ratio to it depends on the grid."
            )
    return tuple(told)


def _of(rows: "DataFrame", setting: str) -> Any:
    return rows[rows.setting == setting]
