import itertools
import tracemalloc

import numpy as np
import pytest
from torch.testing import assert_close

from regimes.transport import swaps
from regimes.transport.cost import cost_matrix, paired_cost, saving
from regimes.transport.discrete import exact_transport
from regimes.transport.monotone import (
    cycle_gain,
    rearrangement_cycles,
    shortest_gaining_cycle,
    worst_swap,
    worst_walks,
)


def draw(seed, n=7, d=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, d))


def ring(n, turn):
    """Points of a regular polygon and the same turned: swaps save nothing if the turn is less than one corner."""
    angle = 2 * np.pi * np.arange(n) / n
    return (np.stack([np.cos(a), np.sin(a)], 1) for a in (angle, angle + turn))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_the_worst_swap_is_the_worst_of_all_swaps(p, seed):
    x, t = draw(seed, 12)
    cost = cost_matrix(x, t, p)
    own = np.diagonal(cost)
    gains = own[:, None] + own - cost - cost.T
    found = worst_swap(x, t, p=p)
    assert_close(found.gain, float(gains.max()))
    assert_close(cycle_gain(x, t, found.members, p=p), float(gains.max()))


@pytest.mark.parametrize("length", [2, 3, 4])
def test_walks_are_the_best_of_all_walks(length):
    x, t = draw(1, 6)
    cost = cost_matrix(x, t, 2.0)

    def gain(walk):
        return sum(cost[i, i] - cost[i, j] for i, j in zip(walk, (*walk[1:], walk[0]), strict=True))

    best = max(gain(walk) for walk in itertools.product(range(6), repeat=length))
    assert_close(float(worst_walks(x, t, longest=length)[-1]), float(best))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_a_small_gain_between_points_far_from_zero_or_from_their_targets_is_seen(p):
    # All points but two keep their order along a line; these are near each other, and have each other's targets.
    x = 1e6 * np.linspace(-1, 1, 40)[:, None] * np.ones(2)
    x[21] = x[20] + 1e-3
    t = x.copy()
    t[[20, 21]] = t[[21, 20]]
    found = worst_swap(x, t, p=p)
    assert found.members == (20, 21)
    assert_close(found.gain, float(2 * np.linalg.norm(x[20] - x[21]) ** p), rtol=1e-9, atol=0.0)
    if p > 1:
        moved = worst_swap(x, t + np.array([2.0**23, 0.0]), p=p)  # costs of 1e13 that differ by 1e-6
        assert moved.members == (20, 21)
        assert moved.gain > 0


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_swaps_of_blocks_are_the_swaps_of_all(p, monkeypatch):
    x, t = draw(9, 30, 3)
    whole = worst_swap(x, t, p=p)
    monkeypatch.setattr(swaps, "PAIRS", 100)
    assert worst_swap(x, t, p=p) == whole


def test_the_gain_of_a_cycle_does_not_depend_on_a_common_shift():
    x, t = (np.round(2.0**10 * cloud) / 2.0**10 for cloud in draw(10, 8))
    for p in (1.5, 2.0, 3.0):
        near = cycle_gain(x, t, (0, 3, 5), p=p)
        assert_close(cycle_gain(x + 2.0**20, t + 2.0**20, (0, 3, 5), p=p), near, rtol=1e-12, atol=0.0)
    # At p = 2 targets may be shifted alone.
    assert_close(cycle_gain(x, t + 2.0**30, (0, 3, 5)), cycle_gain(x, t, (0, 3, 5)), rtol=1e-12, atol=0.0)
    assert shortest_gaining_cycle(x, t + 2.0**30).members == shortest_gaining_cycle(x, t).members


def test_savings_are_differences_of_costs():
    rng = np.random.default_rng(11)
    x, t, other = rng.normal(size=(3, 50, 4))
    t[0], other[1], t[2] = x[0], x[1], other[2]
    for p in (1.0, 1.5, 2.0, 3.0):
        assert_close(saving(x, t, other, p), paired_cost(x, t, p) - paired_cost(x, other, p), rtol=1e-12, atol=1e-13)


def test_a_long_cycle_needs_the_memory_of_a_few_matrices():
    x, t = ring(60, 0.6 * 2 * np.pi / 60)
    tracemalloc.start()
    assert shortest_gaining_cycle(x, t).length > 50
    assert tracemalloc.get_traced_memory()[1] < 15 * 8 * 60**2
    tracemalloc.stop()


def test_an_optimal_pairing_has_no_gaining_cycle():
    x, t = draw(2, 40)
    order = exact_transport(x, t).plan
    t = t[order.col[np.argsort(order.row)]]
    assert shortest_gaining_cycle(x, t) == (0, 0.0, ())
    assert worst_swap(x, t) == (0, 0.0, ())


def test_the_shortest_gaining_cycle_can_go_through_all_points():
    x, t = ring(9, 0.6 * 2 * np.pi / 9)
    assert worst_swap(x, t).length == 0
    found = shortest_gaining_cycle(x, t)
    assert found.length == 9
    assert sorted(found.members) == list(range(9))
    assert found.gain > 0
    assert_close(cycle_gain(x, t, found.members), found.gain)
    assert shortest_gaining_cycle(x, t, longest=8).length == 0


def test_a_turn_of_less_than_half_a_corner_is_optimal():
    x, t = ring(9, 0.4 * 2 * np.pi / 9)
    assert shortest_gaining_cycle(x, t).length == 0


def test_cycles_of_the_optimal_rearrangement_sum_to_the_gap():
    x, t = draw(3, 60)
    solved = exact_transport(x, t)
    cycles = rearrangement_cycles(x, t, solved.plan)
    gap = float(np.diagonal(cost_matrix(x, t, 2.0)).mean()) - solved.cost
    assert_close(sum(cycle.gain for cycle in cycles) / 60, gap)
    worst = max(cycles, key=lambda cycle: cycle.gain)
    assert len(worst.members) == worst.length
    assert_close(cycle_gain(x, t, worst.members), worst.gain)


def test_all_cycles_of_an_optimal_plan_gain():
    x, t = draw(4, 60)
    assert min(cycle.gain for cycle in rearrangement_cycles(x, t, exact_transport(x, t).plan)) > 0


def test_plans_that_split_mass_and_clouds_that_are_too_large_are_refused():
    x, t = draw(5, 6)
    with pytest.raises(ValueError, match="splits mass"):
        rearrangement_cycles(x, t, exact_transport(x, t, x_weights=np.arange(1.0, 7)).plan)
    with pytest.raises(ValueError, match="at most 1500"):
        shortest_gaining_cycle(np.zeros((1501, 1)), np.zeros((1501, 1)))
    with pytest.raises(ValueError, match="one shape"):
        worst_swap(x, t[:3])


def test_ties_that_rounding_breaks_are_no_gain():
    # On a line at p = 1 all pairings of a cloud with its far shift cost the same: every gain is rounding.
    x = np.random.default_rng(0).normal(size=(12, 1))
    assert shortest_gaining_cycle(x, x + 1e3, p=1.0).length == 0
