"""Fully connected network; the parametrisation is an argument."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes import checks
from regimes.activations import Activation
from regimes.checks import count, kind, not_negative, positive, shapes


class Parametrisation(NamedTuple):
    """Where the factor of a layer lives: (σ, fan_in) -> (standard deviation of the draw, factor in the forward pass).

    All choices give the same function at random weights; they differ in the tangent kernel, thus in training.
    """

    name: str
    weight: Callable[[float, int], tuple[float, float]]
    bias: Callable[[float], tuple[float, float]]


def _ntk_weight(sigma: float, fan_in: int) -> tuple[float, float]:
    return 1.0, sigma / fan_in**0.5


def _ntk_bias(sigma: float) -> tuple[float, float]:
    return 1.0, sigma


def _standard_weight(sigma: float, fan_in: int) -> tuple[float, float]:
    return sigma / fan_in**0.5, 1.0


def _standard_bias(sigma: float) -> tuple[float, float]:
    return sigma, 1.0


NTK = Parametrisation("NTK", _ntk_weight, _ntk_bias)
STANDARD = Parametrisation("standard", _standard_weight, _standard_bias)


def require_activation(caller: str, activation: Any) -> None:
    """Refuse anything else than an Activation, such as its name or a torch module."""
    if not isinstance(activation, Activation):
        raise ValueError(
            f"{caller} needs an Activation of regimes.activations, which carries its derivative; got {activation!r}. "
            "Use for example regimes.activations.activation('relu')."
        )


class MLP(nn.Module):
    """z_1 = W_1 x + b_1, z_{l+1} = W_{l+1} σ(z_l) + b_{l+1}; W_ij ~ N(0, σ_w²/fan_in), b_i ~ N(0, σ_b²); output z_L.

    widths = (inputs, hidden..., outputs). With NTK (the default) the parameters are N(0, 1) and the forward pass
    multiplies by σ_w/√fan_in and σ_b, so that the tangent kernel has a limit of infinite width; with STANDARD the draw
    carries the factor. Without σ_b (0) there are no bias parameters. Draw order: layer by layer, weights before biases.
    Source: [JacotGabrielHongler2018]; recursion in regimes.tangent.infinite.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        activation: Activation,
        generator: torch.Generator,
        sigma_w: float = 2**0.5,
        sigma_b: float = 0.0,
        parametrisation: Parametrisation = NTK,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        kind("MLP", "widths", widths, Sequence, "a sequence of whole numbers")
        if len(widths) < 2:
            raise ValueError(f"MLP needs widths (inputs, hidden..., outputs), all at least 1; got {tuple(widths)}.")
        for width in widths:
            count("MLP", "every width", width)
        positive("MLP", "sigma_w", sigma_w, single=True)
        not_negative("MLP", "sigma_b", sigma_b, single=True)
        require_activation("MLP", activation)
        checks.generator("MLP", generator)
        kind("MLP", "parametrisation", parametrisation, Parametrisation, "NTK or STANDARD of regimes.models.mlp")
        self.activation = activation
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.weight_factors, self.bias_factor = [], 0.0
        options = {"generator": generator, "dtype": dtype, "device": generator.device}
        for fan_in, fan_out in pairwise(widths):
            std, factor = parametrisation.weight(sigma_w, fan_in)
            self.weights.append(nn.Parameter(std * torch.randn(fan_out, fan_in, **options)))
            self.weight_factors.append(factor)
            if sigma_b > 0:
                std, self.bias_factor = parametrisation.bias(sigma_b)
                self.biases.append(nn.Parameter(std * torch.randn(fan_out, **options)))

    def preactivations(self, x: Float[Tensor, "*batch d"]) -> list[Float[Tensor, "*batch _"]]:
        """z_1, ..., z_{L}: the hidden pre-activations, then the output."""
        shapes("MLP", x=(x, "*batch d"), weight=(self.weights[0], "width d"))
        states: list[Tensor] = []
        for layer, weight in enumerate(self.weights):
            x = self.weight_factors[layer] * (x @ weight.T)
            if len(self.biases):
                x = x + self.bias_factor * self.biases[layer]
            states.append(x)
            x = self.activation.value(x)
        return states

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch k"]:
        return self.preactivations(x)[-1]
