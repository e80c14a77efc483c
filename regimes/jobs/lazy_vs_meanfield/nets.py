"""One net, all its seeds as one ensemble, trained by an adaptive integrator with a measured error."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from regimes.activations import activation
from regimes.conventions import function_norm, square_risk
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.kernels import KernelModels
from regimes.jobs.lazy_vs_meanfield.problem import Problem, losses
from regimes.lab.console import track
from regimes.meanfield.displacement import displaced, displacement_flow
from regimes.meanfield.particles import Particles
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent import laziness

LOSS_CURVES = ("train_loss", "train_error", "test_loss", "test_error")
NET_CURVES = (
    "weight_motion", "activation_flips", "activation_flips_error", "tangent_distance", "train_departure",
    "integration_error",
)  # fmt: skip
COARSER = 10.0  # the second integration, for the measured error, has this many times the tolerance


class Net(NamedTuple):
    """One trained net: curves (seeds, times) by quantity, NaN once all seeds are done; particles of each seed.

    `end` is where each seed met the criterion (or the last time), `end_coarse` the same by the coarser integration;
    `path` holds the particles of the first seed at every moment up to there.
    """

    curves: dict[str, np.ndarray]
    end: Particles
    end_coarse: Particles
    path: list[Particles]


def train_net(config: Config, given: Problem, times: Tensor, kernels: KernelModels, alpha: float) -> Net:
    """Particle flow of all seeds at scale α, until each training loss has fallen by `loss_ratio`, or to the end."""
    start = given.start
    goal = config.loss_ratio * square_risk(torch.zeros_like(given.y), given.y)
    gates = _preactivations(start, given.x)
    # Two risks, because each keeps work memory and the two integrations take turns.
    risk, coarse_risk = (TwoLayerRisk(given.x, given.y, activation(config.activation), alpha=alpha) for _ in range(2))
    flows = (
        displacement_flow(each, start, times.tolist(), rtol=tolerance, atol=tolerance)
        for each, tolerance in ((risk, config.tolerance), (coarse_risk, COARSER * config.tolerance))
    )
    curves = {name: np.full((config.seeds, config.times), np.nan) for name in (*LOSS_CURVES, *NET_CURVES)}
    done = torch.zeros(start.runs, dtype=torch.bool, device=start.output.device)
    ends, path = [start, start], [start.select(slice(0, 1))]
    for index, solutions in enumerate(track(zip(*flows, strict=True), config.times, f"training at α = {alpha:g}")):
        fine, coarse = (displaced(start, solution.moved, alpha) for solution in solutions)
        test, test_coarse = (risk.outputs(particles, given.x_test) for particles in (fine, coarse))
        flips, flips_coarse = (
            laziness.activation_flips(_preactivations(particles, given.x), gates) for particles in (fine, coarse)
        )
        train = risk.outputs(fine)
        train_loss, train_error = losses(train, given.y, given.classes)
        test_loss, test_error = losses(test, given.y_test, given.classes)
        measured = {
            "train_loss": train_loss,
            "train_error": train_error,
            "test_loss": test_loss,
            "test_error": test_error,
            "weight_motion": laziness.weight_motion(fine, start, runs=1),
            "activation_flips": flips,
            "activation_flips_error": (flips - flips_coarse).abs(),
            "tangent_distance": laziness.tangent_distance(test, kernels.tangent_test[index]),
            "train_departure": function_norm(train - kernels.tangent_train[index]) / function_norm(given.y),
            "integration_error": laziness.tangent_distance(test_coarse, test),
        }
        for quantity, value in measured.items():
            curves[quantity][:, index] = value.cpu().numpy()
        ends = [_where(done, end, now) for end, now in zip(ends, (fine, coarse), strict=True)]
        path.append(ends[0].select(slice(0, 1)))
        done = done | (train_loss <= goal)
        if done.all():
            break
    return Net(curves, ends[0], ends[1], path)


def _where(done: Tensor, old: Particles, new: Particles) -> Particles:
    return Particles(*(torch.where(done[:, None, None], *pair) for pair in zip(old, new, strict=True)))


def _preactivations(particles: Particles, x: Tensor) -> Tensor:
    """b_j·x_i of each run, (runs, n, m)."""
    return x @ particles.input.mT
