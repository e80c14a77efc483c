"""The bias of the mean kernel of deep nets by width, and its power."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from regimes.lab.intervals import LEVEL, REAL, Estimate, Interval
from regimes.lab.numbers import Number, each

if TYPE_CHECKING:
    from pandas import DataFrame

SEEN = 3.0  # a bias below this many standard errors is not seen


def biases(rows: "DataFrame", name: str, kernel: str) -> dict[int, Number]:
    """Mean bias along v by width with 95 % intervals from the standard errors over blocks of nets.

    Positive at the smallest width, by the choice of v.
    """

    def of(some: Any) -> Number:
        values = some[f"{kernel}_bias"]
        return Number.of(_normal(values.mean(skipna=False), values.sem(skipna=False), len(values)))

    return each(rows[(rows.network == "deep") & (rows.activation == name)], "width", of)


def bias_slope(found: dict[int, Number]) -> Number | None:
    """Slope of log bias against log width, weights (bias/error)².

    Residuals larger than the errors allow widen its interval; (−∞, ∞) if a bias is not seen. None without two widths.
    """
    if len(found) < 2:
        return None
    width = np.array(list(found), dtype=float)
    mean = np.array([number.value for number in found.values()])
    error = np.array([number.interval.high - number.value for number in found.values()]) / ndtri((1 + LEVEL) / 2)
    if not (mean >= SEEN * error).all():  # of one block the error is NaN
        return Number(np.nan, REAL)
    x, weight = np.log(width), (mean / error) ** 2
    centred = x - np.average(x, weights=weight)
    spread = float((weight * centred**2).sum())
    slope = float((weight * centred * np.log(mean)).sum()) / spread
    residual = np.log(mean) - np.average(np.log(mean), weights=weight) - slope * centred
    excess = float((weight * residual**2).sum()) / max(1, len(x) - 2)
    repetitions = min(number.estimate.repetitions or 1 for number in found.values())
    return Number.of(_normal(slope, float((max(1.0, excess) / spread) ** 0.5), repetitions))


def _normal(value: float, error: float, repetitions: int) -> Estimate:
    """A value with its standard error, with normal intervals."""

    def at(level: float) -> Interval:
        return Interval.around(value, float(ndtri((1 + level) / 2)) * error)

    return Estimate.of(value, at, LEVEL, repetitions)
