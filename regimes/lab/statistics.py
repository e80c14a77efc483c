"""Means, geometric means, shares and log-log slopes, each with confidence intervals that keep to its range."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, expit, logit, stdtr, stdtrit

from regimes.lab.intervals import LEVEL, REAL, Estimate, Interval

Mean = Slope = Estimate


def mean_interval(values: ArrayLike, level: float = LEVEL, *, within: Interval = REAL) -> Estimate:
    """Arithmetic mean x̄ with an interval inside the range `within` that the values have by their nature.

    Whole line: Student's x̄ ± t s/√n, t of n−1 degrees of freedom, s² with the factor 1/(n−1). [a, b]: the same on the
    scale g(x) = logit((x−a)/(b−a)), that is g⁻¹(g(x̄) ± t g′(x̄) s/√n); this is Fisher's z for correlations in [−1, 1].
    [a, ∞): on g(x) = log(x−a). Error O(1/n) relative to Student's interval (delta method); it never leaves the range.
    A mean at an end of the range, where all values are, has no spread: its interval is that point.
    One value alone gives the whole range; NaN among the values gives NaN.
    """
    sample = _sample("mean_interval", values)
    _check_level(level)
    low, high = within
    if not low < high or (low == -np.inf and high != np.inf):
        raise ValueError(f"a range needs a low end below the high one, and a finite low end; got {tuple(within)}")
    if (sample < low).any() or (sample > high).any():
        raise ValueError(f"values in {tuple(within)} were expected; got {sample[(sample < low) | (sample > high)][0]}")
    mean = float(sample.mean())
    with np.errstate(invalid="ignore"):  # infinite values give NaN ends
        error = float(sample.std(ddof=1) / np.sqrt(sample.size)) if sample.size > 1 else np.nan

    def at(level: float) -> Interval:
        _check_level(level)
        if sample.size == 1:
            return within
        half = _quantile(sample.size - 1, level) * error
        if within == REAL:
            return Interval(mean - half, mean + half)
        return _bounded(mean, half, low, high)

    return Estimate.of(mean, at, level, sample.size)


def _bounded(mean: float, half: float, low: float, high: float) -> Interval:
    """The interval mean ± half of the transformed mean, carried back; see `mean_interval`."""
    if not half > 0:
        return Interval(mean + half, mean + half)  # NaN stays NaN
    with np.errstate(over="ignore"):
        if high == np.inf:
            centre, width = np.log(mean - low), half / (mean - low)
            ends = [low + float(np.exp(centre + side * width)) for side in (-1, 1)]
        else:
            share = (mean - low) / (high - low)
            centre, width = logit(share), half / (high - low) / (share * (1 - share))
            ends = [low + (high - low) * float(expit(centre + side * width)) for side in (-1, 1)]
    return Interval(*ends)


def geometric_mean_interval(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """Geometric mean exp(mean log x) with the exponential of Student's interval for mean log x; needs values > 0."""
    sample = _positive("geometric_mean_interval", _sample("geometric_mean_interval", values))
    logs = mean_interval(np.log(sample), level)

    def at(level: float) -> Interval:
        with np.errstate(over="ignore"):
            low, high = np.exp(logs.at(level))
        return Interval(float(low), float(high))

    return Estimate.of(float(np.exp(logs.value)), at, level, sample.size, "geometric mean")


def median_interval(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """Median with the interval [x_(k), x_(n+1−k)] of order statistics, whatever the law of the values.

    k is the largest with P(B < k) ≤ (1 − level)/2, B binomial of n and ½: at least that level. No such k (up to five
    values at 95 %): the interval (−∞, ∞). NaN among the values gives NaN.
    """
    sample = np.sort(_sample("median_interval", values))

    def at(level: float) -> Interval:
        _check_level(level)
        if np.isnan(sample).any():
            return Interval(np.nan, np.nan)
        k = int((bdtr(np.arange(sample.size), sample.size, 0.5) <= (1 - level) / 2).sum())
        return Interval(float(sample[k - 1]), float(sample[-k])) if k else REAL

    return Estimate.of(float(np.median(sample)), at, level, sample.size, "median")


def share_interval(hits: float | int, trials: int, level: float = LEVEL) -> Estimate:
    """Share of hits among independent trials, with Wilson's score interval; it stays inside [0, 1].

    Centre (p + z²/2n)/(1 + z²/n), half width z √(p(1−p)/n + z²/4n²)/(1 + z²/n), z the normal quantile.
    A trial may be a share itself, of tries that hang together, and hits the sum of these: numbers in [0, 1] of mean p
    have the variance p(1−p) at most, that of a single try. So the interval covers no less then, and often more.
    """
    if not 0 <= hits <= trials or trials < 1:
        raise ValueError(f"share_interval needs 0 ≤ hits ≤ trials and a trial; got {hits} of {trials}")
    share = hits / trials

    def at(level: float) -> Interval:
        _check_level(level)
        square = float(stdtrit(np.inf, (1 + level) / 2)) ** 2 / trials
        half = float(np.sqrt(square * share * (1 - share) + square**2 / 4)) / (1 + square)
        centre = (share + square / 2) / (1 + square)
        return Interval(0.0 if hits == 0 else centre - half, 1.0 if hits == trials else centre + half)

    return Estimate.of(share, at, level, trials)


def loglog_slope(
    x: ArrayLike, y: ArrayLike, groups: Iterable[Hashable] | None = None, level: float = LEVEL
) -> Estimate:
    """Least-squares slope of log y against log x, with its interval.

    With groups (seeds, say): one slope a group, their mean, Student's interval over the groups; valid however the
    points of a group depend on each other. Without: one fit to independent points, with the slope's variance
    Σ residual² / (n−2) / Σ (log x − mean)².
    One group, or two points, give the interval (−∞, ∞).
    """
    log_x = np.log(_positive("loglog_slope", _sample("loglog_slope", x)))
    log_y = np.log(_positive("loglog_slope", _sample("loglog_slope", y)))
    if log_x.size != log_y.size:
        raise ValueError(f"loglog_slope needs x and y of one length; got {log_x.size} and {log_y.size}")
    _check_level(level)
    if groups is None:
        return _fit(log_x, log_y, level)
    labels = list(groups)
    if len(labels) != log_x.size:
        raise ValueError(f"loglog_slope needs one group a point; got {len(labels)} groups, {log_x.size} points")
    members = {label: [i for i, other in enumerate(labels) if other == label] for label in dict.fromkeys(labels)}
    return mean_interval([_fit(log_x[index], log_y[index], level).value for index in members.values()], level)


def slope_error(x: ArrayLike, y: ArrayLike, error: ArrayLike, groups: Iterable[Hashable] | None = None) -> float:
    """How far `loglog_slope` can be off when each y is off by at most its error, to first order in error/y.

    Mean over groups of Σ_i |c_i| error_i/y_i; the slope is Σ_i c_i log y_i with c = (log x − mean)/Σ (log x − mean)².
    """
    log_x = np.log(_positive("slope_error", _sample("slope_error", x)))
    values, errors = _positive("slope_error", _sample("slope_error", y)), _sample("slope_error", error)
    labels = [0] * log_x.size if groups is None else list(groups)
    sizes = (log_x.size, values.size, errors.size, len(labels))
    if len(set(sizes)) > 1:
        raise ValueError(f"slope_error needs one x, y, error and group a point; got {', '.join(map(str, sizes))}")
    share = errors / values
    moved = []
    for label in dict.fromkeys(labels):
        index = [i for i, other in enumerate(labels) if other == label]
        centred = log_x[index] - log_x[index].mean()
        moved.append(float((np.abs(centred) * np.abs(share[index])).sum() / (centred**2).sum()))
    return float(np.mean(moved))


def _fit(log_x: np.ndarray, log_y: np.ndarray, level: float) -> Estimate:
    centred = log_x - log_x.mean()
    spread = float((centred**2).sum())
    if spread == 0:
        raise ValueError(f"loglog_slope needs at least two different x (in every group); got x = {np.exp(log_x)}")
    slope = float((centred * log_y).sum() / spread)
    freedom = log_x.size - 2
    residual = log_y - log_y.mean() - slope * centred
    error = float(np.sqrt((residual**2).sum() / freedom / spread)) if freedom else np.nan

    def at(level: float) -> Interval:
        return Interval.around(slope, _quantile(freedom, level) * error) if freedom else REAL

    return Estimate.of(slope, at, level, log_x.size)


def _quantile(freedom: int, level: float) -> float:
    return float(stdtrit(freedom, (1 + level) / 2))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level needs to lie between 0 and 1; got {level}. Pass 0.95 for 95 %")


def _sample(caller: str, values: ArrayLike) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"{caller} needs a list of one or more numbers; got shape {sample.shape}")
    return sample


def _positive(caller: str, sample: np.ndarray) -> np.ndarray:
    if (sample <= 0).any():
        raise ValueError(f"{caller} needs values > 0, because it takes logarithms; got {sample[sample <= 0][0]}")
    return sample


def paired_p(differences: ArrayLike) -> float:
    """Two-sided p of Student's t-test that paired differences have mean 0; NaN of one alone.

    Differences that are all the same number have no spread: p is 1 where that is 0, else 0.
    """
    sample = _sample("paired_p", differences)
    if sample.size < 2:
        return float("nan")
    error = float(sample.std(ddof=1) / np.sqrt(sample.size))
    mean = abs(float(sample.mean()))
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(sample.size - 1, -mean / error))


def pitman_morgan(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Standard deviation of the first over that of the second, of pairs, and the two-sided p that both are equal.

    Var x = Var y if and only if x + y and x − y are uncorrelated: Student's t with n − 2 degrees of freedom of their
    correlation r, t = r √((n − 2)/(1 − r²)). NaN of fewer than three pairs or where one of the two does not vary.
    Source: [Pitman1939].
    """
    x, y = _sample("pitman_morgan", first), _sample("pitman_morgan", second)
    if x.size != y.size:
        raise ValueError(f"pitman_morgan needs pairs; got {x.size} and {y.size} values")
    nothing = float("nan")
    if x.size < 3 or x.std() == 0 or y.std() == 0:
        return nothing, nothing
    total, difference = x + y, x - y
    ratio = float(x.std() / y.std())
    if total.std() == 0 or difference.std() == 0:  # x = ±y up to a constant: equal variances
        return ratio, 1.0
    r = float(np.corrcoef(total, difference)[0, 1])
    if abs(r) >= 1:
        return ratio, 0.0
    return ratio, float(2 * stdtr(x.size - 2, -abs(r) * np.sqrt((x.size - 2) / (1 - r * r))))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's p of each of m tests: in ascending order p_(i) becomes the largest of min(1, (m − j + 1) p_(j)), j ≤ i.

    Below a level, these reject no true hypothesis with at least one minus that probability, however the tests depend
    on each other. What is not known (NaN) stays so and counts among the m: the others are the largest that
    they can be, whatever it was. Source: [Holm1979].
    """
    known = sorted((value, place) for place, value in enumerate(p) if value == value)
    found, least = [float("nan")] * len(p), 0.0
    for number, (value, place) in enumerate(known):
        least = max(least, min(1.0, (len(p) - number) * value))
        found[place] = least
    return found
