"""All imbalances and seeds of one activation as one ensemble of gradient flows, at two tolerances."""

from typing import Any

import torch

from regimes.activations import activation
from regimes.experiments.lazy.scaled_nets import Trained, samples, start, train
from regimes.experiments.lazy.unbalanced_layers.config import Config
from regimes.meanfield.displacement import tangent_features
from regimes.meanfield.particles import Particles
from regimes.tangent.laziness import kernel_drift


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run: drift of the kernel with its integration error, activations flipped, motion of both layers."""
    sigma = activation(points[0]["activation"])
    order = sorted(range(len(points)), key=lambda place: points[place]["seed"])  # groups share their samples
    seeds = sorted({point["seed"] for point in points})
    ratio = 10.0 ** torch.tensor([points[place]["imbalance"] for place in order]).double()
    x, _ = data = samples(config.samples, config.inputs, seeds)
    first = start(config.width, config.inputs, ratio, seeds)
    scale = torch.full_like(ratio, config.scale / config.width)
    fine, coarse = (
        train(first, data, scale, ratio, sigma, left=config.left, tolerance=tolerance)
        for tolerance in (config.tolerance, 4 * config.tolerance)
    )

    def kernel(net: Particles) -> torch.Tensor:
        features = tangent_features(net, x, sigma)
        return features.mT @ features / net.width

    def drift(trained: Trained) -> torch.Tensor:
        return kernel_drift(kernel(trained.end), kernel(first), runs=1)

    def active(net: Particles) -> torch.Tensor:
        return net.input @ x.repeat_interleave(len(points) // len(seeds), dim=0).mT > 0

    columns = {
        "drift": drift(fine),
        "drift_error": (drift(fine) - drift(coarse)).abs(),
        "flips": (active(fine.end) != active(first)).double().mean(dim=(1, 2)),
        "input_motion": fine.input_motion,
        "output_motion": fine.output_motion,
        "share": fine.share,
        "stopped": fine.stopped,
    }
    rows = {place: {name: float(column[run]) for name, column in columns.items()} for run, place in enumerate(order)}
    return [rows[place] for place in range(len(points))]
