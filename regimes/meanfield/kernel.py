"""The tangent kernel of two-layer nets, in the units of their particle flow."""

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation, require_activation
from regimes.checks import alike, finite, positive, shapes
from regimes.meanfield.layout import equal_members
from regimes.meanfield.particles import Particles, require_particles


def tangent_kernel(
    particles: Particles,
    x1: Float[Tensor, "groups n1 d"],
    x2: Float[Tensor, "groups n2 d"],
    activation: Activation,
    *,
    scale: float | None = None,
) -> Float[Tensor, "runs n1 n2 k k"]:
    """Tangent kernel of the particle flow, Θ(x, x') = m Σ_weights ∂h(x) ∂h(x')ᵀ with h = s Σ_j a_j σ(b_j·x).

    Θ = m s² Σ_j [σ(b_j·x) σ(b_j·x') I + a_j a_jᵀ σ'(b_j·x) σ'(b_j·x') x·x'], sum over neurons; s = 1/m unless given,
    then Θ is O(1) in m. It is m times the kernel of the plain gradient.
    """
    values, slopes, products, factor = _kernel_parts("tangent_kernel", particles, x1, x2, activation, scale)
    k = particles.output.shape[2]
    outer, inner = (torch.einsum("rmk,rmn->rknm", particles.output, slope).flatten(1, 2) for slope in slopes)
    kernel = (outer @ inner.mT).unflatten(2, (k, -1)).unflatten(1, (k, -1)).permute(0, 2, 4, 1, 3)
    kernel = kernel * products[..., None, None]
    kernel.diagonal(dim1=3, dim2=4).add_((values[0].mT @ values[1])[..., None])
    return kernel.mul_(factor)


def tangent_kernel_trace(
    particles: Particles,
    x1: Float[Tensor, "groups n1 d"],
    x2: Float[Tensor, "groups n2 d"],
    activation: Activation,
    *,
    scale: float | None = None,
) -> Float[Tensor, "runs n1 n2"]:
    """Sum over outputs of the diagonal of `tangent_kernel`, without the (k, k) blocks; for k = 1 the kernel itself."""
    values, slopes, products, factor = _kernel_parts("tangent_kernel_trace", particles, x1, x2, activation, scale)
    weighted = slopes[0].mul_(particles.output.square().sum(2, keepdim=True))
    kernel = (weighted.mT @ slopes[1]).mul_(products)
    kernel.add_(values[0].mT @ values[1], alpha=particles.output.shape[2])
    return kernel.mul_(factor)


def _kernel_parts(
    caller: str, particles: Particles, x1: Tensor, x2: Tensor, activation: Activation, scale: float | None
) -> tuple[list[Tensor], list[Tensor], Tensor, float]:
    """σ and σ' of the neurons on both sets as (runs, m, n), the products x·x' and the factor m s²."""
    require_particles(caller, particles)
    arrays = {"x1": (x1, "groups n1 d"), "x2": (x2, "groups n2 d"), "input": (particles.input, "_ _ d")}
    shapes(caller, cure="Inputs are (groups, n, d): x[None] for one group", optional=(), **arrays)
    alike(caller, x1=x1, x2=x2, particles=particles.input)
    finite(caller, x1=x1, x2=x2, **particles._asdict())  # σ may map inf to a plausible number
    require_activation(activation, caller)
    if scale is not None:
        positive(caller, "scale", scale, single=True)
    members = equal_members(len(x1), particles.runs)[0]
    sets = (x1, x2)
    before = [(particles.input.unflatten(0, (len(x), members)) @ x.mT[:, None]).flatten(0, 1) for x in sets]
    products = (sets[0] @ sets[1].mT).repeat_interleave(members, dim=0)
    m = particles.width
    factor = 1 / m if scale is None else m * scale**2
    return [activation.value(s) for s in before], [activation.derivative(s) for s in before], products, factor
