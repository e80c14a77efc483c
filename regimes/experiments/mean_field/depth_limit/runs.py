"""Residual nets of L blocks and the differential equations that they tend to.

Independent weights: block l is X ← X + (1/L)(1/M) Σ_j u_lj erf(v_lj·X), v ~ N(0, I/d), u = B v√d + ξ, ξ ~ N(0, I). As
E u erf(v·X) = √d B E[v erf(v·X)] = √d B X E[erf'(v·X)]/d (Stein's identity) and E erf'(s) = (2/√π)/√(1 + 2σ²) for
s ~ N(0, σ²), the mean equation is X' = B X · (2/√(π d)) / √(1 + 2|X|²/d). B, one a seed, has entries from N(0, 1).
Smooth weights: the measures of `paths`, whose limit is the equation of the same M particles.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.adaptive import integrate
from regimes.conventions import generator
from regimes.experiments.mean_field.depth_limit.config import SMOOTH, SQUARE, Config
from regimes.experiments.mean_field.paths import paths, problem
from regimes.streams import DeepFlow


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: the distance of its last states to the limit's, root mean square over samples and entries."""
    layers, kind, seeds = points[0]["layers"], points[0]["weights"], [point["seed"] for point in points]
    start = problem(config.samples, config.inputs, seeds).x
    if kind == SMOOTH:
        ends, limits = _smooth(config, seeds, layers)
    else:
        width = layers if kind == SQUARE else config.width
        draws = [generator(seed, DeepFlow.BLOCKS, layers, width) for seed in seeds]
        turns = _turns(config.inputs, seeds)
        ends, limits = independent(start, turns, layers, width, draws), _means(config, start, turns)
    fine, coarse = (_distance(ends, limit) for limit in limits)
    moved = _distance(limits[0], start)
    columns = {"distance": fine, "distance_error": (fine - coarse).abs(), "moved": moved}
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(points))]


def independent(
    start: Float[Tensor, "runs n d"],
    turns: Float[Tensor, "runs d d"],
    layers: int,
    width: int,
    generators: list[torch.Generator],
) -> Float[Tensor, "runs n d"]:
    """The last states of nets with independent weights, drawn block by block: v, then ξ."""
    state, d = start, start.shape[2]
    for _ in range(layers):
        drawn = torch.stack([torch.randn(2, width, d, generator=each, dtype=state.dtype) for each in generators])
        normal, noise = drawn.unbind(1)
        output = normal @ turns.mT + noise  # v√d is the normal draw
        values = torch.erf(state @ normal.mT / d**0.5)
        state = state + values @ output / (layers * width)
    return state


def mean_field(state: Float[Tensor, "runs n d"], turns: Float[Tensor, "runs d d"]) -> Float[Tensor, "runs n d"]:
    """E u erf(v·X)."""
    d = state.shape[2]
    squared = state.square().sum(2, keepdim=True)
    return state @ turns.mT * (2 / math.sqrt(math.pi * d) / (1 + 2 * squared / d).sqrt())


def _means(config: Config, start: Tensor, turns: Tensor) -> list[Tensor]:
    """The end of the mean equation, at the tolerance and at ten times the tolerance."""
    ends = []
    for tolerance in (config.tolerance, 10 * config.tolerance):
        course = integrate(lambda now: (mean_field(now[0], turns),), (start,), [1.0], rtol=tolerance, atol=tolerance)
        ends += [moment.state[0] for moment in course]
    return ends


def _smooth(config: Config, seeds: list[int], layers: int) -> tuple[Tensor, list[Tensor]]:
    """The net and its limit, at both tolerances, for weights that are smooth in depth."""
    risk, weights = problem(config.samples, config.inputs, seeds), paths(config.width, config.inputs, seeds)

    def velocity(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return risk.field(weights.at(state[1]), 0, state[0]), torch.ones_like(state[1])

    ends = []
    for tolerance in (config.tolerance, 10 * config.tolerance):
        first = (risk.x, risk.x.new_zeros(len(seeds), 1))
        ends += [moment.state[0] for moment in integrate(velocity, first, [1.0], rtol=tolerance, atol=tolerance)]
    return risk.states(weights.blocks(layers))[:, -1], ends


def _turns(d: int, seeds: list[int]) -> Float[Tensor, "runs d d"]:
    drawn = [torch.randn(d, d, generator=generator(seed, DeepFlow.MEASURE), dtype=torch.float64) for seed in seeds]
    return torch.stack(drawn)


def _distance(one: Tensor, other: Tensor) -> Float[Tensor, " runs"]:
    return (one - other).square().mean((1, 2)).sqrt()
