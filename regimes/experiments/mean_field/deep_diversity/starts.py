"""Samples that need one coordinate, and measures that do or do not see it.

Samples come in groups of four: x_1 = ±1/2 and ±3/2 with the other coordinates alike, one target for ±1/2, another for
±3/2, all from N(0, 1). The readout has no part in x_1. A net that does not see x_1 gives one output to all four.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import TANH
from regimes.conventions import generator
from regimes.experiments.mean_field.deep_diversity.config import BALL, FLAT, THIN, Config
from regimes.experiments.mean_field.paths import Paths, paths
from regimes.meanfield.depth import DepthMeasure, DepthRisk
from regimes.streams import DeepFlow

PLACES = (0.5, -0.5, 1.5, -1.5)  # of x_1 in a group


class Problem(NamedTuple):
    """The risk, that without x_1, the risk of f = 0, and the least one of nets that do not see x_1."""

    risk: DepthRisk
    flat: DepthRisk
    zero: Float[Tensor, " runs"]
    bound: Float[Tensor, " runs"]


def problem(config: Config, seeds: Sequence[int]) -> Problem:
    """One problem for each seed; the bound is ½ the mean over groups of the variance of the targets inside."""
    parts = []
    for seed in seeds:
        stream = generator(seed, DeepFlow.DATA)
        rest, pair, readout = (
            torch.randn(*shape, generator=stream, dtype=torch.float64)
            for shape in ((config.groups, config.inputs - 1), (config.groups, 2), (config.inputs - 1,))
        )
        x = torch.cat([rest.new_tensor(PLACES).repeat(len(rest))[:, None], rest.repeat_interleave(4, 0)], 1)
        parts.append((x, pair.repeat_interleave(2, 1).flatten(), readout / readout.norm()))
    x, y, readout = (torch.stack(part) for part in zip(*parts, strict=True))
    whole = DepthRisk(x, y, torch.cat([torch.zeros_like(readout[:, :1]), readout], 1), TANH)
    groups = y.unflatten(1, (-1, 4))
    bound = groups.var(2, correction=0).mean(1) / 2
    return Problem(whole, DepthRisk(x[..., 1:].contiguous(), y, readout, TANH), y.square().mean(1) / 2, bound)


def start(config: Config, arm: str, seeds: Sequence[int]) -> DepthMeasure:
    """The particles of `paths`, full in support, moved near the hyperplane u_1 = v_1 = 0, or into a small ball.

    Those of `flat` have lost u_1 and v_1: they live in dimension d − 1.
    """
    d = config.inputs
    drawn = paths(config.particles, d, seeds)
    if arm == BALL:
        centre = paths(1, d, seeds, DeepFlow.OTHER)
        drawn = Paths(*(middle + config.radius * part for middle, part in zip(centre, drawn, strict=True)))
    rho = drawn.blocks(config.layers)
    if arm == FLAT:
        return flattened(rho)
    if arm == THIN:
        thin = torch.ones(d, dtype=torch.float64)
        thin[0] = config.thickness
        rho = rho._replace(output=rho.output * thin, input=rho.input * thin)
    return rho


def flattened(rho: DepthMeasure) -> DepthMeasure:
    """Without the first coordinate."""
    return rho._replace(output=rho.output[..., 1:].contiguous(), input=rho.input[..., 1:].contiguous())


def embedded(rho: DepthMeasure) -> DepthMeasure:
    """With a first coordinate u_1 = v_1 = 0."""
    output, input = (torch.cat([torch.zeros_like(part[..., :1]), part], 3) for part in (rho.output, rho.input))
    return rho._replace(output=output, input=input)


def added(config: Config, rho: DepthMeasure, seeds: Sequence[int]) -> DepthMeasure:
    """ρ with `share` of the mass of its middle cell moved to new particles of full support.

    The other cells get particles θ = 0 without mass, which never move: all cells have as many.
    """
    cell, many, d = config.layers // 2, config.particles // 2, config.inputs
    middle = torch.full((len(seeds), 1), cell / config.layers, dtype=torch.float64)
    fresh = paths(many, d, seeds, DeepFlow.ADDED).at(middle)
    new = DepthMeasure(*(torch.zeros_like(part[:, :, :1]).expand_as(wide).clone() for part, wide in _wide(rho, many)))
    for part, drawn in zip(new, fresh, strict=True):
        part[:, cell] = drawn[:, 0]
    mass = rho.mass.clone()
    mass[:, cell] *= 1 - config.share
    new.mass[:, cell] *= config.share
    return DepthMeasure(*(torch.cat(pair, 2) for pair in zip(rho._replace(mass=mass), new, strict=True)))


def _wide(rho: DepthMeasure, many: int) -> list[tuple[Tensor, Tensor]]:
    """Each part of ρ, and one like it with so many particles."""
    return [(part, part[:, :, :1].expand(*part.shape[:2], many, *part.shape[3:])) for part in rho]
