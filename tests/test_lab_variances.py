import math

import numpy as np
import pytest

from regimes.lab.statistics import pitman_morgan
from regimes.lab.variances import resampled_variance_ratio, variance_ratio


def pairs(n, ratio=1.0, correlation=0.6, seed=0, runs=()):
    draw = np.random.default_rng(seed).standard_normal((2, *runs, n))
    return np.sqrt(ratio) * (correlation * draw[0] + math.sqrt(1 - correlation**2) * draw[1]), draw[0]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_ends_are_where_pitman_and_morgan_just_reject(level):
    x, y = pairs(12, ratio=0.4)
    found = variance_ratio(x, y)
    assert found.value == pytest.approx(x.var(ddof=1) / y.var(ddof=1))
    for end in found.at(level):
        assert pitman_morgan(x, math.sqrt(end) * y)[1] == pytest.approx(1 - level)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    both = zip(*pairs(15, ratio=0.5, runs=(400,)), strict=True)
    hits = sum(found.low <= 0.5 <= found.high for found in (variance_ratio(x, y).interval for x, y in both))
    assert abs(hits - 380) <= 5 * math.sqrt(400 * 0.95 * 0.05)


def test_the_ratio_is_turned_upside_down_with_its_pairs():
    x, y = pairs(9, ratio=3.0)
    there, back = variance_ratio(x, y), variance_ratio(y, x)
    assert there.interval == pytest.approx((1 / back.interval.high, 1 / back.interval.low))


def test_resampling_agrees_where_the_law_is_normal_and_is_wider_with_heavy_tails():
    x, y = pairs(200, ratio=0.5)
    assert np.log(resampled_variance_ratio(x, y).interval) == pytest.approx(
        np.log(variance_ratio(x, y).interval), abs=0.15
    )
    heavy = np.random.default_rng(1).standard_t(3, (2, 200))
    assert np.diff(np.log(resampled_variance_ratio(*heavy).interval)) > 1.3 * np.diff(
        np.log(variance_ratio(*heavy).interval)
    )


def test_what_does_not_vary_has_no_ratio_and_two_pairs_have_no_interval():
    assert math.isnan(variance_ratio([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).value)
    assert variance_ratio([1.0, 2.0], [1.0, 3.0]).interval == (0.0, math.inf)
    with pytest.raises(ValueError, match="two pairs or more; got 3 and 2"):
        variance_ratio([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        variance_ratio([1.0, math.nan], [1.0, 2.0])
