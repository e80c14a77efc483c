"""Problems that the statements on mean-field ResNets share: samples, and measures that are smooth in depth.

Samples x ~ N(0, I_d), targets y ~ N(0, 1), a readout w of length 1. A measure has M particles of mass 1/M, whose
parameters θ_j(t) = A_j + B_j cos(π t) are smooth in the depth t, all entries of A and B from N(0, 1/2), so that every
entry of θ has variance between ½ and 1. A net of L blocks has them at t = 0, 1/L, ..., (L − 1)/L.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import TANH
from regimes.conventions import generator
from regimes.meanfield.depth import DepthMeasure, DepthRisk
from regimes.streams import DeepFlow


class Paths(NamedTuple):
    """The particles' parameters (u, v, c) as A and B, one after the other along the last axis."""

    mean: Float[Tensor, "runs M parameters"]
    swing: Float[Tensor, "runs M parameters"]

    def at(self, times: Float[Tensor, "runs cells"]) -> DepthMeasure:
        """The measure with one cell for each of these depths."""
        theta = self.mean[:, None] + self.swing[:, None] * torch.cos(torch.pi * times)[..., None, None]
        d = (theta.shape[-1] - 1) // 2
        mass = theta.new_full(theta.shape[:3], 1 / theta.shape[2])
        return DepthMeasure(theta[..., :d], theta[..., d : 2 * d], theta[..., 2 * d], mass)

    def blocks(self, depth: int) -> DepthMeasure:
        """The measure of a net of so many blocks."""
        return self.at((torch.arange(depth, dtype=torch.float64) / depth).expand(len(self.mean), -1))


def paths(particles: int, d: int, seeds: Sequence[int], stream: DeepFlow = DeepFlow.MEASURE) -> Paths:
    """One measure for each seed."""
    drawn = [
        torch.randn(2, particles, 2 * d + 1, generator=generator(seed, stream), dtype=torch.float64) for seed in seeds
    ]
    return Paths(*(torch.stack(drawn, 1) / 2**0.5))


def problem(samples: int, d: int, seeds: Sequence[int], strength: float = 1.0) -> DepthRisk:
    """One problem for each seed; σ = tanh."""
    streams = [generator(seed, DeepFlow.DATA) for seed in seeds]
    x, y, readout = (
        torch.stack([torch.randn(*shape, generator=stream, dtype=torch.float64) for stream in streams])
        for shape in ((samples, d), (samples,), (d,))
    )
    return DepthRisk(x, y, readout / readout.norm(dim=1, keepdim=True), TANH, strength=strength)
