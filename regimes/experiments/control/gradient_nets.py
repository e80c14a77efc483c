"""Ensembles of random gradient nets z' = −A_lᵀσ(A_l z + b_l), and of plain residual nets z' = σ(B_l z + b_l)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import IDENTITY, LOGISTIC, RELU, SOFTPLUS, TANH, Activation
from regimes.conventions import generator
from regimes.streams import Stability

# 0 ≤ σ' ≤ 1, and 1 is attained or approached.
UNITS: dict[str, Activation] = {unit.name: unit for unit in (RELU, TANH, LOGISTIC, SOFTPLUS, IDENTITY)}


class Fields(NamedTuple):
    """One layer of each net, or all layers as so many nets: weights have the axes of the nets in front."""

    unit: Activation
    weight: Float[Tensor, "*nets hidden width"]
    bias: Float[Tensor, "*nets hidden"]
    plain: Float[Tensor, "*nets width width"]

    def gradient(self, z: Float[Tensor, "*nets n width"]) -> Float[Tensor, "*nets n width"]:
        """−Aᵀσ(Az + b)."""
        return -self.unit.value(self.inner(z)) @ self.weight

    def inner(self, z: Float[Tensor, "*nets n width"]) -> Float[Tensor, "*nets n hidden"]:
        """Az + b."""
        return z @ self.weight.mT + self.bias[..., None, :]

    def residual(self, z: Float[Tensor, "*nets n width"]) -> Float[Tensor, "*nets n width"]:
        """σ(Bz + b), with the first entries of b."""
        width = self.plain.shape[-1]
        return self.unit.value(z @ self.plain.mT + self.bias[..., None, :width])

    def layer(self, number: int) -> "Fields":
        """One layer of all nets, whose layers are the second axis."""
        return Fields(self.unit, self.weight[:, number], self.bias[:, number], self.plain[:, number])

    def flat(self) -> "Fields":
        """All layers of all nets as nets of one layer."""
        return Fields(self.unit, self.weight.flatten(0, 1), self.bias.flatten(0, 1), self.plain.flatten(0, 1))


def drawn(name: str, seeds: list[int], layers: int, width: int, hidden: int) -> Fields:
    """Entries of A and B from N(0, 1/width), of b from N(0, 1/4); hidden ≥ width; axes (nets, layers)."""
    parts = []
    for seed in seeds:
        draw = generator(seed, Stability.WEIGHTS, width)
        shapes = ((layers, hidden, width), (layers, hidden), (layers, width, width))
        parts.append([torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes])
    weight, bias, plain = (torch.stack(part) for part in zip(*parts, strict=True))
    return Fields(UNITS[name], weight / width**0.5, bias / 2, plain / width**0.5)


def states(seeds: list[int], n: int, width: int, radius: float) -> Float[Tensor, "nets n width"]:
    """n states for each seed, uniform in the ball."""
    found = []
    for seed in seeds:
        draw = generator(seed, Stability.STATES, width)
        ways = torch.randn(n, width, generator=draw, dtype=torch.float64)
        sizes = torch.rand(n, 1, generator=draw, dtype=torch.float64) ** (1 / width)
        found.append(radius * sizes * ways / ways.norm(dim=1, keepdim=True))
    return torch.stack(found)
