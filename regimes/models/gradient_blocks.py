"""Residual functions that are minus the gradient of a convex function: their flows never move states apart."""

from jaxtyping import Float
from torch import Tensor, nn

from regimes.activations import TANH, Activation, require_activation
from regimes.checks import count
from regimes.models.potentials import gradient


class GradientField(nn.Module):
    """r(z) = −Aᵀσ(Az + b), minus the gradient of V(z) = Σ_j ∫₀^{(Az+b)_j} σ: a residual function for `Block`.

    A is (hidden, width), hidden = width unless given; one matrix serves both layers. states: (n, *, width).
    With 0 ≤ σ' ≤ c everywhere (relu, tanh, softplus, logistic, identity: c = 1), ‖·‖ the largest singular value and Δ
    the difference of two states, ⟨Δr, Δz⟩ ≤ −‖Δr‖²/(c‖A‖²) ≤ 0. So no two states of z' = r(z) ever move apart, and no
    two of z + h r(z) do if h ≤ 2/(c‖A‖²); the factor h is the `scale` of a Block. Where σ' < 0 somewhere (gelu), r is
    still a gradient, and nothing is said of distances. Source: [Celledoni2021] for the flow.
    """

    def __init__(self, width: int, hidden: int | None = None, *, activation: Activation = TANH) -> None:
        super().__init__()
        count("GradientField", "width", width)
        hidden = width if hidden is None else count("GradientField", "hidden", hidden)
        require_activation(activation, "GradientField")
        self.linear = nn.Linear(width, hidden)
        self.activation = activation

    def forward(self, z: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """r(z)."""
        return -gradient(self.linear, self.activation, z)
