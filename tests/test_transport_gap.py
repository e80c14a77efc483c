"""Detection: maps that are optimal have gap 0, maps that are not are seen, at the level of clouds."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from regimes.transport.cost import cost_matrix
from regimes.transport.gap import ot_gap
from regimes.transport.gaussian import bures_map
from regimes.transport.pairing import exact_gap


def circles(n, rng):
    angle = rng.uniform(0, 2 * math.pi, n)
    radius = np.where(rng.random(n) < 0.5, 1.0, 0.3)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(n, 2))


def convex_gradient(x, rng):
    """Gradient of ‖x‖²/4 + Σ_k log(1 + exp(w_k·x + b_k)): a random strongly convex function."""
    d = x.shape[1]
    w = rng.normal(size=(d, 2 * d)) / math.sqrt(d)
    return x / 2 + (1 / (1 + np.exp(-(x @ w + rng.normal(size=2 * d))))) @ w.T


def rotated(x):
    turn = math.radians(20)
    return x @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])


def sheared(x):
    return x @ np.array([[1.0, 0.0], [0.5, 1.0]])


@pytest.mark.parametrize("move", [rotated, sheared])
def test_a_rotation_and_a_shear_of_the_circles_are_detected(move):
    x = circles(500, np.random.default_rng(0))
    found = exact_gap(x, move(x))
    assert found.certified
    assert found.relative_gap > 0.05
    assert found.worst_cycle.gain > 0
    assert found.worst_cycle.length >= 2


def test_one_percent_of_points_permuted_is_detected():
    rng = np.random.default_rng(1)
    x = circles(600, rng)
    t = convex_gradient(x, rng)
    assert exact_gap(x, t).relative_gap == 0
    some = rng.choice(600, 6, replace=False)
    t[some] = t[np.roll(some, 1)]
    found = exact_gap(x, t)
    assert found.certified
    assert found.relative_gap > 1e-3
    assert found.worst_cycle.gain > 0


@pytest.mark.parametrize("d", [2, 16, 256])
def test_the_gradient_of_a_random_convex_function_passes(d):
    rng = np.random.default_rng(d)
    x = rng.normal(size=(600, d))
    found = exact_gap(x, convex_gradient(x, rng))
    assert found.certified
    assert found.gap == 0
    assert found.worst_cycle == (0, 0.0, ())


@pytest.mark.parametrize("d", [1, 2, 16])
def test_gaussian_maps_have_gap_zero(d):
    generator = torch.Generator().manual_seed(d)
    a, b = (torch.randn(d, d, generator=generator, dtype=torch.float64) for _ in range(2))
    eye = torch.eye(d, dtype=torch.float64)
    mean = torch.ones(d, dtype=torch.float64)
    optimal = bures_map(0 * mean, a @ a.T + eye, mean, b @ b.T + eye)
    x = torch.randn(400, d, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(a @ a.T + eye).T
    found = exact_gap(x, optimal(x))
    assert found.certified
    # An affine map of a line rounds points that tie; elsewhere the pairing itself is returned.
    assert found.relative_gap <= 1e-15


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_the_gap_is_the_pairings_cost_above_the_assignments(p):
    rng = np.random.default_rng(2)
    x, t = rng.normal(size=(80, 3)), rng.normal(size=(80, 3))
    cost = cost_matrix(x, t, p)
    optimum = cost[linear_sum_assignment(cost)].mean()
    found = exact_gap(x, t, p)
    assert_close(found.cost_network, float(np.diagonal(cost).mean()))
    assert_close(found.cost_ot, float(optimum), rtol=1e-9, atol=0)
    assert_close(found.gap, float(np.diagonal(cost).mean() - optimum), rtol=1e-8, atol=0)  # a difference of costs
    assert_close(found.relative_gap, found.gap / found.cost_network)
    assert found.dual_value <= found.cost_ot
    assert (found.points, found.dim, found.p) == (80, 3, p)


def test_a_collapsed_map_has_gap_zero_and_no_cycle():
    x = np.random.default_rng(3).normal(size=(400, 2))
    found = exact_gap(x, np.zeros_like(x))
    assert found.certified
    assert found.gap == 0
    assert found.worst_cycle == (0, 0.0, ())


def test_the_identity_has_gap_zero():
    x = np.random.default_rng(4).normal(size=(50, 2))
    found = exact_gap(x, x)
    assert (found.gap, found.relative_gap, found.certified) == (0.0, 0.0, True)


@pytest.mark.slow
def test_a_stopped_solve_gives_brackets_only():
    rng = np.random.default_rng(5)
    x, t = rng.normal(size=(900, 2)), rng.normal(size=(900, 2))
    found, full = exact_gap(x, t, rounds=1), exact_gap(x, t)
    assert (found.certified, found.cost_ot, found.gap, found.relative_gap) == (False, None, None, None)
    assert found.gap_low <= full.gap <= found.gap_high
    assert found.dual_value <= full.cost_ot <= found.cost_ot_high


def tilted(z):
    """Symmetric part 2, skew part 1."""
    return 2 * z + z @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=z.dtype)


@pytest.mark.slow
def test_a_map_brings_its_test_and_the_power_of_both_where_no_gap_is_found():
    x = torch.randn(30, 2, dtype=torch.float64)
    found = ot_gap(x, lambda z: 2 * z)
    assert_close(found.map.min_eigenvalue, 2.0)
    assert found.verdict == "optimal as far as these tests see"
    assert (found.gap, found.relative_gap, found.certified) == (0.0, 0.0, True)
    assert found.power.brenier_sees["rotation"] is not None
    assert ot_gap(x, lambda z: 2 * z, with_power=False).power is None


@pytest.mark.slow
def test_a_gap_that_is_there_needs_no_power_to_be_believed():
    x = torch.randn(60, 2, dtype=torch.float64)
    found = ot_gap(x, tilted, path=[x, tilted(x)])
    assert_close(found.map.asymmetry, 1 / 2**2)
    assert found.map.asymmetry_se < 1e-9
    assert_close(float(found.path.straightness), 1.0)
    assert (found.verdict, found.power) == ("not optimal", None)
    assert ot_gap(x, tilted, with_power=True).power is not None


@pytest.mark.slow
def test_a_rotation_in_many_dimensions_is_not_taken_for_optimal():
    # The gap is 0 for all of them, certified: 200 points in d = 50 are too far apart for another pairing to be better.
    x = torch.randn(200, 50, dtype=torch.float64)
    skew = torch.randn(50, 50, dtype=torch.float64) / 10
    for angle in (0.2, 1.0):
        turn = torch.linalg.matrix_exp(angle * (skew - skew.T))
        found = ot_gap(x, x @ turn)
        assert (found.relative_gap, found.certified) == (0.0, True)
        assert found.verdict == "blind"
        assert "the gap is blind here: in d = 50 with 200 points" in str(found)
        assert ot_gap(x, lambda z, turn=turn: z @ turn, with_power=False).verdict == "not a gradient map"
    assert ot_gap(x, x @ turn, with_power=False).verdict == "undecided"


@pytest.mark.slow
def test_a_shift_is_judged_by_the_departures_that_alter_it():
    x = torch.randn(100, 2, dtype=torch.float64)
    found = ot_gap(x, x + 1)
    assert found.power.gap_sees["shuffled displacements"] is None  # they are all alike: exchanged, they are the same
    assert found.power.unseen == []
    assert found.verdict == "optimal as far as these tests see"


@pytest.mark.parametrize("d", [2, 50])
@pytest.mark.slow
def test_a_constant_map_is_optimal_and_has_its_gap_although_it_has_no_jacobian_to_test(d):
    x = torch.randn(40, d, dtype=torch.float64)
    for target in (torch.zeros_like, torch.zeros_like(x)):
        found = ot_gap(x, target)
        assert (found.gap, found.certified, found.map) == (0.0, True, None)
        assert found.map_missing == "the map is constant"
        assert found.verdict == "optimal as far as these tests see"


def test_a_map_without_derivatives_is_not_taken_for_a_constant_one():
    x = 2 * torch.randn(40, 50, dtype=torch.float64)
    found = ot_gap(x, torch.round)
    assert (found.map, found.verdict) == (None, "undecided")
    assert "values differ" in found.explanation


def test_a_quarter_turn_is_told_without_an_infinite_number():
    x = torch.randn(60, 2, dtype=torch.float64)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    told = ot_gap(x, lambda z: z @ turn).explanation
    assert "antisymmetric" in told
    assert "inf" not in told


@pytest.mark.slow
def test_a_result_is_read_in_a_few_lines():
    x = torch.randn(60, 2, dtype=torch.float64)
    lines = str(ot_gap(x, tilted, path=[x, tilted(x)])).splitlines()
    assert lines[0] == "not optimal"
    assert lines[1].startswith("  not an OT map: another pairing of these points costs")
    assert [line[:20].strip() for line in lines[2:]] == [
        "points x features",
        "cost of T",
        "exact OT cost",
        "relative gap",
        "Brenier asymmetry",
        "straightness",
    ]
    assert "power" in str(ot_gap(x, 2 * x))
    assert "in [" in str(ot_gap(torch.randn(900, 2), torch.randn(900, 2), rounds=1))


def test_float32_tensors_of_any_shape_are_taken():
    x = torch.randn(30, 2, 2)
    assert exact_gap(x, 2 * x).gap == 0
    assert exact_gap(x, 2 * x).dim == 4


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match="exact_gap needs x and t_of_x of one shape"):
        exact_gap(np.zeros((3, 2)), np.zeros((4, 2)))


def test_the_package_exports_what_is_public():
    import regimes.transport as package

    assert package.ot_gap is ot_gap
    assert all(getattr(package, name).__doc__ for name in package.__all__)
    with pytest.raises(AttributeError, match="it has AffineMap"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("images", [torch.ones(5, 3), torch.randn(5, 3), torch.round])
@pytest.mark.parametrize("n", [1, 5])
def test_points_that_are_all_the_same_decide_nothing(n, images):
    x = torch.randn(1, 3).expand(n, 3)
    found = ot_gap(x, images if callable(images) else images[:n])
    assert found.verdict == "undecided"
    assert "all points are one and the same" in found.explanation


@pytest.mark.parametrize("far", ["outlier", "offset"])
def test_another_map_or_path_is_refused_however_far_a_point_or_the_cloud_lies(far):
    x = np.random.default_rng(0).normal(size=(50, 2))
    t = x @ np.array([[0, 1.0], [-1, 0]])
    if far == "outlier":
        x[0] = t[0] = 1e5
    else:
        x, t = x + 1e5, t + 1e5
    still = torch.from_numpy(x)
    for options in ({"transport_map": lambda z: z * 1.0}, {"path": [still, still]}):
        with pytest.raises(ValueError, match="point by point"):
            ot_gap(x, t, with_power=False, **options)


def test_the_gap_is_that_of_the_images_given_beside_the_map():
    x = torch.randn(30, 2, dtype=torch.float64)
    t = x * (1 + 1e-6 * torch.rand(30, 1, dtype=torch.float64))
    beside = ot_gap(x, t, transport_map=lambda z: z.clone(), with_power=False)
    assert beside.cost_network == ot_gap(x, t, with_power=False).cost_network > 0


@pytest.mark.parametrize("stretch", [1e5, 1 + 1e-6])
def test_energies_of_float32_paths_are_those_of_the_costs(stretch):
    x = torch.randn(50, 3)
    t = x * stretch
    for p in (2.0, 8.0):
        found = ot_gap(x, t, p, path=[x, t], with_power=False)
        assert float(found.path.map_cost) == pytest.approx(found.cost_network, rel=1e-9)
