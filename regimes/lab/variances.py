"""The ratio of two variances of paired values, with its interval."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from regimes.lab.intervals import LEVEL, POSITIVE, Estimate, Interval

FEWEST, RESAMPLES = 3, 4000


def variance_ratio(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Estimate:
    """w = Var x/Var y of pairs, with the interval of all ratios that the test of Pitman and Morgan does not reject.

    Its ends are w (K ± √(K² − 1)), K = 1 + 2 (1 − r²) t²/(n − 2): r the correlation of x and y, t Student's quantile
    with n − 2 degrees of freedom. Exact for pairs of a normal law; with heavier tails it is too short. Fewer than three
    pairs give the whole range; NaN where one of the two does not vary.
    Source: [Pitman1939].
    """
    x, y = _pairs("variance_ratio", first, second)
    if min(np.ptp(x), np.ptp(y)) == 0:
        return Estimate(np.nan, Interval(np.nan, np.nan))
    ratio, r, free = float(x.var() / y.var()), float(np.corrcoef(x, y)[0, 1]), x.size - 2

    def at(level: float) -> Interval:
        if free < 1:
            return POSITIVE
        k = 1 + 2 * max(0.0, 1 - r * r) * float(stdtrit(free, (1 + level) / 2)) ** 2 / free
        wide = float(np.sqrt(k * k - 1))
        return Interval(ratio * (k - wide), ratio * (k + wide))

    return Estimate.of(ratio, at, level, x.size, "ratio of variances")


def resampled_variance_ratio(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Estimate:
    """The same ratio with quantiles of it over pairs drawn anew with repetition: for laws that are not normal."""
    x, y = _pairs("resampled_variance_ratio", first, second)
    draws = np.random.default_rng(0).integers(x.size, size=(RESAMPLES, x.size))
    with np.errstate(divide="ignore", invalid="ignore"):
        found, ratio = x[draws].var(1) / y[draws].var(1), float(x.var() / y.var())

    def at(level: float) -> Interval:
        if x.size < FEWEST or not np.isfinite(found).any():
            return POSITIVE
        low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))

    return Estimate.of(ratio, at, level, x.size, "ratio of variances")


def _pairs(caller: str, first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(first, dtype=float).ravel(), np.asarray(second, dtype=float).ravel()
    if x.size != y.size or x.size < 2:
        raise ValueError(f"{caller} needs two pairs or more; got {x.size} and {y.size} values")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{caller} needs finite values; got some that are not")
    return x, y
