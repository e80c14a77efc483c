"""Nets whose multiplier grows by their risk, and the course of λ if each were the minimiser at every step."""

from itertools import accumulate
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from regimes.experiments.least_action.known_least.exact import RISKS, below, least, line
from regimes.experiments.least_action.known_least.nets import net, train
from regimes.lab.config import Settings

DISTANCE = 1.0
FIRST = {"hinge": (0.5, 0.01), "square": (1.0, 0.05), "logistic": (1.0, 0.05)}  # λ at the start, and its growth


class Config(Settings):
    """Risks, nets and training; configs/multiplier_diverges.yaml is the real size."""

    risk: tuple[Literal["hinge", "square", "logistic"], ...] = Field(
        ("hinge", "square", "logistic"), description="risks by whose value λ grows"
    )
    seeds: int = Field(2, ge=1, description="clouds and initial weights")
    samples: int = Field(16, ge=4, description="points of a cloud")
    blocks: int = Field(3, ge=1, description="residual blocks")
    hidden: int = Field(8, ge=1, description="neurons of each block")
    warm: int = Field(20, ge=0, description="steps of full-batch Adam before λ grows")
    steps: int = Field(64, ge=4, multiple_of=4, description="steps while λ grows: T")
    rate: float = Field(0.01, gt=0, description="learning rate, a cosine to 0 over all steps")


def exact_course(y: Tensor, signs: Tensor, risk: str, looks: list[int]) -> Tensor:
    """λ at the looks if the net were the minimiser at every step, of each run."""
    first, growth = FIRST[risk]
    start = torch.full((len(y),), first, dtype=torch.float64)

    def grown(multiplier: Tensor, _: int) -> Tensor:
        return multiplier + growth * least(y, signs, line, RISKS[risk], multiplier).risk

    course = list(accumulate(range(max(looks)), grown, initial=start))
    return torch.stack([course[look] for look in looks])


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: λ after a quarter, half and all of the steps, that of the exact course, and the last objective."""
    name = points[0]["risk"]
    clouds = [below(config.samples, DISTANCE, point["seed"]) for point in points]
    x, signs = (torch.stack(part) for part in zip(*clouds, strict=True))
    nets = [net(point["seed"], blocks=config.blocks, hidden=config.hidden) for point in points]
    first, growth = FIRST[name]
    looks = [config.steps // 4, config.steps // 2, config.steps]
    how: dict[str, Any] = {"steps": config.warm + config.steps, "warm": config.warm, "rate": config.rate}
    start = torch.full((len(points),), first, dtype=torch.float64)
    found = train(nets, x, signs, RISKS[name], line, start, growth=growth, looks=looks, **how)
    exact, last = exact_course(x[..., 1], signs, name, looks), found.multiplier[-1]
    objective = found.risk + found.transport / last
    columns = {
        **{f"multiplier_{part}": found.multiplier[place] for place, part in enumerate(("quarter", "half", "end"))},
        **{f"exact_{part}": exact[place] for place, part in enumerate(("quarter", "half", "end"))},
        "risk_end": found.risk,
        "excess": objective / least(x[..., 1], signs, line, RISKS[name], last).objective - 1,
    }
    return [{key: float(column[run]) for key, column in columns.items()} for run in range(len(points))]
