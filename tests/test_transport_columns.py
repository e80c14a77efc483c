"""The parts of the sparse solver: restricted problems, stabilisation of duals, starts, merging of equal points."""

from fractions import Fraction

import numpy as np
import pytest
from torch.testing import assert_close

from regimes.transport.columns import generate
from regimes.transport.cost import cost_matrix
from regimes.transport.merging import merge, overlap, spread
from regimes.transport.restricted import solve_restricted
from regimes.transport.stabilisation import stabilise
from regimes.transport.start import connect, make_problem, masses, staircase, start


def complete(n, m):
    return np.repeat(np.arange(n), m), np.tile(np.arange(m), n)


def test_a_capped_cost_gives_the_same_plan_and_feasible_potentials():
    x, y = np.random.default_rng(0).normal(size=(2, 40, 2))
    rows, columns = complete(40, 40)
    cost = cost_matrix(x, y, 2.0).ravel()
    free = solve_restricted(rows, columns, cost, np.ones(40), np.ones(40))
    capped = solve_restricted(rows, columns, cost, np.ones(40), np.ones(40), cap=1e-3)
    np.testing.assert_array_equal(np.sort(free.rows * 40 + free.columns), np.sort(capped.rows * 40 + capped.columns))
    assert (cost - capped.u[rows] - capped.v[columns]).min() > -1e-12
    assert_close(free.u.sum() + free.v.sum(), capped.u.sum() + capped.v.sum())


def test_pairs_that_admit_no_plan_are_an_error():
    with pytest.raises(RuntimeError, match="without an optimum"):
        solve_restricted(np.array([0, 1]), np.array([0, 0]), np.ones(2), np.ones(2), np.ones(2))


def test_stabilising_keeps_value_and_feasibility_and_leaves_the_edge():
    x, y = np.random.default_rng(1).normal(size=(2, 60, 2))
    rows, columns = complete(60, 60)
    cost = cost_matrix(x, y, 2.0).ravel()
    flow = solve_restricted(rows, columns, cost, np.ones(60), np.ones(60))
    middle = stabilise(flow, rows, columns, cost, np.zeros(60))
    assert_close(middle.u.sum() + middle.v.sum(), flow.u.sum() + flow.v.sum())
    slack = cost - middle.u[rows] - middle.v[columns]
    assert slack.min() > -1e-12
    before = cost - flow.u[rows] - flow.v[columns]
    assert (slack < 1e-9).sum() < (before < 1e-9).sum()  # only the 60 matched pairs still bind
    assert (slack < 1e-9).sum() == 60


def test_stabilising_makes_potentials_of_a_near_identity_small():
    x = 10 * np.random.default_rng(2).normal(size=(30, 8))
    rows, columns = complete(30, 30)
    cost = cost_matrix(x, x + 1e-3, 2.0).ravel()
    flow = solve_restricted(rows, columns, cost, np.ones(30), np.ones(30))
    assert np.abs(stabilise(flow, rows, columns, cost, np.zeros(30)).v).max() < 1e-6


def test_the_staircase_is_a_plan_and_its_links_connect_it():
    rng = np.random.default_rng(3)
    x, y, a, b = rng.normal(size=(20, 2)), rng.normal(size=(30, 2)), np.full(20, 3.0), np.full(30, 2.0)
    rows, columns, mass = staircase(x, y, a, b)
    np.testing.assert_array_equal(np.bincount(rows, mass), a)
    np.testing.assert_array_equal(np.bincount(columns, mass), b)
    links = connect(rows, columns)
    flow = solve_restricted(*links, np.ones(len(links[0])), a, b)
    assert np.abs(flow.u).max() < 10  # no part hangs on an artificial arc of huge cost


@pytest.mark.parametrize("n", [100, 700])
def test_a_good_own_plan_is_never_made_worse(n):
    x = np.random.default_rng(4).normal(size=(n, 4))
    problem = make_problem(x, x + 0.01, 2.0, *masses(np.ones(n), np.ones(n)))
    own = (np.arange(n), np.arange(n), np.ones(n))
    first = start(problem, own)
    outcome = generate(problem, *first[:4], tolerance=1e-10, rounds=20, slack=first.slack)
    np.testing.assert_array_equal(outcome.rows, outcome.columns)
    assert_close(outcome.primal, 4e-4)
    assert outcome.primal - outcome.dual <= 1e-10 * outcome.primal


def test_masses_are_integers_where_weights_are_uniform():
    a, b = masses(np.ones(12), np.full(8, 0.125))
    np.testing.assert_array_equal(a, np.full(12, 2.0))
    np.testing.assert_array_equal(b, np.full(8, 3.0))
    a, b = masses(np.array([1.0, 3.0]), np.array([5.0, 7.0]))
    assert_close(a.sum(), 2.0)
    assert_close(b, np.array([5 / 6, 7 / 6]))


def test_equal_points_are_merged_and_plans_spread_back():
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 3, (40, 2)).astype(float), rng.integers(0, 3, (50, 2)).astype(float)
    x[0] = -0.0 * x[0]
    a, b = masses(np.ones(40), np.ones(50))
    left, right = merge(x, a), merge(y, b)
    assert len(left.points) <= 9
    np.testing.assert_array_equal(left.points[left.group], x)
    plan = staircase(left.points, right.points, left.mass, right.mass)
    rows, columns, mass = spread(*plan, left.group, right.group, a, b)
    np.testing.assert_array_equal(np.bincount(rows, mass), a)
    np.testing.assert_array_equal(np.bincount(columns, mass), b)
    joint = np.zeros((len(left.points), len(right.points)))
    np.add.at(joint, (left.group[rows], right.group[columns]), mass)
    truth = np.zeros_like(joint)
    np.add.at(truth, plan[:2], plan[2])
    np.testing.assert_array_equal(joint, truth)


def test_a_cloud_without_equal_points_keeps_its_order():
    x = np.random.default_rng(6).normal(size=(10, 2))
    np.testing.assert_array_equal(merge(x, np.ones(10)).points, x)


def test_overlaps_of_masses_on_a_line():
    i, j, mass = overlap(np.array([2.0, 1.0, 3.0]), np.array([1.0, 5.0]))
    np.testing.assert_array_equal(i, [0, 0, 1, 2])
    np.testing.assert_array_equal(j, [0, 1, 1, 1])
    np.testing.assert_array_equal(mass, [1, 1, 1, 3])


def test_a_dual_value_is_below_the_exact_optimum_also_where_rounding_has_lifted_a_potential():
    # One point on each side: the only plan is optimal, and the potential is its cost, rounded up half of the time.
    rng = np.random.default_rng(7)
    lifted = 0
    for _ in range(50):
        x, y = rng.normal(size=(1, 40)), rng.normal(size=(1, 40))
        problem = make_problem(x, y, 2.0, np.ones(1), np.ones(1))
        cost = problem.cost(np.zeros(1, int), np.zeros(1, int))
        truth = sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(x[0], y[0], strict=True))
        lifted += Fraction(float(cost[0])) > truth
        assert Fraction(problem.dual(cost, np.zeros(1), float(cost[0]))) <= truth
    assert lifted > 10


def test_minus_zero_and_zero_are_one_point():
    assert len(merge(np.array([[0.0, 1.0], [-0.0, 1.0]]), np.ones(2)).points) == 1
