"""Clouds that are their own mirror image, and several nets on each of them."""

from typing import Any, Literal

import torch
from pydantic import Field

from regimes.conventions import generator
from regimes.experiments.least_action.known_least.exact import SCORES, least, logistic
from regimes.experiments.least_action.known_least.nets import AtMultiplier, net, train
from regimes.streams import KnownMap


class Config(AtMultiplier):
    """Clouds, nets and training; configs/minimal_maps_are_not_unique.yaml is the real size."""

    score: tuple[Literal["band", "raised"], ...] = Field(("band", "raised"), description="two ways out, or one")
    seeds: int = Field(2, ge=1, description="clouds")
    nets: int = Field(3, ge=2, description="nets on each cloud, with initial weights of their own")


def cloud(samples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and signs: half of class + on the axis, right; half of class − in mirrored pairs of heights, left."""
    half, stream = samples // 2, generator(seed, KnownMap.DATA)
    across = 0.5 + torch.rand(2, half, generator=stream, dtype=torch.float64)
    heights = 0.3 * torch.rand(half, generator=stream, dtype=torch.float64)
    heights[1::2] = -heights[: 2 * (half // 2) : 2]
    across[1, 1::2] = across[1, : 2 * (half // 2) : 2]
    heights[2 * (half // 2) :] = 0.0  # an odd one out is its own mirror image
    right = torch.stack([across[0], torch.zeros_like(across[0])], 1)
    left = torch.stack([-across[1], heights], 1)
    return torch.cat([right, left]), torch.cat([torch.ones(half), -torch.ones(half)]).double()


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a cloud: costs of its nets, and how far their maps lie from each other."""
    score, count = SCORES[points[0]["score"]], config.nets
    clouds = [cloud(config.samples, point["seed"]) for point in points]
    x, signs = (torch.stack(part).repeat_interleave(count, 0) for part in zip(*clouds, strict=True))
    shape = {"blocks": config.blocks, "hidden": config.hidden}
    nets = [net(1000 * point["seed"] + number, **shape) for point in points for number in range(count)]
    multiplier = torch.full((len(nets),), config.multiplier, dtype=torch.float64)
    found = train(nets, x, signs, logistic, score, multiplier, steps=config.steps, rate=config.rate)
    excess = (found.risk + found.transport / multiplier) / least(
        x[..., 1], signs, score, logistic, multiplier
    ).objective
    rows = []
    for excesses, costs, ends, start in zip(
        *(part.split(count) for part in (excess - 1, found.transport, found.ends, x)), strict=True
    ):
        first, second = torch.triu_indices(count, count, 1)
        apart = (ends[first] - ends[second]).square().sum(-1).mean(-1).sqrt()
        moved = (ends - start).square().sum(-1).mean().sqrt()
        plus = ends[:, : config.samples // 2, 1]
        rows.append(
            {
                "excess": float(excesses.mean()),
                "cost": float(costs.mean()),
                "spread": float(costs.std() / costs.mean()),
                "distance": float((apart / moved).mean()),
                "up": float((plus > 0).double().mean()),
            }
        )
    return rows
