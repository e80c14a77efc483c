"""Pairs of two-layer nets on the same samples, and the two midpoints between them."""

from typing import Any

import numpy as np
import torch

from regimes.activations import TANH
from regimes.conventions import generator
from regimes.data.synthetic import teacher_student
from regimes.experiments.mean_field.convexity.config import TRAINED, Config
from regimes.meanfield.flow import gradient_flow
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import Measures
from regimes.transport.discrete import exact_transport


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a pair: the risks of its ends, of their mixture and of the midpoint of their geodesic.

    outputs: mean over the samples of the squared difference of the two nets' outputs.
    """
    width, kind, seeds = points[0]["width"], points[0]["nets"], [point["seed"] for point in points]
    data = [
        teacher_student(config.samples, 1, inputs=config.inputs, generator=generator(seed, Measures.DATA))
        for seed in seeds
    ]
    risk = TwoLayerRisk(torch.stack([d.x_train for d in data]), torch.stack([d.y_train for d in data]), TANH)
    ends = []
    for stream in (Measures.ONE, Measures.OTHER):
        net = gaussian(width, config.inputs, generators=[generator(seed, stream, width) for seed in seeds])
        ends.append(trained(risk, net, config) if kind == TRAINED else net)
    one, other = ends
    columns = {
        "one": risk.risk(one),
        "other": risk.risk(other),
        "mixture": risk.risk(one.join(other)),  # as many neurons of each: half of the mass is each measure's
        "geodesic": risk.risk(midpoint(one, other)),
        "outputs": (risk.outputs(one) - risk.outputs(other)).square().sum(2).mean(1),
        "teacher": risk.risk(Particles(torch.zeros_like(one.output), one.input)),
    }
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(points))]


def trained(risk: TwoLayerRisk, net: Particles, config: Config) -> Particles:
    """The net after the particle flow, stopped where the share `left` of the risk of f = 0 is left."""
    zero = risk.risk(Particles(torch.zeros_like(net.output), net.input))
    stop, tolerance = config.left * zero, config.tolerance
    *_, end = gradient_flow(risk, net, [config.horizon], risk_below=stop, rtol=tolerance, atol=tolerance)
    return end.particles


def midpoint(one: Particles, other: Particles) -> Particles:
    """Half way along the Wasserstein geodesic: the means of neurons (a, b) that optimal transport pairs."""
    first, second = (torch.cat(net, 2) for net in (one, other))
    partners = torch.stack([_paired(*neurons) for neurons in zip(first, second, strict=True)])
    middle, k = (first + partners) / 2, one.output.shape[2]
    return Particles(middle[..., :k].contiguous(), middle[..., k:].contiguous())


def _paired(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The neurons of the second net in the order of those of the first that they are paired with."""
    plan = exact_transport(one.numpy(), other.numpy()).plan.tocsr()
    partners = np.asarray(plan.argmax(1)).ravel()
    if not np.array_equal(np.sort(partners), np.arange(len(one))):
        raise RuntimeError(f"a plan between {len(one)} and {len(other)} neurons splits one of them")
    return other[torch.from_numpy(partners)]
