import math

import pytest
import torch
from torch.testing import assert_close

from regimes.tangent.finite_horizon import finite_horizon_bound


def test_the_bound_is_the_published_formula():
    """K = T Lip² = 2·9 = 18; outputs K²/α·Lip(Dh)/Lip²·D; weights D/(αLip)·that·(2 + 4K/3)."""
    bound = finite_horizon_bound(2.0, lipschitz=3.0, lipschitz_derivative=5.0, alpha=100.0, initial_distance=7.0)
    outputs = 18**2 / 100 * 5 / 9 * 7
    assert_close(bound.outputs, outputs)
    assert_close(bound.weights, 7 / 300 * outputs * 26)


def test_the_bound_falls_with_alpha_once_in_outputs_and_twice_in_weights():
    first, second = (
        finite_horizon_bound(1.0, lipschitz=1.0, lipschitz_derivative=1.0, alpha=alpha, initial_distance=1.0)
        for alpha in (1.0, 10.0)
    )
    assert_close(first.outputs / second.outputs, 10.0)
    assert_close(first.weights / second.weights, 100.0)


@pytest.mark.parametrize(("alpha", "applies"), [(1.9, False), (2.0, True), (2.1, True)])
def test_the_condition_on_alpha_is_checked_from_both_sides(alpha, applies):
    """K D/(r Lip) = 4·3/(3·2) = 2 for T = 1, Lip = 2, D = 3, r = 3."""
    bound = finite_horizon_bound(
        1.0, lipschitz=2.0, lipschitz_derivative=1.0, alpha=alpha, initial_distance=3.0, radius=3.0
    )
    assert_close(bound.least_alpha, 2.0)
    assert bound.applies is applies


def test_a_linear_model_never_leaves_its_tangent_model():
    bound = finite_horizon_bound(5.0, lipschitz=2.0, lipschitz_derivative=0.0, alpha=1.0, initial_distance=3.0)
    assert bound.outputs == bound.weights == 0
    assert bound.applies


def test_the_bound_holds_on_a_problem_solved_by_hand():
    """h(w) = sin w, one sample: |Dh| <= 1, |D²h| <= 1 everywhere, tangent model h̄ = w, R = ½(αh − y)²."""
    alpha, y, horizon, steps = 3.0, 1.0, 1.0, 20_000
    w = w_tangent = 0.0
    for _ in range(steps):
        w -= horizon / steps * (alpha * math.sin(w) - y) * math.cos(w) / alpha
        w_tangent -= horizon / steps * (alpha * w_tangent - y) / alpha
    bound = finite_horizon_bound(horizon, lipschitz=1.0, lipschitz_derivative=1.0, alpha=alpha, initial_distance=y)
    assert 0 < abs(alpha * math.sin(w) - alpha * w_tangent) / y < bound.outputs
    assert 0 < abs(w - w_tangent) < bound.weights
    assert torch.isfinite(torch.tensor(bound.outputs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lipschitz": 0.0}, "lipschitz as a finite number above 0"),
        ({"alpha": -1.0}, "alpha as a finite number above 0"),
        ({"radius": float("nan")}, "radius as a number above 0"),
        ({"lipschitz_derivative": -1.0}, "lipschitz_derivative as a finite number of at least 0"),
        ({"initial_distance": float("nan")}, "initial_distance as a finite number of at least 0"),
    ],
)
def test_impossible_constants_are_refused(change, message):
    given = {"lipschitz": 1.0, "lipschitz_derivative": 1.0, "alpha": 1.0, "initial_distance": 1.0}
    with pytest.raises(ValueError, match=message):
        finite_horizon_bound(1.0, **(given | change))
