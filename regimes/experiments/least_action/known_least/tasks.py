"""Tasks that ask for more and more transport, and a net on each of them, with the penalty and without."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from regimes.experiments.least_action.known_least.exact import below, least, line, logistic
from regimes.experiments.least_action.known_least.nets import net, train
from regimes.lab.config import Settings


class Config(Settings):
    """Distances, clouds, nets and training; configs/complexity_adapts.yaml is the real size."""

    method: tuple[Literal["least_action", "risk"], ...] = Field(
        ("least_action", "risk"), description="with the penalty and without"
    )
    distance: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.5, 2.0), min_length=2, description="heights Δ that class + has to climb"
    )
    seeds: int = Field(2, ge=1, description="clouds and initial weights")
    samples: int = Field(16, ge=4, description="points of a cloud")
    blocks: int = Field(3, ge=1, description="residual blocks")
    hidden: int = Field(8, ge=1, description="neurons of each block")
    multiplier: float = Field(5.0, gt=0, description="λ, fixed")
    steps: int = Field(60, ge=1, description="steps of full-batch Adam")
    rate: float = Field(0.01, gt=0, description="learning rate, a cosine to 0")


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: its risk and transport, and those of the minimiser of the penalised objective."""
    clouds = [below(config.samples, point["distance"], point["seed"]) for point in points]
    x, signs = (torch.stack(part) for part in zip(*clouds, strict=True))
    nets = [net(point["seed"], blocks=config.blocks, hidden=config.hidden) for point in points]
    fixed = torch.full((len(points),), config.multiplier, dtype=torch.float64)
    paid = fixed if points[0]["method"] == "least_action" else torch.full_like(fixed, torch.inf)
    found = train(nets, x, signs, logistic, line, paid, steps=config.steps, rate=config.rate)
    known = least(x[..., 1], signs, line, logistic, fixed)
    columns = {
        "risk": found.risk,
        "transport": found.transport,
        "least_risk": known.risk,
        "least_transport": known.transport,
        "excess": (found.risk + found.transport / fixed) / known.objective - 1,
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]
