"""Kernels of infinitely wide dense nets, by depth and deviations."""

from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation, require_activation
from regimes.checks import count, not_negative, positive, real, shapes
from regimes.tangent.infinite.kernels import Kernels, kernels_of
from regimes.tangent.infinite.layers import Dense, Nonlinearity, Serial


def _require_inputs(caller: str, x1: Tensor, x2: Tensor | None, activation: Activation) -> None:
    shapes(caller, x1=(x1, "n1 d"), x2=(x2, "n2 d"), cure="Flatten samples with x.flatten(1)", optional=("x2",))
    real(caller, x1=x1, x2=x2)
    require_activation(activation, caller)


def dense_kernels(
    x1: Float[Tensor, "n1 d"],
    x2: Float[Tensor, "n2 features"] | None = None,
    *,
    depth: int,
    activation: Activation,
    sigma_w: float = 2**0.5,
    sigma_b: float = 0.0,
) -> Kernels:
    """Infinite-width kernels of a dense net with `depth` hidden layers, NTK parametrisation (regimes.models.mlp.MLP).

    S_1 = σ_w² x·x'/d + σ_b², S_{l+1} = σ_w² E[σσ] + σ_b² under N(0, S_l), Ṡ_{l+1} = σ_w² E[σ'σ'];
    K_1 = S_1, K_{l+1} = S_{l+1} + K_l Ṡ_{l+1}. nngp = S_{depth+1}, ntk = K_{depth+1}; weights and biases trained (σ_b =
    0: no biases). float64 on the device of x1, exact for equal inputs, differentiable (gradient 0 at the kinks of the
    ReLU kernel). Activations: see Nonlinearity. Finite nets: fluctuation O(1/√m), bias of the mean O(1/m).
    Source: [JacotGabrielHongler2018].
    """
    _require_inputs("dense_kernels", x1, x2, activation)
    count("dense_kernels", "depth", depth, at_least=0)
    positive("dense_kernels", "sigma_w", sigma_w, single=True)
    not_negative("dense_kernels", "sigma_b", sigma_b, single=True)
    linear = Dense(sigma_w, sigma_b)
    return kernels_of("dense_kernels", Serial(linear, *(Nonlinearity(activation), linear) * depth), x1, x2)


def _hidden(caller: str, x1: Tensor, x2: Tensor | None, activation: Activation, std_a: float, std_b: float) -> Kernels:
    """E[σ(b·x)σ(b·x')] and std_b² x·x' E[σ'(b·x)σ'(b·x')]."""
    _require_inputs(caller, x1, x2, activation)
    not_negative(caller, "std_a", std_a, single=True)
    positive(caller, "std_b", std_b, single=True)
    return kernels_of(caller, Serial(Dense(std_b * x1.shape[-1] ** 0.5), Nonlinearity(activation)), x1, x2)


def two_layer_nngp(
    x1: Float[Tensor, "n1 d"],
    x2: Float[Tensor, "n2 features"] | None = None,
    *,
    activation: Activation,
    std_a: float = 1.0,
    std_b: float = 1.0,
) -> Float[Tensor, "n1 n2"]:
    """Covariance std_a² E[σ(b·x)σ(b·x')] of m^{−1/2} Σ_j a_j σ(b_j·x), a ~ N(0, std_a²), b ~ N(0, std_b² I)."""
    hidden = _hidden("two_layer_nngp", x1, x2, activation, std_a, std_b)
    return std_a**2 * hidden.nngp


def two_layer_ntk(
    x1: Float[Tensor, "n1 d"],
    x2: Float[Tensor, "n2 features"] | None = None,
    *,
    activation: Activation,
    std_a: float = 1.0,
    std_b: float = 1.0,
) -> Float[Tensor, "n1 n2"]:
    """Tangent kernel E[σ(b·x)σ(b·x')] + std_a² x·x' E[σ'(b·x)σ'(b·x')] of m^{−1/2} Σ_j a_j σ(b_j·x) as m → ∞; float64.

    It is also the limit of Θ = m Σ ∂h ∂hᵀ for h = 1/m Σ_j a_j σ(b_j·x), the kernel of the mean-field flow at its start.
    ReLU, unit variances: ‖x‖‖x'‖/(2π) (sin φ + (π−φ) cos φ) + x·x' (π−φ)/(2π). Source: [ChizatOyallonBach2019] section
    2.3.
    """
    hidden = _hidden("two_layer_ntk", x1, x2, activation, std_a, std_b)
    return hidden.nngp + (std_a / std_b) ** 2 * hidden.ntk
