"""Two-layer ReLU nets of any scale of output and layers, trained to one loss: shared by the statements on phases.

f(x) = κ Σ_j a_j σ(b_j·x) with a = ratio · N(0, 1) and b = N(0, 1), divided by the ratio: κ is the size of one neuron's
output and the ratio that of output weights over input weights, β₁/β₂. Half of the neurons are mirror images
(−a, b) of the other half, so f = 0 at the start. All weights follow the gradient flow of the risk, with one rate, until
the risk has fallen to a given share.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation
from regimes.conventions import generator
from regimes.experiments.lazy.starts import on_sphere
from regimes.meanfield.displacement import displaced, displacement_flow
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import LazyNet

# In units of the time that one sample alone would take: nearly all runs stop between 1 and 30.
TIMES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0, 10000.0)


class Trained(NamedTuple):
    """Nets before and after, and ‖w(t) − w(0)‖/‖w(0)‖ of each layer: the largest at the times where it was looked at.

    share: risk at the end over that at the start; stopped: whether it had fallen as far as asked.
    """

    start: Particles
    end: Particles
    input_motion: Float[Tensor, " runs"]
    output_motion: Float[Tensor, " runs"]
    share: Float[Tensor, " runs"]
    stopped: Float[Tensor, " runs"]


def one_sample_course(
    width: int, scale: Float[Tensor, "*shape"], ratio: Float[Tensor, "*shape"], strength: float = 1.0
) -> Float[Tensor, "*shape"]:
    """τ at which a linear net of one sample has fitted it: sinh 2τ = 2c/(κm (ratio + 1/ratio)), c the strength.

    With dτ = κ·(residual)·dt each neuron turns by the angle τ of a hyperbolic rotation:
    a/ratio = ā cosh τ + b̄ sinh τ/ratio, b = b̄ cosh τ + ratio·ā sinh τ, so that
    f = κ Σ a b/ratio = (κ/2) sinh 2τ (ratio Σ ā² + Σ b̄²/ratio), as Σ ā b̄ = 0. Here Σ ā² = Σ b̄² = m.
    """
    return torch.asinh(2 * strength / (scale * width * (ratio + 1 / ratio))) / 2


def start(width: int, inputs: int, ratio: Float[Tensor, " runs"], seeds: Sequence[int]) -> Particles:
    """Doubled Gaussian nets, equally many runs of each seed one after the other; their output weights times the ratio.

    One seed is one net at every scale and ratio.
    """
    drawn = [double(gaussian(width // 2, inputs, generators=[generator(s, LazyNet.WEIGHTS, width)])) for s in seeds]
    each = len(ratio) // len(seeds)
    output, inward = (torch.cat(part).repeat_interleave(each, dim=0) for part in zip(*drawn, strict=True))
    return Particles(output * ratio[:, None, None], inward)


def samples(count: int, inputs: int, seeds: Sequence[int]) -> tuple[Float[Tensor, "s n d"], Float[Tensor, "s n 1"]]:
    """Points of the unit sphere for each seed, and Gaussian targets rescaled to mean square 1."""
    drawn = [torch.randn(count, 1, generator=generator(s, LazyNet.TARGETS), dtype=torch.float64) for s in seeds]
    y = torch.stack(drawn)
    return on_sphere(count, inputs, seeds), y / y.square().mean(dim=1, keepdim=True).sqrt()


def train(
    first: Particles,
    data: tuple[Float[Tensor, "seeds n d"], Float[Tensor, "seeds n 1"]],
    scale: Float[Tensor, " runs"],
    ratio: Float[Tensor, " runs"],
    activation: Activation,
    *,
    left: float,
    tolerance: float,
) -> Trained:
    """Train until the risk is `left` times that at the start; the tolerance is that of a step, relative.

    The flow of (a, b) is that of particles with f = α (1/m) Σ_j a_j σ(b_j·x), α = κm/ratio, in another unit of time.
    The smallest step is 100 × the tolerance, in units of the time that one sample alone takes: ReLU nets need one.
    """
    alpha = scale * first.width / ratio
    risk = TwoLayerRisk(*data, activation, alpha=alpha)
    before = risk.risk(first)
    unit = alpha * one_sample_course(first.width, scale, ratio)
    norms = [weights.flatten(1).norm(dim=1) for weights in first]
    largest = [torch.zeros_like(alpha) for _ in norms]
    end = first
    stopped = torch.zeros_like(alpha).bool()
    course = displacement_flow(
        risk,
        first,
        TIMES,
        rtol=tolerance,
        atol=tolerance / 1000,
        risk_below=left * before,
        unit=unit,
        smallest=100 * tolerance,
    )
    for at in course:
        for layer, (moved, norm) in enumerate(zip(at.moved, norms, strict=True)):
            largest[layer] = torch.maximum(largest[layer], moved.flatten(1).norm(dim=1) / (alpha * norm))
        end, stopped = displaced(first, at.moved, alpha), at.stopped
        if stopped.all():
            break
    return Trained(first, end, largest[1], largest[0], risk.risk(end) / before, stopped.to(alpha))
