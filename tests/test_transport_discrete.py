import math
import time

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from regimes.transport import columns
from regimes.transport.cost import cost_matrix
from regimes.transport.discrete import exact_transport
from regimes.transport.duality import certify
from regimes.transport.pot import pot  # POT itself comes in where it is used: the test on a card needs none
from regimes.transport.pricing import Pricer
from regimes.transport.start import make_problem, masses, start

EXPONENTS = (1.0, 1.5, 2.0, 3.0)


def random(seed):
    return np.random.default_rng(seed)


def gaussian(rng, n, d):
    return rng.normal(size=(n, d)), 0.7 * rng.normal(size=(n, d)) + 0.5


def near(rng, n, d):
    x = rng.normal(size=(n, d))
    return x, x + 1e-3 * rng.normal(size=(n, d))


def ties(rng, n, d):
    return rng.integers(0, 4, (n, d)).astype(float), rng.integers(0, 4, (n, d)).astype(float)


def duplicates(rng, n, d):
    x, y = gaussian(rng, n, d)
    return x[rng.integers(0, n // 5, n)], y[rng.integers(0, n // 7, n)]


def outliers(rng, n, d):
    x, y = gaussian(rng, n, d)
    x[:3] *= 1e6
    return x, y


def far_away(rng, n, d):
    x, y = gaussian(rng, n, d)
    return x + 1e6, y + 1e6


def unequal(rng, n, d):
    x, y = gaussian(rng, n, d)
    return x, y[: n // 2 + 1]


def heavy_tails(rng, n, d):
    return rng.standard_cauchy((n, d)), rng.standard_cauchy((n, d))


def dense_optimum(x, y, p, a=None, b=None):
    cost = cost_matrix(x, y, p)
    a = np.full(len(x), 1 / len(x)) if a is None else a / a.sum()
    b = np.full(len(y), 1 / len(y)) if b is None else b / b.sum()
    plan = pot().emd(a, b, cost, numItermax=10**9)
    return float((plan * cost).sum())


def assert_optimal(solved, x, y, p, truth):
    """Certified, equal to the truth, and the certificate holds when checked again by other means."""
    assert solved.certified
    assert solved.cost == solved.primal
    assert_close(solved.cost, truth, rtol=1e-9, atol=0)  # the promise of the certificate
    # ... which leaves to rounding what costs of 1e12 beside costs of 1 leave.
    assert certify(x, y, solved.u, solved.v, solved.plan, p=p, tolerance=2e-9).optimal


@pytest.mark.parametrize("problem", [gaussian, near, ties, duplicates, outliers, far_away, unequal, heavy_tails])
@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("d", [1, 2, 16, 256])
@pytest.mark.slow
def test_the_optimum_is_that_of_the_dense_simplex(problem, d, p):
    x, y = problem(random(d), 60, d)
    assert_optimal(exact_transport(x, y, p=p), x, y, p, dense_optimum(x, y, p))


@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("d", [1, 3, 64])
def test_weights_are_honoured_also_where_they_vanish(d, p):
    rng = random(d)
    x, y = rng.normal(size=(50, d)), rng.normal(size=(70, d))
    a, b = rng.random(50) + 0.01, rng.random(70) + 0.01
    a[:4], b[-5:] = 0, 0
    solved = exact_transport(x, y, p=p, x_weights=a, y_weights=b)
    assert_optimal(solved, x, y, p, dense_optimum(x, y, p, a, b))
    assert_close(np.asarray(solved.plan.sum(1)).ravel(), a / a.sum())
    assert_close(np.asarray(solved.plan.sum(0)).ravel(), b / b.sum())


def matched_outliers(rng, n, d):
    x, y = gaussian(rng, n, d)
    x[:2] += 1e6
    y[-2:] += 1e6
    return x, y


def two_scales(rng, n, d):
    x, y = gaussian(rng, n, d)
    x[n // 2 :], y[n // 2 :] = 1e5 + 1e-3 * x[n // 2 :], 1e5 + 1e-3 * y[n // 2 :]
    return x, y


@pytest.mark.parametrize("problem", [matched_outliers, two_scales])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("d", [2, 16])
def test_far_parts_that_match_each_other_do_not_hide_the_near_ones(problem, d, p):
    # Costs span up to 18 decades: the dense simplex is up to 90 % too dear here, the assignment solver is not.
    x, y = problem(random(d), 60, d)
    cost = cost_matrix(x, y, p)
    truth = float(cost[linear_sum_assignment(cost)].mean())
    assert_optimal(exact_transport(x, y, p=p), x, y, p, truth)


@pytest.mark.parametrize(("n", "m", "d", "p"), [(1200, 1200, 2, 2.0), (900, 700, 16, 1.5), (800, 800, 3, 1.0)])
def test_large_clouds_take_the_sparse_road_to_the_same_optimum(n, m, d, p):
    rng = random(n + m)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 0.3
    assert_optimal(exact_transport(x, y, p=p), x, y, p, dense_optimum(x, y, p))


def test_large_weighted_clouds_are_solved_too():
    rng = random(5)
    x, y, a, b = rng.normal(size=(700, 2)), rng.normal(size=(900, 2)), rng.random(700), rng.random(900)
    assert_optimal(exact_transport(x, y, x_weights=a, y_weights=b), x, y, 2.0, dense_optimum(x, y, 2.0, a, b))


@pytest.mark.slow
@pytest.mark.parametrize("p", EXPONENTS)
def test_on_a_line_the_optimum_is_sorting(p):
    rng = random(3)
    x, y = rng.normal(size=(2000, 1)), rng.normal(size=(2000, 1)) ** 3
    truth = float((np.abs(np.sort(x, axis=0) - np.sort(y, axis=0)) ** p).mean())
    assert_optimal(exact_transport(x, y, p=p), x, y, p, truth)


@pytest.mark.parametrize("p", EXPONENTS)
def test_many_points_on_a_line_need_no_solver(monkeypatch, p):
    # A chain of pairs is where the solvers take quadratic time: OR-tools' 6 s at 10,000 points.
    monkeypatch.setattr(columns, "solve_restricted", None)
    rng = random(12)
    x, y = rng.normal(size=(6000, 1)), rng.normal(size=(6000, 1)) ** 3 + 3
    solved = exact_transport(x, y, p=p)
    assert solved.certified
    assert_close(solved.cost, float((np.abs(np.sort(x, axis=0) - np.sort(y, axis=0)) ** p).mean()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", EXPONENTS)
def test_weights_and_equal_points_on_a_line_need_no_solver_either(monkeypatch, p):
    rng = random(13)
    x, y = rng.integers(0, 9, (50, 1)).astype(float), rng.normal(size=(70, 1)) + 3
    a, b = rng.random(50) + 0.01, rng.random(70) + 0.01
    a[:4], b[-5:] = 0, 0
    truth = dense_optimum(x, y, p, a, b)
    monkeypatch.setattr(columns, "solve_restricted", None)
    assert_optimal(exact_transport(x, y, p=p, x_weights=a, y_weights=b), x, y, p, truth)


@pytest.mark.parametrize("d", [2, 64])
def test_the_permutation_hidden_by_a_gradient_of_a_convex_function_is_found(d):
    rng = random(d)
    x, shuffle = rng.normal(size=(500, d)), rng.permutation(500)
    w = rng.normal(size=(d, d)) / math.sqrt(d)
    y = x + np.logaddexp(0, x @ w) @ w.T  # gradient of ‖x‖²/2 + Σ F(w·x), F' = softplus, F convex
    solved = exact_transport(x, y[shuffle])
    assert solved.certified
    np.testing.assert_array_equal(shuffle[solved.plan.col[np.argsort(solved.plan.row)]], np.arange(500))


def test_costs_are_sums_over_features_and_means_over_points():
    x, y = np.array([[0.0, 0.0], [10.0, 10.0]]), np.array([[3.0, 4.0], [10.0, 10.0]])
    assert_close(exact_transport(x, y, p=2.0).cost, 25.0 / 2)
    assert_close(exact_transport(x, y, p=1.0).cost, 5.0 / 2)
    assert_close(exact_transport(x, y, p=3.0).cost, 125.0 / 2)


def test_equal_clouds_cost_nothing_and_that_is_certain():
    x = random(0).normal(size=(300, 3))
    solved = exact_transport(x, x[::-1])
    assert solved.certified
    assert solved.cost == 0


def test_a_collapsed_cloud_is_solved_without_one_round_for_each_copy():
    rng = random(1)
    x, y = rng.normal(size=(1500, 2)), rng.normal(size=(3, 2))[rng.integers(0, 3, 1500)]
    solved = exact_transport(x, y)
    assert_optimal(solved, x, y, 2.0, dense_optimum(x, y, 2.0))
    assert_close(np.asarray(solved.plan.sum(0)).ravel(), np.full(1500, 1 / 1500))


def test_a_solve_that_is_stopped_returns_a_bracket_and_no_value():
    rng = random(2)
    x, y = rng.normal(size=(1000, 16)), rng.normal(size=(1000, 16)) + 2
    solved, truth = exact_transport(x, y, rounds=1), dense_optimum(x, y, 2.0)
    assert solved.cost is None
    assert not solved.certified
    assert solved.dual_value < truth < solved.primal
    hurried = exact_transport(x, y, seconds=0.0)
    assert hurried.cost is None
    assert hurried.dual_value < truth < hurried.primal


def test_no_time_is_no_look_at_all_pairs_however_large_the_clouds(monkeypatch):
    def worked(*_, **__):
        raise AssertionError("work was begun")

    for name in ("price", "least"):
        monkeypatch.setattr(Pricer, name, worked)
    monkeypatch.setattr(columns, "solve_restricted", worked)
    x, y = random(9).normal(size=(2, 3000, 2))
    solved = exact_transport(x, y, seconds=0.0)
    assert (solved.cost, solved.dual_value, solved.rounds) == (None, 0.0, 0)
    assert_close(np.asarray(solved.plan.sum(1)).ravel(), np.full(3000, 1 / 3000))


def test_a_round_that_would_not_end_in_time_is_not_begun_and_the_start_is_a_bracket(monkeypatch):
    x, y = random(10).normal(size=(2, 900, 2))
    problem = make_problem(x, y + 1, 2.0, *masses(np.ones(900), np.ones(900)))
    first = start(problem)
    monkeypatch.setattr(columns, "solve_restricted", None)
    deadline = time.monotonic() + 1000
    found = columns.generate(problem, *first[:4], tolerance=1e-10, rounds=9, deadline=deadline, expected=2000.0)
    truth = dense_optimum(x, y + 1, 2.0)
    assert found.rounds == 0
    assert 0.5 * truth < found.dual < truth < found.primal


def test_rounds_are_few_and_a_good_pairing_needs_fewer():
    rng = random(4)
    x = rng.normal(size=(1500, 32))
    y = x + 0.2 * np.tanh(x @ rng.normal(size=(32, 32)) / 6)
    assert exact_transport(x, y, paired=True).rounds <= 4


@pytest.mark.parametrize("p", EXPONENTS)
def test_a_near_identity_is_certified_although_its_cost_is_tiny_beside_the_cloud(p):
    # At p = 3 costs are 3e-9; potentials of size 0.1 would lose them in rounding.
    x, y = near(random(6), 450, 2)
    solved = exact_transport(x, y, p=p, paired=True)
    assert solved.certified
    assert solved.rounds <= 3


def test_tensors_of_any_shape_and_type_are_flattened():
    x, y = torch.randn(20, 2, 3), torch.randn(20, 2, 3)
    flat = exact_transport(x.flatten(1).double().numpy(), y.flatten(1).double().numpy())
    assert exact_transport(x, y).cost == flat.cost


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pricing_on_the_gpu_gives_the_same_certificate():
    x, y = gaussian(random(0), 1500, 16)
    assert_close(exact_transport(x, y, device="cuda").cost, exact_transport(x, y).cost, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": 0.5}, "needs 1 <= p"),
        ({"x": np.full((4, 2), np.nan)}, "finite"),
        ({"x": np.zeros((4, 3))}, "same number of features"),
        ({"x": np.zeros((0, 2))}, "at least one point"),
        ({"x": np.zeros((3, 2)), "paired": True}, "one size"),
        ({"x_weights": np.array([1.0, -1.0, 1.0, 1.0])}, "not negative"),
        ({"x_weights": np.ones(3)}, "one weight a point"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"x": np.zeros((4, 2)), "y": np.zeros((4, 2))} | change
    with pytest.raises(ValueError, match=message):
        exact_transport(arguments.pop("x"), arguments.pop("y"), **arguments)


def test_only_a_bracket_of_one_billionth_certifies():
    rng = random(8)
    widths = []
    for n in (300, 700, 900):
        solved = exact_transport(rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), tolerance=1e-2)
        widths.append((solved.primal - solved.dual_value) / solved.primal)
        assert solved.certified == (widths[-1] <= 1e-9)
    assert max(widths) > 1e-9


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_a_tolerance_below_rounding_is_given_up_in_a_few_rounds(p):
    x, y = gaussian(random(11), 120, 2)
    solved = exact_transport(x, y, p=p, tolerance=1e-300)
    assert solved.certified
    assert solved.rounds < 12
    assert_close(solved.dual_value, solved.cost, rtol=2e-14, atol=0.0)


def test_lists_are_the_numbers_that_python_holds():
    x, y = gaussian(random(3), 6, 2)
    x = x + 1e9  # in float32 all points would be one
    solved = exact_transport(x.tolist(), (y + 1e9).tolist(), x_weights=[1.0] * 6)
    assert solved.cost == exact_transport(x, y + 1e9, x_weights=np.ones(6)).cost
    assert exact_transport([[0], [2]], [[1], [3]]).cost == 1
    assert exact_transport((0.0, 2.0), (1.0, 3.0)).cost == 1


def test_arrays_in_foreign_byte_order_or_read_only_are_taken():
    x, y = gaussian(random(4), 5, 2)
    foreign = x.astype(x.dtype.newbyteorder())
    foreign.setflags(write=False)
    assert exact_transport(foreign, y).cost == exact_transport(x, y).cost
    assert exact_transport(x[::-1], y[:, ::-1]).cost == exact_transport(x[::-1].copy(), y[:, ::-1].copy()).cost


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200, 1.7e308])
def test_weights_of_any_size_are_taken_by_their_ratios(size):
    x, y = gaussian(random(5), 4, 2)
    share = np.array([1.0, 0.5, 0.25, 0.25])
    truth = exact_transport(x, y, x_weights=share).cost
    assert exact_transport(x, y, x_weights=size * share).cost == pytest.approx(
        truth, rel=1e-3 if size < 1e-300 else 1e-9
    )
