"""Two-layer network with its output scaling in view."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes import checks
from regimes.activations import Activation
from regimes.checks import count, positive, shapes
from regimes.models.mlp import require_activation


def mean_field_scale(width: int) -> float:
    """Output factor 1/m: the neurons are a sample of a measure, and training moves each of them at O(1)."""
    return 1 / width


def ntk_scale(width: int) -> float:
    """Output factor 1/√m: the output at random weights and the tangent kernel are O(1), the motion O(1/√m)."""
    return width**-0.5


class TwoLayer(nn.Module):
    """h(x) = scale · Σ_j a_j σ(b_j·x), sum over the m neurons, no biases.

    scale = 1/m unless given; a and b are drawn from N(0, std²), a first, then b, row by row.
    With scale s the tangent kernel of the plain parameters is s² Σ_j [...]; Θ = m Σ ∂h ∂hᵀ of the mean-field flow is m
    times it.
    Source: [ChizatOyallonBach2019].
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int = 1,
        *,
        activation: Activation,
        generator: torch.Generator,
        scale: float | None = None,
        std: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        for name, size in (("inputs", inputs), ("width", width), ("outputs", outputs)):
            count("TwoLayer", name, size)
        positive("TwoLayer", "std", std, single=True)
        if scale is not None:
            positive("TwoLayer", "scale", scale, single=True)
        require_activation("TwoLayer", activation)
        checks.generator("TwoLayer", generator)
        self.activation = activation
        self.scale = mean_field_scale(width) if scale is None else float(scale)
        options = {"generator": generator, "dtype": dtype, "device": generator.device}
        self.output_weights = nn.Parameter(std * torch.randn(width, outputs, **options))
        self.input_weights = nn.Parameter(std * torch.randn(width, inputs, **options))

    def preactivations(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch m"]:
        """b_j·x of every neuron."""
        shapes("TwoLayer", x=(x, "*batch d"), input_weights=(self.input_weights, "m d"))
        return x @ self.input_weights.T

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch k"]:
        return self.scale * (self.activation.value(self.preactivations(x)) @ self.output_weights)

    def extra_repr(self) -> str:
        width, inputs = self.input_weights.shape
        return f"{inputs} -> {width} -> {self.output_weights.shape[1]}, {self.activation.name}, scale={self.scale:.3g}"
