"""Means, geometric means and log-log slopes, each with its confidence interval."""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from regimes.lab.report import Interval


class Mean(NamedTuple):
    """A mean and its confidence interval."""

    value: float
    interval: Interval


class Slope(NamedTuple):
    """A slope and its confidence interval."""

    value: float
    interval: Interval


def mean_interval(values: ArrayLike, level: float = 0.95) -> Mean:
    """Arithmetic mean x̄ with Student's interval x̄ ± t_{n−1} s/√n, s² with the factor 1/(n−1).

    One value alone gives the interval (−∞, ∞); NaN among the values gives NaN.
    """
    sample = _sample("mean_interval", values)
    _check_level(level)
    mean = float(sample.mean())
    if sample.size == 1:
        return Mean(mean, Interval(-np.inf, np.inf))
    with np.errstate(invalid="ignore"):  # infinite values give NaN ends
        half = _quantile(sample.size - 1, level) * float(sample.std(ddof=1) / np.sqrt(sample.size))
    return Mean(mean, Interval(mean - half, mean + half))


def geometric_mean_interval(values: ArrayLike, level: float = 0.95) -> Mean:
    """Geometric mean exp(mean log x) with the exponential of Student's interval for mean log x; needs values > 0."""
    sample = _positive("geometric_mean_interval", _sample("geometric_mean_interval", values))
    mean, interval = mean_interval(np.log(sample), level)
    with np.errstate(over="ignore"):
        low, high = np.exp(interval)
    return Mean(float(np.exp(mean)), Interval(float(low), float(high)))


def loglog_slope(x: ArrayLike, y: ArrayLike, groups: Iterable[Hashable] | None = None, level: float = 0.95) -> Slope:
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
    slopes = [_fit(log_x[index], log_y[index], level).value for index in members.values()]
    mean, interval = mean_interval(slopes, level)
    return Slope(mean, interval)


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


def _fit(log_x: np.ndarray, log_y: np.ndarray, level: float) -> Slope:
    centred = log_x - log_x.mean()
    spread = float((centred**2).sum())
    if not spread > 0:
        raise ValueError(f"loglog_slope needs at least two different x (in every group); got x = {np.exp(log_x)}")
    slope = float((centred * log_y).sum() / spread)
    if log_x.size == 2:
        return Slope(slope, Interval(-np.inf, np.inf))
    residual = log_y - log_y.mean() - slope * centred
    error = float(np.sqrt((residual**2).sum() / (log_x.size - 2) / spread))
    half = _quantile(log_x.size - 2, level) * error
    return Slope(slope, Interval(slope - half, slope + half))


def _quantile(freedom: int, level: float) -> float:
    return float(stdtrit(freedom, (1 + level) / 2))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level needs to lie between 0 and 1; got {level}")


def _sample(caller: str, values: ArrayLike) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"{caller} needs a list of one or more numbers; got shape {sample.shape}")
    return sample


def _positive(caller: str, sample: np.ndarray) -> np.ndarray:
    if (sample <= 0).any():
        raise ValueError(f"{caller} needs values > 0, because it takes logarithms; got {sample[sample <= 0][0]}")
    return sample
