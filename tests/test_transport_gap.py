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
    found = ot_gap(x, move(x))
    assert found.certified
    assert found.relative_gap > 0.05
    assert found.worst_cycle > 0
    assert found.worst_cycle_length >= 2


def test_one_percent_of_points_permuted_is_detected():
    rng = np.random.default_rng(1)
    x = circles(600, rng)
    t = convex_gradient(x, rng)
    assert ot_gap(x, t).relative_gap == 0
    some = rng.choice(600, 6, replace=False)
    t[some] = t[np.roll(some, 1)]
    found = ot_gap(x, t)
    assert found.certified
    assert found.relative_gap > 1e-3
    assert found.worst_cycle > 0


@pytest.mark.parametrize("d", [2, 16, 256])
def test_the_gradient_of_a_random_convex_function_passes(d):
    rng = np.random.default_rng(d)
    x = rng.normal(size=(600, d))
    found = ot_gap(x, convex_gradient(x, rng))
    assert found.certified
    assert found.gap == 0
    assert found.worst_cycle == 0
    assert found.worst_cycle_length == 0


@pytest.mark.parametrize("d", [1, 2, 16])
def test_gaussian_maps_have_gap_zero(d):
    generator = torch.Generator().manual_seed(d)
    a, b = (torch.randn(d, d, generator=generator, dtype=torch.float64) for _ in range(2))
    eye = torch.eye(d, dtype=torch.float64)
    mean = torch.ones(d, dtype=torch.float64)
    optimal = bures_map(0 * mean, a @ a.T + eye, mean, b @ b.T + eye)
    x = torch.randn(400, d, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(a @ a.T + eye).T
    found = ot_gap(x, optimal(x))
    assert found.certified
    # An affine map of a line rounds points that tie; elsewhere the pairing itself is returned.
    assert found.relative_gap <= 1e-15


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_the_gap_is_the_pairings_cost_above_the_assignments(p):
    rng = np.random.default_rng(2)
    x, t = rng.normal(size=(80, 3)), rng.normal(size=(80, 3))
    cost = cost_matrix(x, t, p)
    optimum = cost[linear_sum_assignment(cost)].mean()
    found = ot_gap(x, t, p)
    assert_close(found.cost_network, float(np.diagonal(cost).mean()))
    assert_close(found.cost_ot, float(optimum), rtol=1e-9, atol=0)
    assert_close(found.gap, float(np.diagonal(cost).mean() - optimum), rtol=1e-8, atol=0)  # a difference of costs
    assert_close(found.relative_gap, found.gap / found.cost_network)
    assert found.dual_value <= found.cost_ot
    assert (found.points, found.dim, found.p) == (80, 3, p)


def test_a_collapsed_map_has_gap_zero_and_no_cycle():
    x = np.random.default_rng(3).normal(size=(400, 2))
    found = ot_gap(x, np.zeros_like(x))
    assert found.certified
    assert found.gap == 0
    assert found.worst_cycle == 0


def test_the_identity_has_gap_zero():
    x = np.random.default_rng(4).normal(size=(50, 2))
    found = ot_gap(x, x)
    assert (found.gap, found.relative_gap, found.certified) == (0.0, 0.0, True)


def test_a_stopped_solve_gives_brackets_only():
    rng = np.random.default_rng(5)
    x, t = rng.normal(size=(900, 2)), rng.normal(size=(900, 2))
    found, full = ot_gap(x, t, rounds=1), ot_gap(x, t)
    assert (found.certified, found.cost_ot, found.gap, found.relative_gap) == (False, None, None, None)
    assert found.gap_low <= full.gap <= found.gap_high
    assert found.dual_value <= full.cost_ot <= found.cost_ot_high


def test_the_other_tests_come_along_when_asked_for():
    x = torch.randn(60, 2, dtype=torch.float64)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)

    def tilted(z):
        return 2 * z + 0.1 * z @ turn

    found = ot_gap(x, tilted(x), transport_map=tilted, path=[x, tilted(x)], with_power=True)
    assert_close(found.brenier_asymmetry, 0.1**2 / 2**2)  # skew part 0.1, symmetric part 2
    assert found.brenier_asymmetry_se < 1e-9
    assert_close(found.min_eigenvalue, 2.0)
    assert_close(found.straightness, 1.0)
    assert found.power.gap_sees["rotation"] is not None
    assert ot_gap(x, tilted(x)).power is None


def test_float32_tensors_of_any_shape_are_taken():
    x = torch.randn(30, 2, 2)
    assert ot_gap(x, 2 * x).gap == 0
    assert ot_gap(x, 2 * x).dim == 4


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match="one shape"):
        ot_gap(np.zeros((3, 2)), np.zeros((4, 2)))
