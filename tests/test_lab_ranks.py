"""Rank correlations of orders that are known."""

import math

import pytest

from regimes.lab.ranks import rank_correlation


@pytest.mark.parametrize(("x", "y", "expected"), [
    ([1, 2, 3, 4], [1, 8, 27, 64], 1.0),
    ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
    ([1, 2, 3], [2, 1, 3], 0.5),  # 1 − 6 Σd²/(n(n² − 1)), Σd² = 2
    ([1, 2, 2, 3], [1, 2, 2, 3], 1.0),
    ([1, 2, math.inf], [3, 2, 1], -1.0),
])  # fmt: skip
def test_rank_correlation_of_known_orders(x, y, expected):
    assert rank_correlation(x, y) == pytest.approx(expected)


def test_rank_correlation_with_a_constant_is_undefined():
    assert math.isnan(rank_correlation([1, 2, 3], [5, 5, 5]))


def test_a_rank_correlation_of_which_one_value_is_not_known_is_not_known():
    assert math.isnan(rank_correlation([1, 2, math.nan, 4], [1, 2, 3, 4]))
    assert math.isnan(rank_correlation([1, 2, 3, 4], [math.nan, 5, 5, 5]))
