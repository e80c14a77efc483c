"""Kernels of infinitely wide networks at random weights: output covariance (NNGP) and tangent kernel (NTK)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation, require_activation
from regimes.checks import count, finite, not_negative, positive, real, shapes
from regimes.tangent.duals import CLOSED_FORMS, Duals, Pairs, root
from regimes.tangent.hermite import hermite_duals


class Kernels(NamedTuple):
    """nngp: covariance of one output at random weights; ntk: its tangent kernel (times the identity over outputs)."""

    nngp: Float[Tensor, "n1 n2"]
    ntk: Float[Tensor, "n1 n2"]


def _require_inputs(caller: str, x1: Tensor, x2: Tensor | None, activation: Activation) -> None:
    shapes(caller, x1=(x1, "n1 d"), x2=(x2, "n2 d"), cure="Flatten samples with x.flatten(1)", optional=("x2",))
    real(caller, x1=x1, x2=x2)
    finite(caller, x1=x1, x2=x2)
    require_activation(activation, caller)


def _gaussian_pairs(
    x1: Float[Tensor, "n1 d"], x2: Float[Tensor, "n2 d"], factor: float, offset: float
) -> tuple[Pairs, Float[Tensor, "n1 n2"]]:
    """Pairs with covariance factor·x·x' + offset, and that covariance. Same inputs give the correlation 1 exactly."""
    sides = []
    for x in (x1, x2):
        x = x.to(torch.float64)
        column = x.new_full((len(x), 1), offset**0.5)
        sides.append(torch.cat([factor**0.5 * x, column], 1))
    variances = [side.square().sum(1) for side in sides]
    units = [side / torch.where(v > 0, v, 1.0).sqrt()[:, None] for side, v in zip(sides, variances, strict=True)]
    exact = "donot_use_mm_for_euclid_dist"  # differences first: no cancellation for equal inputs
    below = torch.cdist(units[0], units[1], compute_mode=exact).square() / 2
    above = torch.cdist(units[0], -units[1], compute_mode=exact).square() / 2
    return Pairs(variances[0], variances[1], below, above), sides[0] @ sides[1].T


def _affine(pairs: Pairs, factor: float, offset: float) -> Pairs:
    """Pairs of the covariance factor·C + offset, without subtracting near numbers."""
    a, b = (factor * v for v in (pairs.variance1, pairs.variance2))
    if offset == 0:
        return Pairs(a, b, pairs.below, pairs.above)
    roots = root(a)[:, None], root(b)[None]
    before = roots[0] * roots[1]
    after = ((a + offset)[:, None] * (b + offset)).sqrt()
    gap = offset * (roots[0] - roots[1]).square() / (after + before + offset)
    below = (gap + before * pairs.below) / after
    above = (after - before + offset + before * pairs.above) / after
    return Pairs(a + offset, b + offset, below, above)


def _means(pairs: Pairs, activation: Activation) -> Duals:
    """The means for any activation: in closed form for relu, erf and identity, by Hermite series for smooth ones.

    ValueError: an activation with a jump in its derivative that has no closed form.
    """
    if activation.name in CLOSED_FORMS:
        return CLOSED_FORMS[activation.name](pairs)
    if activation.lipschitz_derivative == math.inf:
        raise ValueError(
            f"infinite-width kernels need a smooth activation or one of {', '.join(CLOSED_FORMS)}; "
            f"got {activation.name!r}."
        )
    return hermite_duals(pairs, activation)


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
    ReLU kernel). Activations: relu, erf, identity in closed form, smooth ones by Hermite series. Finite nets:
    fluctuation O(1/√m), bias of the mean O(1/m). Source: [JacotGabrielHongler2018].
    """
    _require_inputs("dense_kernels", x1, x2, activation)
    count("dense_kernels", "depth", depth, at_least=0)
    positive("dense_kernels", "sigma_w", sigma_w, single=True)
    not_negative("dense_kernels", "sigma_b", sigma_b, single=True)
    pairs, nngp = _gaussian_pairs(x1, x1 if x2 is None else x2, sigma_w**2 / x1.shape[-1], sigma_b**2)
    tangent = nngp
    for _ in range(depth):
        means = _means(pairs, activation)
        nngp = sigma_w**2 * means.value + sigma_b**2
        tangent = nngp + tangent * sigma_w**2 * means.derivative
        pairs = _affine(means.pairs, sigma_w**2, sigma_b**2)
    return Kernels(nngp, tangent)


def _require_two_layers(
    caller: str, x1: Tensor, x2: Tensor | None, activation: Activation, std_a: float, std_b: float
) -> None:
    _require_inputs(caller, x1, x2, activation)
    not_negative(caller, "std_a", std_a, single=True)
    positive(caller, "std_b", std_b, single=True)


def two_layer_nngp(
    x1: Float[Tensor, "n1 d"],
    x2: Float[Tensor, "n2 features"] | None = None,
    *,
    activation: Activation,
    std_a: float = 1.0,
    std_b: float = 1.0,
) -> Float[Tensor, "n1 n2"]:
    """Covariance std_a² E[σ(b·x)σ(b·x')] of m^{−1/2} Σ_j a_j σ(b_j·x), a ~ N(0, std_a²), b ~ N(0, std_b² I)."""
    _require_two_layers("two_layer_nngp", x1, x2, activation, std_a, std_b)
    pairs, _ = _gaussian_pairs(x1, x1 if x2 is None else x2, std_b**2, 0.0)
    return std_a**2 * _means(pairs, activation).value


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
    _require_two_layers("two_layer_ntk", x1, x2, activation, std_a, std_b)
    other = x1 if x2 is None else x2
    pairs, _ = _gaussian_pairs(x1, other, std_b**2, 0.0)
    means = _means(pairs, activation)
    return means.value + std_a**2 * (x1.to(torch.float64) @ other.to(torch.float64).T) * means.derivative
