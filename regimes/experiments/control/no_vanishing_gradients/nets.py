"""Three kinds of layers of one width, for several runs at once, and what they do to variations of the state.

Hamiltonian: symplectic Euler of z' = A1ᵀ tanh(A1 p + b1), p' = −A2ᵀ tanh(A2 z + b2); ResNet: z + h tanh(Kz + b);
plain: tanh(Kz + b). Weights are sequences of tensors with axes (layers, runs, ...).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import generator
from regimes.experiments.control.halves import drawn
from regimes.experiments.control.no_vanishing_gradients.config import HAMILTONIAN, RESNET
from regimes.streams import Layered

SHIFT = 0.5  # standard deviation of the shifts b


def initial(net: str, seeds: Sequence[int], depth: int, half: int) -> list[Tensor]:
    """Entries of matrices from N(0, 1/rows), of shifts from N(0, ¼)."""
    if net == HAMILTONIAN:
        return list(drawn(seeds, depth, half, 2 * half, SHIFT))
    width, runs = 2 * half, []
    for seed in seeds:
        draw = generator(seed, Layered.WEIGHTS)
        kernels = torch.randn(depth, width, width, generator=draw, dtype=torch.float64) / width**0.5
        runs.append((kernels, SHIFT * torch.randn(depth, width, generator=draw, dtype=torch.float64)))
    return [torch.stack(parts, 1) for parts in zip(*runs, strict=True)]


def moved(
    net: str, layer: Sequence[Tensor], z: Float[Tensor, "runs n width"], dz: Float[Tensor, "runs n width k"], h: float
) -> tuple[Tensor, Tensor]:
    """The state after a layer, and its variations: J dz."""
    if net != HAMILTONIAN:
        kernel, shift = layer
        value, change = _tanh(kernel, shift, z, dz)
        return (z + h * value, dz + h * change) if net == RESNET else (value, change)
    a1, b1, a2, b2 = layer
    (q, p), (dq, dp) = z.chunk(2, -1), dz.chunk(2, -2)
    value, change = _tanh(a2, b2, q, dq)
    p, dp = p - h * value @ a2, dp - h * a2.mT[:, None] @ change
    value, change = _tanh(a1, b1, p, dp)
    q, dq = q + h * value @ a1, dq + h * a1.mT[:, None] @ change
    return torch.cat([q, p], -1), torch.cat([dq, dp], -2)


def _tanh(a: Tensor, b: Tensor, z: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(Az + b) and its variations."""
    value = torch.tanh(z @ a.mT + b[:, None])
    return value, (1 - value.square())[..., None] * (a[:, None] @ dz)


def unit(z: Float[Tensor, "runs n width"]) -> Float[Tensor, "runs n width width"]:
    """The variations along all axes."""
    return torch.eye(z.shape[-1], dtype=z.dtype).expand(*z.shape, z.shape[-1])


def through(net: str, weights: Sequence[Tensor], z: Tensor, dz: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """The state after all layers, and its variations."""
    for layer in zip(*weights, strict=True):
        z, dz = moved(net, layer, z, dz, h)
    return z, dz


def products(net: str, weights: Sequence[Tensor], z: Tensor, h: float) -> Float[Tensor, "layers runs n width width"]:
    """M_j = ∂z_N/∂z_j for j = 0..N−1."""
    layers = []
    for layer in zip(*weights, strict=True):
        z, jacobian = moved(net, layer, z, unit(z), h)
        layers.append(jacobian)
    found = [layers[-1]]
    for jacobian in reversed(layers[:-1]):
        found.append(found[-1] @ jacobian)
    return torch.stack(found[::-1])
