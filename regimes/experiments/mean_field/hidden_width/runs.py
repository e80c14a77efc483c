"""Nets of one shape as one ensemble, before and after training, beside the limit that all shapes share."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.experiments.mean_field.hidden_width.config import BOX, Config
from regimes.experiments.mean_field.hidden_width.limits import PLANE, limit
from regimes.experiments.mean_field.hidden_width.nets import nets, problem, trained
from regimes.meanfield.depth import DepthMeasure, DepthRisk

ENTRIES = 20_000_000  # numbers in the weights of one ensemble: 160 MB


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a seed: what fluctuates among the replicas, and beside the limit how far from it they are.

    output: of one number, root mean square over samples. hidden: of ξ_L, its length, which is the root mean square over
    the D entries of X_L. Names with _0 are of the nets before training.
    """
    layers, width, inputs = (points[0][axis] for axis in ("layers", "width", "inputs"))
    seeds = [config.first_seed + point["seed"] for point in points]
    risk = problem(config.samples, inputs, seeds)
    replicas = config.replicas if points[0]["shapes"] == BOX else config.many_replicas
    before, after = _ends(config, risk, seeds, (layers, width, inputs), replicas)
    columns = fluctuations(before, "_0") | fluctuations(after, "")
    columns["risk_0"], columns["risk"] = (
        ((end[..., 0] - risk.y).square().mean(2) / 2).mean(0) for end in (before, after)
    )
    if points[0]["shapes"] != BOX:
        end, off = limit(config.samples, tuple(seeds), config.cells, config.power, config.steps, config.rate)
        away = after - torch.nn.functional.pad(end, (0, inputs - PLANE))
        columns["output_error"] = away[..., 0].square().mean((0, 2)).sqrt()
        columns["hidden_error"] = away.square().sum(3).mean((0, 2)).sqrt()
        columns["output_accuracy"] = off[..., 0].square().mean(1).sqrt()
        columns["hidden_accuracy"] = off.square().sum(2).mean(1).sqrt()
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(points))]


def fluctuations(ends: Float[Tensor, "replicas runs n d"], suffix: str) -> dict[str, Float[Tensor, " runs"]]:
    """Standard deviations over the replicas, without bias in the variance."""
    variance = ends.var(0)
    output, hidden = variance[..., 0].mean(1).sqrt(), variance.sum(2).mean(1).sqrt()
    return {f"output{suffix}": output, f"hidden{suffix}": hidden}


def _ends(
    config: Config, risk: DepthRisk, seeds: list[int], shape: tuple[int, int, int], replicas: int
) -> tuple[Float[Tensor, "replicas runs n d"], Float[Tensor, "replicas runs n d"]]:
    """ξ_L before and after training; as many nets at once as memory allows."""
    together = max(1, ENTRIES // (2 * math.prod(shape)))
    jobs = [(replica, run) for replica in range(replicas) for run in range(len(seeds))]
    before, after = [], []
    for place in range(0, len(jobs), together):
        some = jobs[place : place + together]
        runs = torch.tensor([run for _, run in some])
        drawn = [nets(shape, [seeds[run]], replica) for replica, run in some]
        start = DepthMeasure(*(torch.cat(part) for part in zip(*drawn, strict=True)))
        own = risk.select(runs)
        before.append(own.states(start)[:, -1])
        after.append(own.states(trained(own, start, config.steps, config.rate))[:, -1])
    sizes = (replicas, len(seeds), *risk.x.shape[1:])
    return torch.cat(before).view(sizes), torch.cat(after).view(sizes)
