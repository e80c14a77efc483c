"""Assignments on listed pairs: the optimum and its duals, whatever the sizes of the costs; without OR-tools, too."""

import time

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from regimes.errors import RunFailed
from regimes.transport import assignment, restricted
from regimes.transport.assignment import assign, shortest_paths
from regimes.transport.cost import cost_matrix
from regimes.transport.discrete import exact_transport

pytest.importorskip("ortools")


def complete(n):
    return np.repeat(np.arange(n), n), np.tile(np.arange(n), n)


def assert_solved(cost, *, rtol=1e-12, **options):
    """The optimum of a square matrix of costs, and duals that are feasible and prove it."""
    n = len(cost)
    rows, columns = complete(n)
    found = assign(rows, columns, cost.ravel(), n, **options)
    truth = float(cost[linear_sum_assignment(cost)].sum())
    np.testing.assert_array_equal(np.sort(found.mate), np.arange(n))
    assert_close(float(cost[np.arange(n), found.mate].sum()), truth, rtol=rtol, atol=0.0)
    assert (cost - found.u[:, None] - found.v).min() >= -1e-14 * cost.max()
    assert_close(float(found.u.sum() + found.v.sum()), truth, rtol=rtol, atol=1e-14 * n * cost.max())


@pytest.mark.parametrize("n", [1, 2, 3, 17, 60])
def test_the_assignment_is_optimal_and_its_duals_prove_it(n):
    rng = np.random.default_rng(n)
    assert_solved(rng.random((n, n)))
    assert_solved(cost_matrix(rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), 2.0))


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e9, 1e200])
def test_the_scale_of_the_costs_does_not_matter(scale):
    assert_solved(scale * np.random.default_rng(0).random((30, 30)))


def test_small_costs_beside_huge_ones_are_solved_to_the_last_digit():
    # Two groups far from each other: costs of 1e12 between them, of 1e-6 inside; integers hold one of these scales.
    rng = np.random.default_rng(1)
    x, y = (np.concatenate([1e-3 * rng.normal(size=(20, 2)), 1e6 + 1e-3 * rng.normal(size=(20, 2))]) for _ in range(2))
    cost = cost_matrix(x, y, 2.0)
    rows, columns = complete(40)
    found = assign(rows, columns, cost.ravel(), 40)
    own = cost[np.arange(40), found.mate].sum()
    assert_close(float(own), float(cost[linear_sum_assignment(cost)].sum()), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("cost", [np.zeros((6, 6)), np.ones((6, 6)), 1.0 - np.eye(6), np.eye(6)])
def test_ties_and_costs_of_nothing_come_to_an_end(cost):
    assert_solved(cost)


@pytest.mark.parametrize("cap", [1e-6, 1e-2, 0.0, np.inf])
def test_a_cap_that_is_too_low_is_raised(cap):
    assert_solved(np.random.default_rng(2).random((25, 25)), cap=cap)


def test_refinement_goes_as_far_as_it_is_asked_to(monkeypatch):
    cost = np.random.default_rng(3).random((40, 40))
    rows, columns = complete(40)
    monkeypatch.setattr(assignment, "ROOM", 40.0**2 * 1000)  # three digits at a time
    gaps = []
    for precision in (1e-2, 1e-5, 1e-12):
        found = assign(rows, columns, cost.ravel(), 40, precision=precision)
        gaps.append(float(cost[np.arange(40), found.mate].sum() - found.u.sum() - found.v.sum()) / 40)
        assert gaps[-1] <= precision
    assert gaps[0] > 1e-5


def test_costs_that_the_solver_calls_too_large_are_made_smaller(monkeypatch):
    monkeypatch.setattr(assignment, "ROOM", 2.0**68)
    assert_solved(np.random.default_rng(4).random((40, 40)))


@pytest.mark.parametrize("n", [1, 2, 18, 90, 600])
def test_lengths_of_paths_are_integers_that_float64_holds(n):
    rows, columns = np.arange(n), np.arange(n)
    _, _, whole, unit = assignment.integer_assignment(rows, columns, np.linspace(1, 3, n), n, np.inf)
    assert n * whole.max() <= 2.0**53  # or rounding makes cycles that seem to shorten every path
    assert unit < 1e-8


def test_pairs_in_any_order_and_pairs_listed_twice_are_taken():
    rng = np.random.default_rng(5)
    cost, (rows, columns) = rng.random((12, 12)), complete(12)
    some = np.concatenate([rng.permutation(144), rng.integers(0, 144, 50)])
    extra = np.concatenate([np.zeros(144), rng.random(50)])
    found = assign(rows[some], columns[some], cost.ravel()[some] + extra, 12)
    assert_close(float(found.u.sum() + found.v.sum()), float(cost[linear_sum_assignment(cost)].sum()))


def test_pairs_that_admit_no_assignment_give_none():
    assert assign(np.array([0, 1]), np.array([0, 0]), np.ones(2), 2) is None
    assert assign(np.array([0, 0]), np.array([0, 1]), np.ones(2), 2) is None


def test_an_assignment_that_is_not_optimal_has_no_duals():
    cost = 1.0 - np.eye(5)
    mate, (rows, columns) = np.roll(np.arange(5), 1), complete(5)
    with pytest.raises(RunFailed, match="not optimal"):
        shortest_paths(rows, columns, cost.ravel(), mate, np.ones(5))


def test_the_duals_of_a_chain_take_no_walk_along_it():
    # Each row is nearer to the column of the row before it by 1: the shortest path to the last one has n − 1 arcs.
    n = 30_000
    rows = np.repeat(np.arange(n), 2)
    columns = np.maximum(rows - np.tile([0, 1], n), 0)
    cost = np.where(rows == columns, 1.0, 0.0)
    began = time.process_time()
    u = shortest_paths(rows, columns, cost, np.arange(n), np.ones(n))
    assert time.process_time() - began < 2  # a walk takes 40 times as long
    np.testing.assert_array_equal(u, -np.arange(n))


@pytest.mark.parametrize("sweeps", [1, 2, 1000])
@pytest.mark.parametrize("many", [0, 64, 10**9])
def test_the_duals_do_not_depend_on_when_paths_are_measured_anew(monkeypatch, sweeps, many):
    monkeypatch.setattr(assignment, "SWEEPS", sweeps)
    monkeypatch.setattr(assignment, "MANY", many)
    rng = np.random.default_rng(8)
    n, cost, (rows, columns) = 60, rng.integers(0, 50, (60, 60)).astype(float), complete(60)
    mate = linear_sum_assignment(cost)[1]
    own = cost[np.arange(n), mate]
    u = np.zeros(n)
    for _ in range(n):  # Bellman-Ford, all arcs each time
        u = np.minimum(u, (u + cost[:, mate] - own).min(1))
    np.testing.assert_array_equal(shortest_paths(rows, columns, cost.ravel(), mate, own), u)


def test_without_the_solver_of_assignments_the_simplex_finds_the_same_optimum(monkeypatch):
    x, y = np.random.default_rng(6).normal(size=(2, 420, 3))
    fast = exact_transport(x, y)
    monkeypatch.setattr(restricted, "available", lambda: False)
    slow = exact_transport(x, y)
    assert fast.certified
    assert slow.certified
    assert_close(fast.cost, slow.cost, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("fault", [ImportError("undefined symbol"), OSError("libstdc++ is too old")])
def test_a_solver_that_is_installed_and_cannot_be_loaded_counts_as_none(monkeypatch, fault):
    def broken(name):
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(assignment, "import_module", broken)
        assignment.available.cache_clear()
        try:
            assert not assignment.available()
            assert not restricted.by_assignment(np.ones(3), np.ones(3))
        finally:
            assignment.available.cache_clear()
    assert assignment.available()


def test_costs_at_the_end_of_float64_are_solved_as_far_as_it_holds_them():
    cost = 5e-324 * np.array([[0.0, 9.0, 9.0], [9.0, 0.0, 9.0], [9.0, 9.0, 1.0]])
    found = assign(*complete(3), cost.ravel(), 3)
    np.testing.assert_array_equal(found.mate, [0, 1, 2])


def test_a_few_equal_points_leave_an_assignment():
    x, y = np.random.default_rng(7).normal(size=(2, 450, 2))
    x[:40], y[:60] = x[40:80], y[60:120]
    cost = cost_matrix(x, y, 2.0)
    solved = exact_transport(x, y)
    assert solved.certified
    assert len(solved.plan.data) == 450
    assert_close(solved.cost, float(cost[linear_sum_assignment(cost)].mean()), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize(("copies", "points", "left"), [(12, 2, True), (5, 30, False), (30, 1, False)])
def test_many_copies_of_few_points_leave_an_assignment(monkeypatch, copies, points, left):
    x, y = np.random.default_rng(9).normal(size=(2, 450, 2))
    for cloud in (x, y):
        cloud[: copies * points] = np.repeat(cloud[:points], copies, axis=0)
    solves = []
    monkeypatch.setattr(restricted, "_simplex", lambda *given, own=restricted._simplex: solves.append(1) or own(*given))
    cost = cost_matrix(x, y, 2.0)
    solved = exact_transport(x, y)
    assert solved.certified
    assert (solves == []) == left
    assert_close(solved.cost, float(cost[linear_sum_assignment(cost)].mean()), rtol=1e-9, atol=0.0)
