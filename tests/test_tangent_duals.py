import math

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF, IDENTITY, RELU, SOFTPLUS, TANH
from regimes.tangent.duals import Pairs, erf_duals, identity_duals, relu_duals
from regimes.tangent.hermite import hermite_duals

CORRELATIONS = [-1.0, -0.9, -0.3, 0.0, 0.5, 0.99, 1.0]


def pairs(variance1, variance2, correlation):
    c = torch.tensor([[correlation]], dtype=torch.float64)
    return Pairs(c.new_tensor([variance1]), c.new_tensor([variance2]), 1 - c, 1 + c)


def quadrature(function, variance1, variance2, correlation, nodes=1201, reach=10.0):
    """E f(u)f(v) by the trapezoid rule in two independent variables, the slow exact version."""
    g = torch.linspace(-reach, reach, nodes, dtype=torch.float64)
    weight = torch.exp(-g.square() / 2)
    weight = weight / weight.sum()
    u = variance1**0.5 * g
    v = variance2**0.5 * (correlation * g[:, None] + math.sqrt(1 - correlation**2) * g)
    return torch.einsum("i,i,ij,j->", weight, function(u), function(v), weight)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize(
    ("means", "activation", "tolerance"),
    [
        (erf_duals, ERF, 1e-10),
        (identity_duals, IDENTITY, 1e-10),
        (relu_duals, RELU, 1e-2),  # a jump costs the trapezoid rule one step, 0.017, times the density
    ],
)
def test_closed_forms_are_gaussian_means(means, activation, correlation, tolerance):
    result = means(pairs(0.8, 2.5, correlation))
    assert_close(result.value[0, 0], quadrature(activation.value, 0.8, 2.5, correlation), rtol=0, atol=tolerance)
    assert_close(
        result.derivative[0, 0], quadrature(activation.derivative, 0.8, 2.5, correlation), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("means", [erf_duals, identity_duals, relu_duals])
def test_the_pairs_handed_on_are_those_of_the_activations(means, correlation):
    result = means(pairs(0.8, 2.5, correlation))
    assert_close(result.pairs.covariance(), result.value)
    for side, variance in ((result.pairs.variance1, 0.8), (result.pairs.variance2, 2.5)):
        assert_close(side, means(pairs(variance, variance, 1.0)).value[0])
    assert_close(result.pairs.below + result.pairs.above, torch.full((1, 1), 2.0, dtype=torch.float64))


def test_arc_cosine_values_are_known_at_special_angles():
    """φ = 0: A/2 and 1/2; φ = π/2: √(AB)/(2π) and 1/4; φ = π: 0 and 0."""
    for correlation, value, derivative in ((1.0, 1.0, 0.5), (0.0, 1 / math.pi, 0.25), (-1.0, 0.0, 0.0)):
        result = relu_duals(pairs(2.0, 2.0, correlation))
        assert_close(result.value.item(), value)
        assert_close(result.derivative.item(), derivative)


@pytest.mark.parametrize("angle", [1e-8, 1e-5, 1e-2])
def test_small_angles_keep_their_digits(angle):
    """1 − (sin φ + (π−φ) cos φ)/π = φ²/2 − φ³/(3π) + O(φ⁴): from cos φ alone nothing would be left at φ = 1e-8."""
    one = torch.ones(1, dtype=torch.float64)
    below = torch.full((1, 1), 2 * math.sin(angle / 2) ** 2, dtype=torch.float64)
    result = relu_duals(Pairs(one, one, below, 2 - below))
    expected = angle**2 / 2 - angle**3 / (3 * math.pi)
    assert_close(result.pairs.below.item(), expected, rtol=max(angle**2, 1e-7), atol=0)  # next term; rounding ε/φ
    assert_close(1 - 2 * result.derivative.item(), angle / math.pi, rtol=1e-7, atol=1e-16)


@pytest.mark.parametrize("correlation", [-0.8, 0.2, 0.9])
def test_the_derivative_mean_is_the_slope_of_the_value_mean(correlation):
    """d E σ(u)σ(v) / d C = E σ'(u)σ'(v) for the covariance C."""
    for means in (relu_duals, erf_duals, identity_duals):
        c = torch.tensor([[correlation]], dtype=torch.float64, requires_grad=True)
        one = torch.tensor([1.7], dtype=torch.float64)
        result = means(Pairs(one, one, 1 - c, 1 + c))
        slope = torch.autograd.grad(result.value.sum(), c)[0] / 1.7
        assert_close(slope, result.derivative.detach())


@pytest.mark.parametrize("variance", [0.01, 1.0, 7.0])
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_the_hermite_series_is_the_closed_form_of_erf(correlation, variance):
    argument = pairs(variance, 1.3, correlation)
    for field in ("value", "derivative"):
        assert_close(getattr(hermite_duals(argument, ERF), field), getattr(erf_duals(argument), field))


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("activation", [TANH, SOFTPLUS])
def test_the_hermite_series_is_the_gaussian_mean(activation, correlation):
    result = hermite_duals(pairs(0.8, 2.5, correlation), activation)
    for field, function in (("value", activation.value), ("derivative", activation.derivative)):
        expected = quadrature(function, 0.8, 2.5, correlation)
        assert_close(getattr(result, field)[0, 0], expected, rtol=0, atol=1e-10)  # of the trapezoid rule


def test_the_hermite_series_refuses_what_it_cannot_resolve():
    hermite_duals(pairs(100.0, 100.0, 0.5), TANH)  # damped by the correlation
    with pytest.raises(ValueError, match="Hermite series of the activation misses"):
        hermite_duals(pairs(100.0, 100.0, 0.99), TANH)
    with pytest.raises(ValueError, match="is not resolved at a pre-activation variance of 1e\\+06"):
        hermite_duals(pairs(1e6, 1e6, 0.5), TANH)
