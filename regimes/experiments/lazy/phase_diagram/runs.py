"""The whole plane and all seeds of one width as one ensemble of gradient flows.

Every net is trained a second time at four times the tolerance; the exponents of both are compared, and their difference
is the integration error of what is judged.
"""

from typing import Any

import torch

from regimes.activations import RELU
from regimes.experiments.lazy.phase_diagram.config import Config
from regimes.experiments.lazy.scaled_nets import samples, start, train


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run: relative motion of both layers, that of the coarser integration, and the risk that is left."""
    width = points[0]["width"]
    order = sorted(range(len(points)), key=lambda place: points[place]["seed"])  # groups share their samples
    seeds = sorted({point["seed"] for point in points})
    gamma, gamma_prime = (torch.tensor([points[p][axis] for p in order]).double() for axis in ("gamma", "gamma_prime"))
    scale, ratio = width**-gamma, width**-gamma_prime
    first, data = start(width, config.inputs, ratio, seeds), samples(config.samples, config.inputs, seeds)
    fine, coarse = (
        train(first, data, scale, ratio, RELU, left=config.left, tolerance=tolerance)
        for tolerance in (config.tolerance, 4 * config.tolerance)
    )
    columns = {
        "motion": fine.input_motion,
        "motion_coarse": coarse.input_motion,
        "output_motion": fine.output_motion,
        "share": fine.share,
        "stopped": fine.stopped,
    }
    rows = {place: {name: float(column[run]) for name, column in columns.items()} for run, place in enumerate(order)}
    return [rows[place] for place in range(len(points))]
