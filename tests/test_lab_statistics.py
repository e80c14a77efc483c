import math

import numpy as np
import pytest
from scipy import stats
from torch.testing import assert_close

from regimes.lab.intervals import CORRELATION, POSITIVE, SHARE, Interval
from regimes.lab.statistics import (
    geometric_mean_interval,
    holm,
    loglog_slope,
    mean_interval,
    median_interval,
    paired_p,
    pitman_morgan,
    share_interval,
    slope_error,
)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_slopes_over_groups_cover_where_points_of_a_group_hang_together():
    rng = np.random.default_rng(3)
    log_x, hits, naive = np.linspace(0, 3, 4), [], []
    for _ in range(300):
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


SHAPES = {  # draws of n, their mean, their range
    "shares": (lambda source, n: source.beta(40.0, 1.0, n), 40 / 41, SHARE),
    "correlations": (lambda source, n: np.tanh(0.8 + 0.5 * source.normal(size=n)), None, CORRELATION),
    "positive": (lambda source, n: source.exponential(size=n), 1.0, POSITIVE),
    "differences": (lambda source, n: source.uniform(-1.0, 1.0, n), 0.0, CORRELATION),
}


@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.slow
def test_an_interval_stays_in_the_range_of_its_number_and_covers_no_less_than_students(shape, count):
    draw, mean, within = SHAPES[shape]
    source = np.random.default_rng(5)
    mean = float(draw(source, 10**6).mean()) if mean is None else mean
    samples = [draw(source, count) for _ in range(300)]
    kept = [mean_interval(sample, within=within).interval for sample in samples]
    assert all(one.inside(within) for one in kept)
    hits, student = (
        np.mean([one.low <= mean <= one.high for one in found])
        for found in (kept, [mean_interval(sample).interval for sample in samples])
    )
    assert hits > student - 0.02
    assert hits > 0.95 - 0.025 - 5 * math.sqrt(0.95 * 0.05 / 300)  # skew costs up to 2.5 % at these sizes


def test_the_interval_of_a_correlation_is_fishers():
    values = np.array([0.2, 0.5, 0.4, 0.7])
    low, high = mean_interval(values, within=CORRELATION).interval
    half = stats.t.ppf(0.975, 3) * stats.sem(values) / (1 - values.mean() ** 2)  # derivative of atanh
    centre = math.atanh(values.mean())
    assert_close((low, high), (math.tanh(centre - half), math.tanh(centre + half)))


def test_two_differences_of_accuracies_are_no_further_apart_than_accuracies_can_be():
    found = mean_interval([-0.3, 0.1], within=CORRELATION).interval
    assert found.inside(CORRELATION)
    assert not mean_interval([-0.3, 0.1]).interval.inside(CORRELATION)


def test_values_at_an_end_of_the_range_have_no_spread():
    assert mean_interval([1.0, 1.0], within=SHARE).interval == (1.0, 1.0)
    assert mean_interval([0.0, 0.0], within=POSITIVE).interval == (0.0, 0.0)


def test_one_value_leaves_the_whole_range_open():
    assert mean_interval([0.3], within=SHARE).interval == SHARE


def test_an_interval_at_a_higher_level_is_wider():
    for found in (
        mean_interval([0.2, 0.5, 0.4], within=SHARE),
        mean_interval([0.2, 0.5, 0.4]),
        geometric_mean_interval([0.2, 0.5, 0.4]),
        share_interval(3, 10),
        loglog_slope([1.0, 2.0, 4.0], [1.0, 2.1, 4.0]),
    ):
        assert found.at(0.95) == found.interval
        assert found.interval.inside(found.at(0.995))
        assert found.interval != found.at(0.995)


def test_wilsons_interval_is_that_of_the_books():
    found = stats.binomtest(3, 10).proportion_ci(method="wilson")
    assert_close(tuple(share_interval(3, 10).interval), (float(found.low), float(found.high)))
    assert share_interval(0, 10).interval.low == 0.0
    assert share_interval(10, 10).interval.high == 1.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mean_interval([]), "one or more"),
        (lambda: mean_interval([1.0], level=95.0), "between 0 and 1"),
        (lambda: geometric_mean_interval([1.0, 0.0]), "> 0"),
        (lambda: mean_interval([1.5], within=SHARE), "expected"),
        (lambda: mean_interval([1.5], within=Interval(1.0, 0.0)), "low end"),
        (lambda: share_interval(3, 2), "hits"),
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


def test_holm_is_its_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize("lost", range(4))
def test_holm_of_the_others_is_at_least_what_it_is_whatever_the_one_that_is_not_known_was(lost):
    p = [0.01, 0.04, 0.03, 0.005]
    found = holm([math.nan if place == lost else value for place, value in enumerate(p)])
    assert math.isnan(found[lost])
    for value in np.linspace(0, 1, 401):
        known = holm([value if place == lost else each for place, each in enumerate(p)])
        assert all(found[place] >= known[place] - 1e-15 for place in range(4) if place != lost)


def test_the_paired_p_is_that_of_the_t_test():
    sample = [0.3, -0.1, 0.8, 0.4, 0.5]
    assert paired_p(sample) == pytest.approx(float(stats.ttest_1samp(sample, 0.0).pvalue))
    assert math.isnan(paired_p([1.0]))
    assert (paired_p([0.0, 0.0]), paired_p([2.0, 2.0])) == (1.0, 0.0)


def test_the_interval_of_a_median_is_the_binomial_one_of_order_statistics():
    values = [3.0, 1.0, 2.0, 10.0, 5.0, 4.0, 7.0, 6.0, 9.0, 8.0]
    found = median_interval(values)
    assert (found.value, tuple(found.interval)) == (5.5, (2.0, 9.0))  # 97.9 %; from the third to the eighth: 89.1 %
    assert tuple(found.at(0.89)) == (3.0, 8.0)
    assert tuple(median_interval(values[:5]).interval) == (-math.inf, math.inf)
    assert math.isnan(median_interval([1.0, math.nan]).interval.low)


def test_it_holds_the_median_of_a_heavy_tailed_law_as_often_as_it_says():
    draw = np.random.default_rng(0)
    intervals = [median_interval(draw.standard_cauchy(15)).interval for _ in range(400)]
    held = [interval.low <= 0 <= interval.high for interval in intervals]
    assert np.mean(held) > 0.95 - 5 * math.sqrt(0.05 * 0.95 / 400)


def test_equal_variances_of_pairs_are_rejected_as_often_as_the_level_says_and_unequal_ones_more_often():
    draw = np.random.default_rng(0)
    common = draw.normal(size=(400, 12))
    same, other = (common + draw.normal(size=common.shape) for _ in range(2))
    p = np.array([pitman_morgan(x, y)[1] for x, y in zip(same, other, strict=True)])
    assert abs((p < 0.05).mean() - 0.05) < 5 * math.sqrt(0.05 * 0.95 / 400)
    wide = np.array([pitman_morgan(x, 3 * y) for x, y in zip(same, other, strict=True)])
    assert (wide[:, 1] < 0.05).mean() > 0.5
    assert np.median(wide[:, 0]) == pytest.approx(1 / 3, rel=0.2)
    assert pitman_morgan([1.0, 2.0, 4.0], [2.0, 3.0, 5.0]) == (pytest.approx(1.0), 1.0)
    assert all(math.isnan(value) for value in pitman_morgan([1.0, 2.0], [2.0, 1.0]))
