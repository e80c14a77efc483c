"""The nets in units in which the embedding D is the number of their entries alone, and their training.

The net X_{l+1} = X_l + (√D/(L M)) Σ_j u_j σ(v_j·X_l/√D), output w·X_L/D, in the state ξ = X/√D, |ξ| = O(1), is
    ξ_{l+1} = ξ_l + (1/(L M)) Σ_j u_j σ(v_j·ξ_l),     output (w/√D)·ξ_L,
with all entries of u and v from N(0, 1), σ = erf: a `DepthRisk`, in which D is the number of entries alone. Samples lie
on a circle of the plane of the first two entries, whose first is the readout: as Gaussian weights have no preferred
directions, that is any two-dimensional problem in D dimensions. Gradient descent with the step rate·L·M moves every
neuron by −rate ∇_θ δE/δρ.

The limit L M → ∞ stays in the plane, since the mean of u_j σ(v_j·ξ) over the entries of u_j outside of it is 0. So it
is the same for every D; see `limits`.
"""

import math
from collections.abc import Sequence

import torch

from regimes.activations import ERF
from regimes.conventions import generator
from regimes.meanfield.depth import DepthMeasure, DepthRisk
from regimes.streams import DeepFlow


def problem(samples: int, inputs: int, seeds: Sequence[int]) -> DepthRisk:
    """Samples in n equal parts of a half circle, targets uniform in [−1, 1]: the same for every dimension."""
    x, y, readout = torch.zeros(len(seeds), samples, inputs), torch.zeros(len(seeds), samples), torch.zeros(inputs)
    x, y, readout = x.double(), y.double(), readout.double()
    for run, seed in enumerate(seeds):
        draw = generator(seed, DeepFlow.DATA)
        places = torch.arange(samples) + torch.rand(samples, generator=draw, dtype=torch.float64)
        x[run, :, 0], x[run, :, 1] = torch.cos(math.pi * places / samples), torch.sin(math.pi * places / samples)
        y[run] = 2 * torch.rand(samples, generator=draw, dtype=torch.float64) - 1
    readout[0] = 1
    return DepthRisk(x, y, readout.repeat(len(seeds), 1), ERF)


def nets(shape: tuple[int, int, int], seeds: Sequence[int], replica: int) -> DepthMeasure:
    """One net of shape (L, M, D) for each seed."""
    streams = [generator(seed, DeepFlow.BLOCKS, *shape, replica) for seed in seeds]
    drawn = [torch.randn(2, *shape, generator=stream, dtype=torch.float64) for stream in streams]
    output, inner = torch.stack(drawn, 1)
    equal = output.new_full(output.shape[:3], 1 / shape[1])
    return DepthMeasure(output, inner, torch.zeros_like(equal), equal)


def trained(risk: DepthRisk, measure: DepthMeasure, steps: int, rate: float) -> DepthMeasure:
    """After gradient descent on u and v; there are no biases."""
    for _ in range(steps):
        _, gradient = risk.risk_and_gradient(measure)
        measure = measure._replace(
            output=measure.output - rate * gradient.output, input=measure.input - rate * gradient.input
        )
    return measure
