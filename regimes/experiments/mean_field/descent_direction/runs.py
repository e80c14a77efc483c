"""Random measures: how far the risk falls along the best particle, along a random one, and by many steps."""

from typing import Any

import torch

from regimes.conventions import generator
from regimes.experiments.mean_field.descent_direction.config import Config
from regimes.experiments.mean_field.paths import paths, problem
from regimes.meanfield.depth import DepthMeasure, mixture
from regimes.meanfield.depth_descent import best_particle, frank_wolfe
from regimes.streams import DeepFlow

SMALL = 1e-4  # the share λ at which the fall is compared with its first order


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a measure: its risk and gap, the fall along the best and along a random particle, and the descent."""
    seeds = [point["seed"] for point in points]
    risk = problem(config.samples, config.inputs, seeds)
    rho = paths(config.particles, config.inputs, seeds).blocks(config.layers)
    streams = [generator(seed, DeepFlow.SEARCH) for seed in seeds]
    shape = config.candidates, config.inputs + 1
    candidates = 2 * torch.stack([torch.randn(*shape, generator=each, dtype=torch.float64) for each in streams])
    radius = rho.output.norm(dim=3).amax((1, 2))
    best = best_particle(risk, rho, candidates, radius)
    chance = _random(best, streams, radius)
    before, gap = risk.risk(rho), -risk.slope(rho, best)
    ends = [step.risk for step in frank_wolfe(risk, rho, candidates, config.steps)]
    columns = {
        "risk": before,
        "gap": gap,
        "first_order": (before - risk.risk(mixture(rho, best, SMALL))) / (SMALL * gap),
        "falls_by_chance": (risk.risk(mixture(rho, chance, SMALL)) < before).double(),
    }
    columns |= {f"risk_{step}": value for step, value in enumerate(ends)}
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(points))]


def _random(best: DepthMeasure, streams: list[torch.Generator], radius: torch.Tensor) -> DepthMeasure:
    """One random particle in each cell, as large in u as the best one."""
    cells, d = best.depth, best.output.shape[3]
    drawn = torch.stack([torch.randn(cells, 1, 2 * d + 1, generator=each, dtype=torch.float64) for each in streams])
    output = drawn[..., :d] / drawn[..., :d].norm(dim=3, keepdim=True) * radius[:, None, None, None]
    return best._replace(output=output, input=2 * drawn[..., d : 2 * d], bias=2 * drawn[..., 2 * d])
