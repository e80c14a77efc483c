"""Nets whose layers are steps of one method, on several data sets and seeds as one ensemble."""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.backtracking import ARMIJO
from regimes.control.gradients import discretise_then_optimise
from regimes.control.layers import Layers, Params
from regimes.control.tableau import KUTTA4
from regimes.conventions import generator
from regimes.experiments.control.benning_runge_kutta.config import METHODS, Config
from regimes.experiments.control.plane_course import course, samples
from regimes.experiments.control.plane_nets import WIDTH, Net, PlaneNets, pack, unpack
from regimes.lab.config import dump
from regimes.streams import Plane


def measure(config: Config, points: list[dict[str, Any]], unfinished: Path | None = None) -> list[list[dict[str, Any]]]:
    """For each net its course, one row a look; the last row has what is measured of the trained net."""
    nets, first = ensemble(config, points), start(config, points)
    fresh = samples(points, config.fresh, Plane.FRESH)
    seen, ends = course(
        nets,
        first,
        ARMIJO,
        config.iterations,
        fresh=fresh,
        folder=unfinished,
        whose={"settings": dump(config), "points": points},
    )
    moved = by_the_flow(config, nets, ends, fresh[0])
    gaps = gradient_gaps(config, nets, first, ends)
    for place, rows in enumerate(seen):
        rows[-1] |= {"moved_by_flow": float(moved[place]), "gradient_gap": gaps[place]}
        rows[-1]["net_at_end"] = json.dumps(ends[place].tolist())
    return [[{"last": row is rows[-1]} | row for row in rows] for rows in seen]


def ensemble(config: Config, points: list[dict[str, Any]]) -> PlaneNets:
    """The nets of the points at their samples. The risk ½ Σ (output − label)² is not divided by n."""
    x, labels = samples(points, config.samples, Plane.DATA)
    every = torch.ones(len(points), dtype=torch.bool)
    return PlaneNets(METHODS[points[0]["method"]], x, labels, every, ~every, factor=1.0)


def start(config: Config, points: list[dict[str, Any]]) -> Float[Tensor, "runs p"]:
    """K_k, b_k and W from N(0, 1), μ uniform on [0, 1], the same for all methods of a seed; steps h.

    Draws of a seed: the K_k, the b_k, W, μ.
    """
    parts = []
    for point in points:
        draw = generator(point["seed"], Plane.WEIGHTS)
        kernel = torch.randn(1, config.layers, WIDTH, WIDTH, generator=draw, dtype=torch.float64)
        shift = torch.randn(1, config.layers, WIDTH, generator=draw, dtype=torch.float64)
        weights = torch.randn(1, WIDTH, generator=draw, dtype=torch.float64)
        bias = torch.rand(1, generator=draw, dtype=torch.float64)
        steps = torch.full((1, config.layers), config.step, dtype=torch.float64)
        parts.append(pack(Net(kernel, shift, steps, weights, bias)))
    return torch.cat(parts)


@torch.no_grad()
def by_the_flow(
    config: Config, nets: PlaneNets, theta: Float[Tensor, "runs p"], x: Float[Tensor, "runs 2 m"]
) -> Float[Tensor, " runs"]:
    """Share of points that change their class where the trained equation is integrated exactly in place of its steps.

    The exact flow: each layer in `substeps` steps of Kutta 4.
    """
    net, every = unpack(theta), torch.arange(len(theta))
    kernel, shift, steps = (part.repeat_interleave(config.substeps, 1) for part in (net.kernel, net.shift, net.steps))
    fine = Net(kernel, shift, steps / config.substeps, net.weights, net.bias)
    exact = PlaneNets(KUTTA4, nets.x, nets.labels, nets.keep, nets.learned, nets.factor)
    outputs = (made.forward(of, every, x).outputs for made, of in ((nets, net), (exact, fine)))
    first, second = (each >= 0.5 for each in outputs)
    return (first != second).double().mean(1)


def field(time: float, z: Float[Tensor, "n 2"], params: Params) -> Float[Tensor, "n 2"]:
    """tanh(K z + b)."""
    return torch.tanh(z @ params["K"].T + params["b"])


def gradient_gaps(
    config: Config, nets: PlaneNets, first: Float[Tensor, "runs p"], theta: Float[Tensor, "runs p"]
) -> list[float]:
    """For each net ‖g − g'‖ in all K_k and b_k, relative to ‖g‖ at the first weights: where training ends g is small.

    g by the adjoint steps, g' by back-propagation.
    """
    every = torch.arange(len(theta))
    with torch.no_grad():
        before, found = (unpack(nets(each, every)[1](every)) for each in (first, theta))
    scales = torch.cat([before.kernel.flatten(1), before.shift.flatten(1)], 1).norm(dim=1)
    gaps = []
    for run, net in enumerate(theta):
        one = unpack(net[None])
        params = [{"K": kernel, "b": shift} for kernel, shift in zip(one.kernel[0], one.shift[0], strict=True)]
        layers = Layers(field, params, nets.tableau, horizon=config.step * config.layers)

        def cost(end: Tensor, one: Net = one, labels: Tensor = nets.labels[run]) -> Tensor:
            return nets.factor / 2 * (torch.sigmoid(end @ one.weights[0] + one.bias[0]) - labels).square().sum()

        exact = discretise_then_optimise(layers, nets.x[run].T, cost).params
        pairs = [(found.kernel[run, k], each["K"]) for k, each in enumerate(exact)]
        pairs += [(found.shift[run, k], each["b"]) for k, each in enumerate(exact)]
        gaps.append(float(torch.cat([(one - other).flatten() for one, other in pairs]).norm() / scales[run]))
    return gaps
