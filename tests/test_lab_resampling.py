import math

import numpy as np
import pytest

from regimes.lab.intervals import CORRELATION
from regimes.lab.resampling import two_way


def mean(table):
    return table.mean((-2, -1))


def test_the_interval_covers_settings_and_seeds():
    draw = np.random.default_rng(0)
    settings, seeds = draw.normal(size=30), draw.normal(size=40)
    table = 3.0 * settings + 0.0 * seeds[:, None]
    found = two_way(mean, table)
    assert found.value == pytest.approx(float(table.mean()))
    half = 1.96 * 3.0 * settings.std() / math.sqrt(30)  # all of the spread is between settings
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(half, rel=0.1)
    both = two_way(mean, 3.0 * settings + 2.0 * seeds[:, None])
    expected = 1.96 * math.hypot(3.0 * settings.std() / math.sqrt(30), 2.0 * seeds.std() / math.sqrt(40))
    assert (both.interval.high - both.interval.low) / 2 == pytest.approx(expected, rel=0.1)
    assert both.at(0.99).low < both.interval.low


def test_the_same_seeds_and_settings_are_drawn_of_all_tables():
    table = np.random.default_rng(1).normal(size=(5, 6))
    found = two_way(lambda x, y: mean(x - y), table, table)
    assert tuple(found.interval) == (0.0, 0.0)


def test_settings_of_one_kind_are_drawn_together():
    kinds = [kind for kind in range(6) for _ in range(kind + 1)]  # 1 to 6 settings, all the same within a kind
    table = np.tile(np.array(kinds, dtype=float), (7, 1))
    found = two_way(lambda x: np.nanmean(x, (-2, -1)), table, kinds=kinds)
    assert found.value == pytest.approx(table.mean())
    apart = two_way(mean, table)
    assert found.interval.high - found.interval.low > 1.5 * (apart.interval.high - apart.interval.low)
    assert found.interval.low >= 0.0
    assert two_way(mean, table, kinds=range(len(kinds))).interval == apart.interval
    assert two_way(mean, table, kinds=[kind > 2 for kind in kinds], within=CORRELATION).interval == CORRELATION


def test_too_few_settings_or_a_number_that_is_never_defined_know_nothing():
    assert two_way(mean, np.zeros((5, 2)), within=CORRELATION).interval == CORRELATION
    never = two_way(lambda x: np.full(len(x), np.nan), np.zeros((5, 5)), within=CORRELATION)
    assert never.interval == CORRELATION
