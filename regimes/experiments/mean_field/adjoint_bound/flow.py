"""States, adjoint and bound of a mean-field ResNet in continuous depth, integrated there and back.

Forward X' = F(X, t); backward, in s = 1 − t, X' = −F, p' = ∇F(X, t)ᵀ p and (log B)' = −C(t), from B(1) = ‖p(1)‖ and
p(1) = (w·X(1) − y) w. C(t) = Σ_j |μ_j| |u_j| |v_j| sup|σ'| is at least the spectral norm of ∇F(X, t), whatever X.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.adaptive import integrate
from regimes.experiments.mean_field.adjoint_bound.config import TIGHT, Config
from regimes.experiments.mean_field.paths import Paths, paths, problem
from regimes.meanfield.depth import DepthMeasure, DepthRisk

TIGHT_INPUTS = 0.01  # small, so that σ' is near its largest value, 1


class Flow(NamedTuple):
    """The adjoint at the cuts t = 0, 1/L, ..., 1 of L blocks, and the logarithm of its bound there."""

    adjoint: Float[Tensor, "runs cuts n d"]
    log_bound: Float[Tensor, "runs cuts"]


def drawn(config: Config, points: list[dict[str, Any]]) -> tuple[DepthRisk, Paths]:
    """Problem and measure of each run. Tight: d = 1, u = −1, v = 1, c = 0 and small inputs, so that ∇F is near −1."""
    seeds = [point["seed"] for point in points]
    if points[0]["problems"] != TIGHT:
        return problem(config.samples, config.inputs, seeds), paths(config.particles, config.inputs, seeds)
    risk = problem(config.samples, 1, seeds)
    theta = torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64).expand(len(seeds), 1, 3)
    return DepthRisk(TIGHT_INPUTS * risk.x, risk.y, risk.readout, risk.activation), Paths(
        theta, torch.zeros_like(theta)
    )


def flow(risk: DepthRisk, measure: Paths, layers: int, tolerance: float) -> Flow:
    """The solution at the cuts of so many blocks; the tolerance is relative and absolute."""
    runs = len(risk.x)

    def at(time: Tensor) -> DepthMeasure:
        return measure.at(time[:, None])

    def forward(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, time = state
        return risk.field(at(time[:, 0]), 0, x), torch.ones_like(time)

    def backward(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, p, bound, since = state
        here = at(1 - since[:, 0])
        largest = (here.mass.abs() * here.output.norm(dim=3) * here.input.norm(dim=3)).sum((1, 2))
        down = -risk.activation.lipschitz * largest[:, None]
        return -risk.field(here, 0, x), risk.pulled(here, 0, x, p), down.expand_as(bound), torch.ones_like(since)

    zero = risk.x.new_zeros(runs, 1)
    (end,) = (moment.state[0] for moment in integrate(forward, (risk.x, zero), [1.0], rtol=tolerance, atol=tolerance))
    last = risk.residuals(end)[..., None] * risk.readout[:, None]
    start = (end, last, norm(last)[:, None].log(), zero)
    times = [cut / layers for cut in range(1, layers + 1)]
    moments = [start, *(moment.state for moment in integrate(backward, start, times, rtol=tolerance, atol=tolerance))]
    return Flow(
        torch.stack([state[1] for state in moments[::-1]], 1),
        torch.stack([state[2][:, 0] for state in moments[::-1]], 1),
    )


def norm(adjoint: Float[Tensor, "*cuts n d"]) -> Float[Tensor, "*cuts"]:
    """‖p‖ in L² of the samples: root of the mean of |p|²."""
    return adjoint.square().sum(-1).mean(-1).sqrt()
