import math

import pytest
import torch
from refusing import given_or_refused
from torch.testing import assert_close

from regimes.activations import (
    ABSOLUTE,
    ACTIVATIONS,
    ERF,
    GELU,
    IDENTITY,
    LOGISTIC,
    RELU,
    SOFTPLUS,
    TANH,
    Activation,
    activation,
    piecewise_linear,
    require_activation,
)

EVERY = pytest.mark.parametrize("unit", [*ACTIVATIONS.values(), LOGISTIC], ids=lambda unit: unit.name)
GRID = torch.linspace(-30, 30, 600_001, dtype=torch.float64)


@EVERY
def test_the_derivative_is_that_of_autograd(unit):
    s = torch.randn(1000, dtype=torch.float64).mul(3).requires_grad_()
    (expected,) = torch.autograd.grad(unit.value(s).sum(), s)
    assert_close(unit.derivative(s.detach()), expected)


def test_relu_has_derivative_zero_at_zero_as_in_torch():
    assert RELU.derivative(torch.zeros(1)).item() == 0
    assert RELU.pull is not None
    assert RELU.pull(torch.ones(1), torch.zeros(1), torch.empty(1)).item() == 0


@EVERY
def test_the_lipschitz_constant_is_the_supremum_of_the_derivative(unit):
    assert_close(unit.derivative(GRID).abs().max().item(), unit.lipschitz, rtol=1e-9, atol=0)  # grid of 1e-4


@EVERY
def test_the_second_constant_is_the_supremum_of_the_second_derivative(unit):
    if unit is RELU:
        assert unit.lipschitz_derivative == math.inf
        return
    slopes = unit.derivative(GRID)
    second = (slopes[2:] - slopes[:-2]) / (GRID[2:] - GRID[:-2])
    assert_close(
        second.abs().max().item(), unit.lipschitz_derivative, rtol=1e-7, atol=1e-9
    )  # central differences on a grid of 1e-4: error of order 1e-8


def test_the_constants_are_the_known_numbers():
    assert_close(TANH.lipschitz_derivative, 4 / (3 * math.sqrt(3)))
    assert_close(ERF.lipschitz, 2 / math.sqrt(math.pi))
    assert_close(ERF.lipschitz_derivative, 2 * math.sqrt(2 / (math.pi * math.e)))
    assert SOFTPLUS.lipschitz_derivative == 1 / 4
    assert IDENTITY.lipschitz_derivative == 0


@EVERY
def test_the_flag_says_whether_the_activation_vanishes_at_zero(unit):
    at_zero = unit.value(torch.zeros((), dtype=torch.float64)).item()
    assert unit.vanishes_at_zero == (at_zero == 0)


@EVERY
def test_exactly_the_homogeneous_activations_are_marked(unit):
    s = torch.randn(1000, dtype=torch.float64)
    obeys = torch.allclose(unit.value(2.5 * s), 2.5 * unit.value(s))
    assert unit.homogeneous == obeys


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fast_forms_work_in_place_and_agree_with_the_plain_ones(unit, dtype):
    if unit.write is None:
        return
    s, u = torch.randn(7, 5, 11, dtype=dtype) * 3, torch.randn(7, 1, 11, dtype=dtype)
    memory = s.clone()
    unit.write(memory, memory)
    assert_close(memory, unit.value(s))
    elsewhere = torch.empty_like(memory)
    unit.pull(u, memory, elsewhere)
    assert_close(memory, unit.value(s))
    unit.pull(u, memory, memory)
    assert_close(memory, u * unit.derivative(s))
    assert_close(elsewhere, memory)


def test_softplus_keeps_all_digits_of_a_float64():
    s = torch.tensor([-700.0, -40.0, 0.0, 20.5, 25.0, 39.0, 45.0, 700.0], dtype=torch.float64)
    assert_close(SOFTPLUS.value(s), torch.logaddexp(s, torch.zeros_like(s)), rtol=4e-16, atol=0)  # two roundings


def test_activations_are_found_by_name():
    assert activation("tanh") is TANH


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'swish'.*relu, softplus, tanh, erf, gelu, identity"):
        activation("swish")


def steep(rate, place=0.0):
    return Activation(
        f"steep {rate:g}",
        lambda s: torch.tanh(rate * (s - place)),
        lambda s: rate * (1 - torch.tanh(rate * (s - place)).square()),
        rate,
        4 / (3 * math.sqrt(3)) * rate**2,
        place == 0,
    )


ELU = Activation("elu", torch.nn.functional.elu, lambda s: s.clamp(max=0).exp(), 1.0, 1.0, True)
HARD = Activation("hard", lambda s: s.clamp(-1, 1), lambda s: (s.abs() < 1).to(s), 1.0, math.inf, True)
JUMP = Activation("jump", torch.sign, torch.zeros_like, math.inf, math.inf, True)
SINE = Activation("sine", torch.sin, torch.cos, 1.0, 1.0, True)
RIGHT = [*ACTIVATIONS.values(), LOGISTIC, ABSOLUTE, piecewise_linear(0.1), ELU, HARD, JUMP, SINE]
STEEP = [steep(rate, place) for rate in (3, 30, 100, 300, 1e3, 1e4, 1e9) for place in (0.0, 0.0051, 1.0)]


PRELU = torch.nn.PReLU()  # weights in float32
LEARNED = Activation("prelu", PRELU, lambda s: torch.where(s > 0, 1.0, PRELU.weight), 1.0, math.inf, True)


@pytest.mark.parametrize("unit", [*RIGHT, *STEEP, LEARNED])
def test_an_activation_that_is_what_it_says_is_taken_however_steep(unit):
    assert given_or_refused(lambda: require_activation(unit, "test")) == (None, "")


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (TANH._replace(derivative=lambda s: 1 - torch.tanh(s)), "derivative is not the derivative"),
        (TANH._replace(derivative=lambda s: 2 * (1 - torch.tanh(s).square()), lipschitz=2.0), "derivative is not"),
        (RELU._replace(value=SOFTPLUS.value), "derivative is not"),
        (SINE._replace(derivative=lambda s: -torch.cos(s)), "derivative is not"),
        (SINE._replace(value=lambda s: torch.sin(2 * s), derivative=lambda s: 2 * torch.cos(2 * s)), "lipschitz is 1,"),
        (GELU._replace(lipschitz=1.0), r"lipschitz is 1, and 1\.1"),
        (SINE._replace(lipschitz_derivative=0.5), "lipschitz_derivative is 0.5"),
        (SOFTPLUS._replace(vanishes_at_zero=True), "vanishes_at_zero is said"),
        (TANH._replace(homogeneous=True), "homogeneous is said"),
        (RELU._replace(slopes=(0.1, 1.0)), "slopes is said"),
        (SINE._replace(value=lambda s: s.sin().sum()), "not elementwise"),
    ],
)
def test_an_activation_that_is_not_what_it_says_is_refused(unit, message):
    with pytest.raises(ValueError, match=message):
        require_activation(unit, "test")
