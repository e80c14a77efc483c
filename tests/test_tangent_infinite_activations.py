import math
from typing import NamedTuple

import pytest
import torch
from first_calls import forget_all
from refusing import given_or_refused
from torch.testing import assert_close

from regimes.activations import (
    ABSOLUTE,
    ACTIVATIONS,
    ERF,
    GELU,
    IDENTITY,
    RELU,
    SOFTPLUS,
    TANH,
    Activation,
    piecewise_linear,
)
from regimes.tangent.infinite import Dense, Nonlinearity, Serial, infinite_kernels
from regimes.tangent.infinite.activations import form_of
from regimes.tangent.infinite.closed_forms import closed_form
from regimes.tangent.infinite.quadrature import quadrature_form
from regimes.tangent.infinite.series import series_form
from regimes.tangent.infinite.state import Pairs

pytestmark = pytest.mark.slow

CORRELATIONS = [-1.0, -0.9, -0.3, 0.0, 0.5, 0.99, 1.0]
LEAKY = piecewise_linear(0.1)
KNOWN = [RELU, LEAKY, ABSOLUTE, IDENTITY, ERF, GELU]
EACH = pytest.mark.parametrize("activation", KNOWN, ids=lambda each: each.name)


def elu(s):
    return torch.where(s > 0, s, torch.expm1(s.clamp(max=0)))


ELU = Activation("elu", elu, lambda s: torch.where(s > 0, 1.0, s.clamp(max=0).exp()), 1.0, math.inf, True)
HARD = Activation("hard tanh", lambda s: s.clamp(-1, 1), lambda s: (s.abs() < 1).to(s), 1.0, math.inf, True)
STEP = Activation("step", torch.sign, torch.zeros_like, math.inf, math.inf, True)


class Means(NamedTuple):
    gap: torch.Tensor
    total: torch.Tensor
    slope: torch.Tensor


def means(form, gap, total, *roots):
    """What a form makes of pairs whose tangent kernel is 1, so that it becomes E σ'σ'."""
    found = form.pairs(Pairs(gap / 3, total / 3, torch.ones_like(gap) / 3, 3.0), *roots).plain()
    return Means(*found[:3])


def of(form, variance1, variance2, correlation):
    """The means at one pair, after 1 − c, 1 + c and the roots of the variances."""
    c = torch.tensor([[correlation]], dtype=torch.float64)
    a, b = (c.new_tensor([[v]]).sqrt() for v in (variance1, variance2))
    return means(form, a * b * (1 - c), a * b * (1 + c), (a, b), (form.root(a), form.root(b)))


def value(found):
    return (found.total - found.gap) / 2


def plane(function, variance1, variance2, correlation, nodes=1201, reach=10.0):
    """E f(u)f(v) by the trapezoid rule in two independent variables, the slow exact version."""
    g = torch.linspace(-reach, reach, nodes, dtype=torch.float64)
    weight = torch.exp(-g.square() / 2)
    weight = weight / weight.sum()
    u = variance1**0.5 * g
    v = variance2**0.5 * (correlation * g[:, None] + math.sqrt(1 - correlation**2) * g)
    return torch.einsum("i,i,ij,j->", weight, function(u), function(v), weight)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@EACH
def test_closed_forms_are_gaussian_means(activation, correlation):
    tolerance = 1e-2 if activation.lipschitz_derivative == math.inf else 1e-10  # a jump costs the trapezoid rule a step
    found = of(closed_form(activation), 0.8, 2.5, correlation)
    for mean, function in ((value(found), activation.value), (found.slope, activation.derivative)):
        assert_close(mean.item(), plane(function, 0.8, 2.5, correlation).item(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@EACH
def test_quadrature_over_the_plane_is_the_closed_form(activation, correlation):
    known = of(closed_form(activation), 0.8, 2.5, correlation)
    for mine, other in zip(of(quadrature_form(activation, 1e-9), 0.8, 2.5, correlation), known, strict=True):
        assert_close(mine, other, rtol=1e-9, atol=1e-9)  # what it promises


@pytest.mark.parametrize("variance", [0.01, 1.0, 7.0])
@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("activation", [ERF, GELU], ids=lambda each: each.name)
def test_the_hermite_series_is_the_closed_form(activation, correlation, variance):
    known = of(closed_form(activation), variance, 1.3, correlation)
    for mine, other in zip(of(series_form(activation, 1e-9), variance, 1.3, correlation), known, strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("activation", [TANH, SOFTPLUS])
def test_the_hermite_series_is_the_gaussian_mean(activation, correlation):
    found = of(series_form(activation, 1e-9), 0.8, 2.5, correlation)
    for mean, function in ((value(found), activation.value), (found.slope, activation.derivative)):
        expected = plane(function, 0.8, 2.5, correlation).item()
        assert_close(mean.item(), expected, rtol=0, atol=1e-10)  # of the trapezoid rule


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_an_activation_that_bends_at_zero_goes_by_quadrature(correlation):
    found = of(form_of(ELU, 1e-9), 0.8, 2.5, correlation)
    assert_close(value(found).item(), plane(ELU.value, 0.8, 2.5, correlation).item(), rtol=0, atol=1e-4)  # of the plane
    assert_close(found.gap + found.total, 2 * _length(ELU, 0.8) * _length(ELU, 2.5))


def _length(activation, variance):
    return form_of(activation, 1e-9).root(torch.tensor([[variance**0.5]], dtype=torch.float64))


def test_where_the_series_does_not_end_quadrature_goes_on():
    steep = of(form_of(TANH, 1e-6), 100.0, 100.0, 0.99)
    assert_close(value(steep).item(), plane(TANH.value, 100.0, 100.0, 0.99).item(), rtol=0, atol=1e-6)  # as asked for


def test_what_quadrature_cannot_resolve_is_refused_with_its_error():
    with pytest.raises(
        ValueError, match=r"of 'hard tanh' by quadrature are known to \d\.\de-0\d here, and tolerance=1.0e-09"
    ):
        of(form_of(HARD, 1e-9), 1.0, 1.0, 0.5)
    rough = of(form_of(HARD, 0.1), 1.0, 1.0, 0.5)
    assert_close(value(rough).item(), plane(HARD.value, 1.0, 1.0, 0.5).item(), rtol=0, atol=1e-2)  # as asked for


def steep(rate, place):
    """tanh(k (s − s0)): between the nodes of a rule its derivative is 0, and the values are those of a step."""
    return Activation(
        f"steep {rate:g}",
        lambda s: torch.tanh(rate * (s - place)),
        lambda s: rate / torch.cosh((rate * (s - place)).clamp(-300, 300)).square(),
        rate,
        4 / (3 * math.sqrt(3)) * rate**2,
        place == 0,
    )


@pytest.mark.parametrize("tolerance", [1e-9, 1e-3])
@pytest.mark.parametrize("place", [0.0, 0.0051, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("rate", [3.0, 30.0, 100.0, 1e3, 1e4, 1e6, 1e9])
def test_a_steep_activation_is_right_or_refused(rate, place, tolerance):
    activation = steep(rate, place)
    g = torch.linspace(place - 20 / rate, place + 20 / rate, 20_001, dtype=torch.float64)
    density = torch.exp(-g.square() / 2) / math.sqrt(2 * math.pi)
    expected = float(torch.trapezoid(activation.derivative(g).square() * density, g))
    net = Serial(Dense(), Nonlinearity(activation, tolerance=tolerance), Dense())
    found, refusal = given_or_refused(lambda: infinite_kernels(net, torch.ones(1, 1, dtype=torch.float64)))
    if found is None:
        assert rate > 3
        assert "tolerance=" in refusal
    else:
        assert rate < 100
        assert_close(float(found.ntk - found.nngp), expected, rtol=10 * tolerance, atol=0)


@pytest.mark.parametrize("scale", [1e-155, 1e-75, 1e-60, 1e30, 1e40, 1e80, 1e150])
@pytest.mark.parametrize("activation", KNOWN, ids=lambda each: each.name)
def test_variances_beyond_float64_are_refused(activation, scale):
    """Within its range a net whose kernel has one slope near 0 and one far away has that kernel of a line."""
    x = scale * torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    net = Serial(Dense(), Nonlinearity(activation), Dense())
    if not 1e-70 <= scale / 2 <= scale <= 1e35:
        with pytest.raises(ValueError, match="from 1e-70 to 1e\\+35"):
            infinite_kernels(net, x)
        return
    found = infinite_kernels(net, x).nngp
    expected = 1.0 if activation is ERF and scale > 1 else 0.5
    assert_close(float(found[0, 1] / found[0, 0]), expected, rtol=1e-9, atol=0)


def test_the_hermite_series_refuses_what_it_cannot_resolve():
    series = series_form(TANH, 1e-9)
    of(series, 100.0, 100.0, 0.5)  # damped by the correlation
    with pytest.raises(ValueError, match="Hermite series of the activation misses"):
        of(series, 100.0, 100.0, 0.99)
    with pytest.raises(ValueError, match="is not resolved at a pre-activation variance of 1e\\+06"):
        of(series, 1e6, 1e6, 0.5)


def test_an_activation_that_jumps_is_refused():
    with pytest.raises(ValueError, match="need an activation without jumps; got 'step'"):
        form_of(STEP, 1e-9)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@EACH
def test_the_gap_and_the_total_handed_on_are_those_of_the_activations(activation, correlation):
    form = closed_form(activation)
    found = of(form, 0.8, 2.5, correlation)
    lengths = [value(of(form, variance, variance, 1.0)).sqrt() for variance in (0.8, 2.5)]
    assert_close((found.gap + found.total) / 2, lengths[0] * lengths[1])
    for variance, length in zip((0.8, 2.5), lengths, strict=True):
        assert_close(form.root(torch.tensor([[variance**0.5]], dtype=torch.float64)), length)


def test_arc_cosine_values_are_known_at_special_angles():
    """φ = 0: A/2 and 1/2; φ = π/2: √(AB)/(2π) and 1/4; φ = π: 0 and 0."""
    for correlation, mean, slope in ((1.0, 1.0, 0.5), (0.0, 1 / math.pi, 0.25), (-1.0, 0.0, 0.0)):
        found = of(closed_form(RELU), 2.0, 2.0, correlation)
        assert_close(value(found).item(), mean)
        assert_close(found.slope.item(), slope)


@pytest.mark.parametrize("angle", [1e-8, 1e-5, 1e-2])
@pytest.mark.parametrize("opposite", [False, True])
def test_small_angles_keep_their_digits(angle, opposite):
    """1 − (sin φ + (π−φ) cos φ)/π = φ²/2 − φ³/(3π) + O(φ⁴): from cos φ alone nothing would be left at φ = 1e-8.

    For |u||v| it is φ² − 2φ³/(3π)·2, near opposite points too.
    """
    one = torch.ones(1, 1, dtype=torch.float64)
    gap = torch.full((1, 1), 2 * math.sin(angle / 2) ** 2, dtype=torch.float64)
    pair = (2 - gap, gap) if opposite else (gap, 2 - gap)
    found = means(closed_form(ABSOLUTE), *pair, (one, one), (one, one))
    expected = angle**2 / 2 - 2 * angle**3 / (3 * math.pi)
    assert_close(found.gap.item(), expected, rtol=max(angle**2, 1e-7), atol=0)  # next term; rounding ε/φ
    assert_close(abs(found.slope.item()), 1 - 2 * angle / math.pi, rtol=1e-15, atol=0)  # sharper than the default
    if not opposite:
        found = means(closed_form(RELU), *pair, (one, one), (one, one))
        expected = (angle**2 / 2 - angle**3 / (3 * math.pi)) / 2
        assert_close(found.gap.item(), expected, rtol=max(angle**2, 1e-7), atol=0)  # next term; rounding ε/φ
        assert_close(1 - 2 * found.slope.item(), angle / math.pi, rtol=1e-7, atol=1e-16)


@pytest.mark.parametrize("correlation", [-0.8, 0.2, 0.9])
@EACH
def test_the_slope_is_the_derivative_of_the_mean(activation, correlation):
    """d E σ(u)σ(v) / d C = E σ'(u)σ'(v) for the covariance C, by autograd."""
    form = closed_form(activation)
    c = torch.tensor([[correlation]], dtype=torch.float64, requires_grad=True)
    one = torch.full((1, 1), 1.7**0.5, dtype=torch.float64)
    ends = form.root(one), form.root(one)
    found = means(form, 1.7 * (1 - c), 1.7 * (1 + c), (one, one), ends)
    slope = torch.autograd.grad(value(found).sum(), c)[0] / 1.7
    assert_close(slope, found.slope.detach())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_named_activation_has_a_form(name):
    assert form_of(ACTIVATIONS[name], 1e-9).root(torch.ones(1, dtype=torch.float64)) > 0


def test_another_activation_of_a_known_name_goes_by_its_own_values():
    own = Activation("relu", lambda s: 2 * torch.tanh(s), lambda s: 2 / torch.cosh(s) ** 2, 2.0, 2.0, True)
    found, tanh = (of(form_of(each, 1e-9), 0.8, 2.5, 0.5) for each in (own, TANH))
    assert_close(value(found), 4 * value(tanh))


@pytest.mark.parametrize("activation", [ERF, TANH, GELU, SOFTPLUS, ELU], ids=lambda each: each.name)
def test_equal_and_opposite_inputs_stay_so_after_a_smooth_activation(activation):
    """With a ReLU behind it, which takes the root of the difference: a rounding of 1 would be an angle of 1e-8."""
    x = torch.randn(6, 3, dtype=torch.float64)
    layers = (Dense(0.7), Nonlinearity(activation, tolerance=1e-5), Dense(1.5), Nonlinearity(RELU), Dense(1.0))
    alone = infinite_kernels(Serial(*layers), x)
    again = infinite_kernels(Serial(*layers), torch.cat([x, -x]).flip(0), x)
    for one, other in zip(alone, again, strict=True):
        assert_close(other[6:].flip(0).diagonal(), one.diagonal(), rtol=1e-14, atol=0)
        if activation in (ERF, TANH):
            assert (other[:6].flip(0).diagonal().abs() <= 1e-14 * one.diagonal()).all()


@pytest.mark.parametrize("activation", [SOFTPLUS, ELU], ids=lambda one: one.name)  # by series, by quadrature
def test_a_first_call_in_inference_mode_spoils_no_later_one(activation):
    net = Serial(Dense(), Nonlinearity(activation), Dense())
    x = torch.tensor([[1.0, 0.5], [0.2, -0.3]], dtype=torch.float64)
    forget_all()
    with torch.inference_mode():
        closed = infinite_kernels(net, x).ntk.clone()
    inputs = x.clone().requires_grad_()
    found = infinite_kernels(net, inputs).ntk
    found.sum().backward()
    assert_close(found.detach(), closed, rtol=0, atol=0)
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()
