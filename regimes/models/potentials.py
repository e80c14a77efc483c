"""Potentials V(z) = Σ γ(Az + b) of a linear or convolutional A, whose gradients Aᵀσ(Az + b), σ = γ', move a state."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from regimes.activations import ACTIVATIONS, TANH, Activation, require_activation
from regimes.checks import count, function, kind


def _log_cosh(s: Tensor) -> Tensor:
    size = s.abs()
    near = torch.log1p(2 * torch.sinh(size.clamp(max=1) / 2).square())
    return torch.where(size < 1, near, size + functional.softplus(-2 * size) - math.log(2))


def _of_gelu(s: Tensor) -> Tensor:
    """(s²Φ(s) + r(s))/2 with r(s) = sφ(s) − Φ(s) + ½ = −∫_0^s t²φ(t) dt, near 0 by the series of φ."""
    square, terms, term = s.clamp(-1, 1).square(), 0.0, 1.0
    for k in range(12):
        terms = terms + term / (2 * k + 3)
        term = term * square / (-2 * (k + 1))
    root = math.sqrt(2 * math.pi)
    far = s * torch.exp(-s.square() / 2) / root - torch.erf(s / math.sqrt(2)) / 2
    rest = torch.where(s.abs() < 1, -s * square * terms / root, far)
    return (s.square() * torch.special.ndtr(s) + rest) / 2


# γ with γ' = σ and γ(0) = 0, by the name of σ.
PRIMITIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda s: torch.relu(s).square() / 2,
    "tanh": _log_cosh,
    "erf": lambda s: s * torch.erf(s) + torch.expm1(-s.square()) / math.sqrt(math.pi),
    "gelu": _of_gelu,
    "identity": lambda s: s.square() / 2,
}


def gradient(linear: nn.Linear | nn.Conv2d, activation: Activation, z: Tensor) -> Tensor:
    """Aᵀσ(Az + b)."""
    # One weight for A and for its transpose: a parametrisation could give another one at the second look.
    with parametrize.cached() if parametrize.is_parametrized(linear) else nullcontext():
        forces = activation.value(linear(z))
        if isinstance(linear, nn.Conv2d):
            places = {"padding": linear.padding, "dilation": linear.dilation, "groups": linear.groups}
            return functional.conv_transpose2d(forces, linear.weight, **places)
        return functional.linear(forces, linear.weight.T)


class Potential(nn.Module):
    """z ↦ ∇V(z) = Aᵀσ(Az + b); `value` is V. Its Jacobian AᵀDA, D = diag σ'(Az + b), is symmetric.

    A is an nn.Linear, or an nn.Conv2d of stride 1 with zeros around the image, possibly with parametrised weights.
    Source: [Celledoni2021].
    """

    def __init__(self, linear: nn.Linear | nn.Conv2d, activation: Activation = TANH) -> None:
        super().__init__()
        kind("Potential", "linear", linear, nn.Linear | nn.Conv2d, "an nn.Linear or nn.Conv2d")
        require_activation(activation, "Potential")
        if type(linear).forward not in (nn.Linear.forward, nn.Conv2d.forward):
            raise ValueError(
                f"Potential needs a layer that applies its weight as it is, so that its transpose can be applied; got "
                f"{type(linear).__name__}. Take nn.Linear with a parametrisation of its weight."
            )
        if isinstance(linear, nn.Conv2d) and (set(linear.stride) != {1} or linear.padding_mode != "zeros"):
            raise ValueError(
                f"Potential needs a convolution of stride 1 with zeros around the image, so that its transpose maps "
                f"back; got stride {linear.stride} and {linear.padding_mode}. Change the convolution."
            )
        if isinstance(linear, nn.Conv2d) and isinstance(linear.padding, str):
            raise ValueError(f"Potential needs padding as numbers; got {linear.padding!r}. Use kernel_size // 2.")
        self.linear, self.activation = linear, activation

    def forward(self, z: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """∇V(z)."""
        return gradient(self.linear, self.activation, z)

    def value(self, z: Float[Tensor, "n *feature"]) -> Float[Tensor, " n"]:
        """V(z) of each sample. ValueError where γ has no closed form."""
        name = self.activation.name
        if name not in PRIMITIVES or self.activation != ACTIVATIONS[name]:
            raise ValueError(
                f"Potential.value needs an activation with a known integral, one of {', '.join(PRIMITIVES)} of "
                f"regimes.activations; got {name!r}{' of its own' if name in PRIMITIVES else ''}. Pass one of those."
            )
        return PRIMITIVES[name](self.linear(z)).flatten(1).sum(1)


class GradientOf(nn.Module):
    """z ↦ ∇V(z), or (t, z) ↦ ∇V(t, z), of any function V that gives one number a sample, by autograd."""

    def __init__(self, energy: Callable[..., Tensor]) -> None:
        super().__init__()
        function("GradientOf", energy=energy)
        self.energy = energy

    def forward(self, *inputs: Float[Tensor, "n *feature"] | float) -> Float[Tensor, "n *feature"]:
        *time, z = inputs
        return torch.func.grad(lambda state: self.energy(*time, state).sum())(z)


def dense_potential(width: int, hidden: int | None = None, activation: Activation = TANH) -> Potential:
    """V of a dense A from `width` to `hidden` features, as many unless given."""
    count("dense_potential", "width", width)
    hidden = width if hidden is None else count("dense_potential", "hidden", hidden)
    return Potential(nn.Linear(width, hidden), activation)


def convolutional_potential(
    channels: int, hidden: int | None = None, activation: Activation = TANH, *, kernel: int = 3
) -> Potential:
    """V of a convolution from `channels` to `hidden` channels, as many unless given, that keeps the resolution."""
    count("convolutional_potential", "channels", channels)
    hidden = channels if hidden is None else count("convolutional_potential", "hidden", hidden)
    if count("convolutional_potential", "kernel", kernel) % 2 == 0:
        raise ValueError(f"convolutional_potential needs an odd kernel; got {kernel}: the image would change its size.")
    return Potential(nn.Conv2d(channels, hidden, kernel, padding=kernel // 2), activation)
