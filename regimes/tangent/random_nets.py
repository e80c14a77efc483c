"""Kernels of many random finite networks at once, without building the networks."""

import torch
from jaxtyping import Float
from torch import Tensor

from regimes import checks
from regimes.activations import Activation, require_activation
from regimes.checks import count, finite, not_negative, positive, real, shapes
from regimes.tangent.infinite import Kernels


def random_dense_kernels(
    x: Float[Tensor, "n d"],
    *,
    nets: int,
    width: int,
    depth: int,
    activation: Activation,
    generator: torch.Generator,
    sigma_w: float = 2**0.5,
    sigma_b: float = 0.0,
) -> Kernels:
    """Kernels (nets, n, n) of `nets` random dense nets with `depth` >= 1 hidden layers of one width and one output.

    The nets are those of regimes.models.mlp.MLP in the NTK parametrisation. ntk is their tangent kernel; nngp is the
    covariance of the output over its last weights and bias, given all others: σ_w² h·h'/width + σ_b². Compare
    regimes.tangent.infinite.dense_kernels. Each layer adds (δ·δ')(σ_w² h·h'/fan_in + σ_b²), with h its inputs and δ the
    derivative of the output by its outputs, so that no derivative by single weights is formed. float64; the weights are
    normal numbers of float32 precision, which are cheaper to draw.
    """
    caller = "random_dense_kernels"
    shapes(caller, x=(x, "n d"), cure="Flatten samples with x.flatten(1)")
    real(caller, x=x)
    finite(caller, x=x)
    for name, value in {"nets": nets, "width": width, "depth": depth}.items():
        count(caller, name, value)
    positive(caller, "sigma_w", sigma_w, single=True)
    not_negative(caller, "sigma_b", sigma_b, single=True)
    require_activation(activation, caller)
    checks.generator(caller, generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(nets, *shape, generator=generator, device=x.device, dtype=torch.float32).to(torch.float64)

    h = x.to(torch.float64).expand(nets, *x.shape)
    inputs, weights, slopes = [], [], []
    for _ in range(depth):
        factor = sigma_w / h.shape[-1] ** 0.5
        weight = factor * normal(h.shape[-1], width)
        z = h @ weight
        if sigma_b > 0:
            z = z + sigma_b * normal(1, width)
        inputs.append(h)
        weights.append(weight)
        slopes.append(activation.derivative(z))
        h = activation.value(z)
    nngp = sigma_w**2 / width * (h @ h.mT) + sigma_b**2
    ntk = nngp
    delta = (sigma_w / width**0.5) * normal(1, width)
    for h, weight, slope in zip(reversed(inputs), reversed(weights), reversed(slopes), strict=True):
        delta = delta * slope
        ntk = ntk + (delta @ delta.mT) * (sigma_w**2 / h.shape[-1] * (h @ h.mT) + sigma_b**2)
        delta = delta @ weight.mT
    return Kernels(nngp, ntk)
