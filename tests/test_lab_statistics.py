import math

import numpy as np
import pytest
from scipy import stats
from torch.testing import assert_close

from regimes.lab.report import Interval
from regimes.lab.statistics import geometric_mean_interval, loglog_slope, mean_interval, slope_error


def test_the_interval_of_1_2_3_is_that_of_the_tables():
    mean, interval = mean_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # Student's 97.5 % quantile with 2 degrees of freedom
    assert mean == 2.0
    assert_close(tuple(interval), (2 - half, 2 + half))


def test_the_interval_agrees_with_scipy_at_another_level():
    values = np.random.default_rng(1).normal(size=7)
    expected = stats.t.interval(0.8, 6, loc=values.mean(), scale=stats.sem(values))
    assert_close(tuple(mean_interval(values, level=0.8).interval), tuple(map(float, expected)))


def covered(hits: list[bool], level: float) -> bool:
    """Whether the share of hits is within five standard errors of the level."""
    return abs(np.mean(hits) - level) < 5 * math.sqrt(level * (1 - level) / len(hits))


def test_mean_intervals_cover_the_mean_as_often_as_they_say():
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 5))
    intervals = [mean_interval(sample, level=0.9).interval for sample in samples]
    assert covered([low <= 3.0 <= high for low, high in intervals], 0.9)


def test_one_value_says_nothing_about_the_spread():
    assert mean_interval([5.0]) == (5.0, Interval(-math.inf, math.inf))


def test_an_undefined_value_makes_the_interval_undefined():
    for bad in (math.nan, math.inf):
        assert all(math.isnan(end) for end in mean_interval([1.0, bad]).interval)


def test_a_geometric_mean_is_the_exponential_of_the_mean_logarithm():
    mean, (low, high) = geometric_mean_interval([1.0, 10.0, 100.0])
    logs = mean_interval(np.log([1.0, 10.0, 100.0]))
    assert_close(mean, 10.0)
    assert_close((math.log(low), math.log(high)), tuple(logs.interval))


def test_a_power_law_has_its_exponent_as_slope():
    x = np.array([1.0, 3.0, 10.0, 70.0])
    slope = loglog_slope(x, 7 * x**-1.5)
    assert_close(slope.value, -1.5)
    assert_close(tuple(slope.interval), (-1.5, -1.5), atol=1e-7, rtol=0)  # round-off under a square root


def test_one_fit_agrees_with_scipy():
    rng = np.random.default_rng(2)
    x = np.geomspace(1, 100, 9)
    y = x**2 * np.exp(0.3 * rng.normal(size=9))
    fit = stats.linregress(np.log(x), np.log(y))
    half = stats.t.ppf(0.975, 7) * fit.stderr
    slope = loglog_slope(x, y)
    assert_close((slope.value, *slope.interval), tuple(map(float, (fit.slope, fit.slope - half, fit.slope + half))))


def test_slopes_over_groups_are_one_a_group():
    x = np.tile([1.0, 10.0], 3)
    y = np.concatenate([[1.0, 10.0**s] for s in (1.0, 2.0, 3.0)])
    slope = loglog_slope(x, y, groups=["a", "a", "b", "b", "c", "c"])
    assert_close((slope.value, *slope.interval), (2.0, *mean_interval([1.0, 2.0, 3.0]).interval))


def test_slopes_over_groups_cover_where_points_of_a_group_hang_together():
    rng = np.random.default_rng(3)
    log_x, hits, naive = np.linspace(0, 3, 4), [], []
    for _ in range(1500):
        own = rng.normal(1.0, 0.2, size=(6, 1))  # each group has a slope of its own
        y = np.exp(own * log_x)
        x, groups = np.exp(np.tile(log_x, 6)), np.repeat(np.arange(6), 4)
        low, high = loglog_slope(x, y.ravel(), groups).interval
        hits.append(low <= 1.0 <= high)
        low, high = loglog_slope(x, y.ravel()).interval
        naive.append(low <= 1.0 <= high)
    assert covered(hits, 0.95)
    assert not covered(naive, 0.95)  # taking the points for independent is overconfident


def test_two_points_and_one_group_leave_the_slope_open():
    everything = Interval(-math.inf, math.inf)
    assert loglog_slope([1, 10], [1, 100]).interval == everything
    assert loglog_slope([1, 10, 100], [1, 100, 1000], groups=[0, 0, 0]).interval == everything


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mean_interval([]), "one or more"),
        (lambda: mean_interval([1.0], level=95.0), "between 0 and 1"),
        (lambda: geometric_mean_interval([1.0, 0.0]), "> 0"),
        (lambda: loglog_slope([1.0, -2.0], [1.0, 1.0]), "> 0"),
        (lambda: loglog_slope([1.0, 1.0], [1.0, 2.0]), "two different x"),
        (lambda: loglog_slope([1.0, 2.0], [1.0]), "one length"),
        (lambda: loglog_slope([1.0, 2.0], [1.0, 2.0], groups=[0]), "one group a point"),
    ],
)
def test_unusable_input_says_what_is_needed(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_the_error_of_a_slope_bounds_how_far_it_moves():
    rng = np.random.default_rng(4)
    x, groups = np.tile(np.geomspace(1, 50, 5), 3), np.repeat(np.arange(3), 5)
    y = x**-1.0 * np.exp(0.1 * rng.normal(size=15))
    error = 1e-6 * y * rng.uniform(size=15)
    bound, slope = slope_error(x, y, error, groups), loglog_slope(x, y, groups).value
    moved = [loglog_slope(x, y + rng.choice([-1, 1], size=15) * error, groups).value - slope for _ in range(200)]
    assert max(map(abs, moved)) <= bound * (1 + 1e-5)  # first order in error/y
    worst = y + np.sign(np.log(x) - np.log(x).mean()) * error
    assert_close(loglog_slope(x, worst, groups).value - slope, bound, rtol=1e-4, atol=0)  # difference of near numbers


def test_the_error_of_a_slope_needs_one_value_a_point():
    with pytest.raises(ValueError, match="a point"):
        slope_error([1.0, 2.0], [1.0, 1.0], [0.1])
