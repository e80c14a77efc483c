"""Tasks that ask for more and more transport, and a net on each of them, with the penalty and without."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from regimes.experiments.least_action.known_least.exact import below, least, line, logistic
from regimes.experiments.least_action.known_least.nets import AtMultiplier, net, train


class Config(AtMultiplier):
    """Distances, clouds, nets and training; configs/complexity_adapts.yaml is the real size."""

    method: tuple[Literal["least_action", "risk"], ...] = Field(
        ("least_action", "risk"), description="with the penalty and without"
    )
    distance: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.25, 4.0), min_length=2, description="heights Δ that class + has to climb"
    )
    seeds: int = Field(2, ge=1, description="clouds and initial weights")


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
