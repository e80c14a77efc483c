"""The four nets on the data sets of the plane, all nets and seeds of a data set as one ensemble."""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.control.backtracking import UPPER_BOUND
from regimes.control.simplex import onto_simplex
from regimes.control.tableau import EULER
from regimes.conventions import generator
from regimes.errors import UserError
from regimes.experiments.control.benning_networks.config import NET, ODENET, SIMPLEX, Config
from regimes.experiments.control.plane_course import course, samples
from regimes.experiments.control.plane_nets import WIDTH, Net, PlaneNets, pack, unpack
from regimes.lab.config import dump
from regimes.streams import Plane


def measure(config: Config, points: list[dict[str, Any]], unfinished: Path | None = None) -> list[list[dict[str, Any]]]:
    """For each net its course, one row a look; the last row has its steps and, as text, all its parameters."""
    dataset = points[0]["dataset"]
    if dataset not in config.iterations:
        raise UserError(f"iterations needs a number for {dataset}; got those of {', '.join(config.iterations)}.")
    nets, projected = ensemble(config, points)

    def project(theta: Tensor, runs: Int[Tensor, " some"]) -> Tensor:
        steps = unpack(theta).steps
        steps.copy_(torch.where(projected[runs, None], onto_simplex(steps), steps))
        return theta

    seen, ends = course(
        nets,
        start(config, points),
        UPPER_BOUND,
        config.iterations[dataset],
        fresh=samples(points, config.fresh, Plane.FRESH),
        project=project if bool(projected.any()) else None,
        folder=unfinished,
        whose={"settings": dump(config), "points": points},
    )
    for rows, net in zip(seen, ends, strict=True):
        rows[-1] |= end(net)
    return [[{"last": row is rows[-1]} | row for row in rows] for rows in seen]


def ensemble(config: Config, points: list[dict[str, Any]]) -> tuple[PlaneNets, Tensor]:
    """The nets of the points at their samples, and whose steps are projected onto the simplex."""
    names = [point["net"] for point in points]
    x, labels = samples(points, config.samples, Plane.DATA)
    keep = torch.tensor([name != NET for name in names])
    learned = torch.tensor([name in (ODENET, SIMPLEX) for name in names])
    nets = PlaneNets(EULER, x, labels, keep, learned, factor=1 / config.samples)
    return nets, torch.tensor([name == SIMPLEX for name in names])


def start(config: Config, points: list[dict[str, Any]]) -> Float[Tensor, "runs p"]:
    """K_k and W from N(0, 1), the same for all nets of a seed; b and μ zero; steps 1/L, without skips 1.

    Draws of a seed: the K_k, then W.
    """
    parts = []
    for point in points:
        draw = generator(point["seed"], Plane.WEIGHTS)
        kernel = torch.randn(1, config.layers, WIDTH, WIDTH, generator=draw, dtype=torch.float64)
        weights = torch.randn(1, WIDTH, generator=draw, dtype=torch.float64)
        if config.output is not None:
            weights = torch.full_like(weights, config.output)
        step = 1.0 if point["net"] == NET else 1 / config.layers
        steps = torch.full((1, config.layers), step, dtype=torch.float64)
        shift, bias = torch.zeros(1, config.layers, WIDTH).double(), torch.zeros(1).double()
        parts.append(pack(Net(kernel, shift, steps, weights, bias)))
    return torch.cat(parts)


def end(theta: Float[Tensor, " p"]) -> dict[str, Any]:
    """The learned steps by layer, and all parameters as text, from which maps are drawn."""
    steps = unpack(theta[None]).steps[0]
    return {f"step_{layer}": float(step) for layer, step in enumerate(steps)} | {
        "net_at_end": json.dumps(theta.tolist())
    }
