"""Activations σ with their derivative and the constants that the bounds need."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# softplus(s) = s + log(1 + e^{-s}): beyond 40 the second term is below the last digit of a float64.
_LINEAR_FROM = 40.0


class Activation(NamedTuple):
    """Scalar function σ, elementwise.

    lipschitz = sup|σ'| and lipschitz_derivative = sup|σ''| are exact (inf where σ' jumps).
    homogeneous: σ(cs) = cσ(s) for c > 0, so that s σ'(s) = σ(s).
    slopes: σ' below and above 0, for an activation that is linear on both sides and 0 at 0; None for all others.
    write and pull are optional fast forms for loops that own their memory:
    write(s, out) sets out = σ(s), out may be s itself;
    pull(u, v, out) sets out = u·σ'(s) where v = σ(s), u broadcasts against v, and out may be v itself.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    lipschitz: float
    lipschitz_derivative: float
    vanishes_at_zero: bool
    homogeneous: bool = False
    write: Callable[[Tensor, Tensor], Tensor] | None = None
    pull: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    slopes: tuple[float, float] | None = None


def _step(s: Tensor) -> Tensor:
    return (s > 0).to(s.dtype)


def _softplus(s: Tensor) -> Tensor:
    return functional.softplus(s, threshold=_LINEAR_FROM)


def _identity(s: Tensor) -> Tensor:
    return s


def _tanh_derivative(s: Tensor) -> Tensor:
    return 1 - torch.tanh(s).square()


def _erf_derivative(s: Tensor) -> Tensor:
    return (2 / math.sqrt(math.pi)) * torch.exp(-s.square())


def _normal_density(s: Tensor) -> Tensor:
    return torch.exp(-s.square() / 2) / math.sqrt(2 * math.pi)


def _logistic(s: Tensor) -> Tensor:
    return torch.sigmoid(4 * s)


def _logistic_derivative(s: Tensor) -> Tensor:
    return 4 * torch.sigmoid(4 * s) * torch.sigmoid(-4 * s)


def _gelu_derivative(s: Tensor) -> Tensor:
    return torch.special.ndtr(s) + s * _normal_density(s)


def _write_relu(s: Tensor, out: Tensor) -> Tensor:
    return torch.clamp_min(s, 0, out=out)


def _pull_relu(u: Tensor, v: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(u, v, 0, grad_input=out)


def _write_softplus(s: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.softplus.out(s, 1, _LINEAR_FROM, out=out)


def _pull_softplus(u: Tensor, v: Tensor, out: Tensor) -> Tensor:
    # σ'(s) = 1/(1 + e^{-s}) = 1 − e^{-σ(s)}
    return torch.mul(torch.expm1(v.neg() if out is not v else v.neg_(), out=out).neg_(), u, out=out)


def _write_tanh(s: Tensor, out: Tensor) -> Tensor:
    return torch.tanh(s, out=out)


def _pull_tanh(u: Tensor, v: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(u, v, grad_input=out)


RELU = Activation("relu", torch.relu, _step, 1.0, math.inf, True, True, _write_relu, _pull_relu, (0.0, 1.0))
SOFTPLUS = Activation("softplus", _softplus, torch.sigmoid, 1.0, 0.25, False, False, _write_softplus, _pull_softplus)
TANH = Activation(
    "tanh", torch.tanh, _tanh_derivative, 1.0, 4 / (3 * math.sqrt(3)), True, False, _write_tanh, _pull_tanh
)
ERF = Activation(
    "erf", torch.erf, _erf_derivative, 2 / math.sqrt(math.pi), math.sqrt(8 / (math.pi * math.e)), True, False
)
# sup|σ'| = Φ(√2) + √2 φ(√2); σ'' = (2 − s²) φ(s).
GELU = Activation(
    "gelu",
    functional.gelu,
    _gelu_derivative,
    (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi),
    2 / math.sqrt(2 * math.pi),
    True,
)
IDENTITY = Activation("identity", _identity, torch.ones_like, 1.0, 0.0, True, True, slopes=(1.0, 1.0))

ACTIVATIONS: dict[str, Activation] = {each.name: each for each in (RELU, SOFTPLUS, TANH, ERF, GELU, IDENTITY)}


def piecewise_linear(below: float, above: float = 1.0, name: str = "piecewise linear") -> Activation:
    """σ(s) = below·s for s < 0 and above·s for s > 0: the leaky ReLU, or the absolute value with below = −1.

    Not 0 on both sides: such a net has no kernel.
    """
    if below == 0 and above == 0:
        raise ValueError("piecewise_linear needs a slope that is not 0; got 0 on both sides. Change one of them.")

    def value(s: Tensor) -> Tensor:
        return torch.where(s > 0, above * s, below * s)

    def derivative(s: Tensor) -> Tensor:
        return below + (above - below) * _step(s)

    bend = 0.0 if below == above else math.inf
    return Activation(name, value, derivative, max(abs(below), abs(above)), bend, True, True, slopes=(below, above))


ABSOLUTE = piecewise_linear(-1.0, name="absolute")
# 1/(1 + e^{−4s}): scaled so that its slope is at most 1, and 1 at s = 0.
LOGISTIC = Activation("logistic", _logistic, _logistic_derivative, 1.0, 8 / (3 * math.sqrt(3)), False, False)


RISING = (RELU, SOFTPLUS, TANH, ERF, IDENTITY, LOGISTIC)  # σ' ≥ 0 everywhere


def require_rising(value: Activation, caller: str) -> None:
    """Refuse an activation that may fall: all but those of this file that never do and what has slopes of at least 0.

    What an activation says of its slopes is looked at in a few places.
    """
    if value in RISING:
        return
    low, high = value.slopes or (-1.0, -1.0)
    places = torch.tensor([-3.0, -1.5, -1e-3, 0.0, 1e-3, 1.5, 3.0], dtype=torch.float64)
    expected = torch.where(places > 0, high * places, low * places)
    rises = 0 <= low <= value.lipschitz < math.inf and 0 <= high <= value.lipschitz
    if not rises or not torch.allclose(value.value(places), expected, rtol=1e-12, atol=0.0):
        raise ValueError(
            f"{caller} needs an activation that never falls: one of {', '.join(one.name for one in RISING)}, or "
            f"piecewise_linear with slopes of at least 0; got {value.name}."
        )


def activation(name: str) -> Activation:
    """Activation of that name; ValueError lists the known ones."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation needs a known name; got {name!r}. Choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def require_activation(value: object, caller: str) -> None:
    """Refuse what is no Activation, such as its name or a torch module."""
    if not isinstance(value, Activation):
        raise ValueError(
            f"{caller} needs an Activation; got {value!r}. Use one of regimes.activations, such as "
            'activation("relu") or TANH.'
        )
    with torch.inference_mode(False), torch.device("cpu"):  # a network may be made on no device, to count its weights
        wrong = _contradiction(value)
    if wrong:
        raise ValueError(f"{caller} needs an Activation that is what it says; of {value.name!r} {wrong}. Correct it.")


@lru_cache(maxsize=64)
def _contradiction(one: Activation) -> str:
    """What an activation says of itself and is not true on a grid of [−8, 8]; "" if nothing is found.

    A kink, or a part that is narrower than some meshes of the grid, is no reason to doubt its derivative.
    """
    s = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    middle, h = (s[1:] + s[:-1]) / 2, float(s[1] - s[0])
    calls = ((one.value, s), (one.derivative, s), (one.derivative, middle))
    try:
        value, slope, between = (function(places.clone()).detach() for function, places in calls)
    except (RuntimeError, TypeError):
        return ""  # it takes other tensors than these, as a module with weights in float32 does
    if value.shape != s.shape or slope.shape != s.shape:
        return f"value and derivative are not elementwise: {tuple(s.shape)} becomes {tuple(value.shape)}"
    change, mean = value.diff() / h, (slope[1:] + 4 * between + slope[:-1]) / 6  # Simpson's rule
    size = torch.maximum(change.abs(), mean.abs())
    seen = size > 1e-6 * size.max()
    off = seen & ((change - mean).abs() > 0.02 * torch.stack([slope[1:], between, slope[:-1]]).abs().amax(0))
    if int(off.sum()) > 10 and int(off.sum()) > int(seen.sum()) / 2:
        return "derivative is not the derivative of value"
    most, bend = float(torch.cat([slope, between, change]).abs().max()), float((slope.diff() / h).abs().max())
    for name, said, found in (
        ("lipschitz", one.lipschitz, most),
        ("lipschitz_derivative", one.lipschitz_derivative, bend),
    ):
        if not found <= said * (1 + 1e-6) + 1e-9:
            return f"{name} is {said:.6g}, and {found:.6g} is found"
    if one.vanishes_at_zero and not abs(float(one.value(s.new_zeros(1)))) <= 1e-12:
        return "vanishes_at_zero is said, and value(0) is not 0"
    expected: dict[str, Tensor] = {}
    if one.slopes is not None:
        expected["slopes"] = torch.where(s > 0, one.slopes[1] * s, one.slopes[0] * s)
    if one.homogeneous:
        expected["homogeneous"] = one.value(2 * s).detach() / 2
    for name, values in expected.items():
        if not torch.allclose(value, values, rtol=1e-9, atol=1e-12):
            return f"{name} is said, and value is not so"
    return ""
