"""The two nets, α-scaled and mean-field, trained as one ensemble by an adaptive integrator with a measured error."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regimes.activations import activation
from regimes.conventions import square_risk
from regimes.experiments.lazy_vs_meanfield.config import Config
from regimes.experiments.lazy_vs_meanfield.ends import end_figures
from regimes.experiments.lazy_vs_meanfield.problem import NETS, Problem, losses
from regimes.lab.console import track
from regimes.meanfield.displacement import displaced, displacement_flow
from regimes.meanfield.particles import Particles
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent import laziness

LOSS_CURVES = ("train_loss", "train_error", "test_loss", "test_error")
NET_CURVES = (
    "weight_motion", "activation_flips", "activation_flips_error", "tangent_distance", "integration_error",
)  # fmt: skip
COARSER = 10.0  # the second integration, for the measured error, has this many times the tolerance


class Nets(NamedTuple):
    """Curves (nets, seeds, times) by quantity, NaN after training has ended; figures at the end of each run."""

    curves: dict[str, np.ndarray]
    figures: dict[str, Any]


def train_nets(config: Config, given: Problem, times: Tensor, tangent_test: Tensor) -> Nets:
    """Particle flow of all seeds × {α, 1}, until each training loss has fallen by `loss_ratio`, or to the last time."""
    members = len(NETS)
    start = given.start.select(torch.arange(config.seeds).repeat_interleave(members))
    alpha = torch.tensor([config.alpha, 1.0], dtype=given.x.dtype, device=given.x.device).repeat(config.seeds)
    y, y_test = (target.repeat_interleave(members, 0) for target in (given.y, given.y_test))
    goal = config.loss_ratio * square_risk(torch.zeros_like(y), y)
    gates = _preactivations(start, given.x)

    # Two risks, because each keeps work memory and the two integrations take turns.
    fine_risk, coarse_risk = (
        TwoLayerRisk(given.x, given.y, activation(config.activation), alpha=alpha) for _ in range(2)
    )
    flows = (
        displacement_flow(fine_risk, start, times.tolist(), rtol=config.tolerance, atol=config.tolerance),
        displacement_flow(
            coarse_risk, start, times.tolist(), rtol=COARSER * config.tolerance, atol=COARSER * config.tolerance
        ),
    )
    curves = {name: np.full((members, config.seeds, config.times), np.nan) for name in (*LOSS_CURVES, *NET_CURVES)}
    done = torch.zeros(start.runs, dtype=torch.bool, device=start.output.device)
    ends, paths = [start, start], [start.select(slice(0, members))]
    for index, solutions in enumerate(track(zip(*flows, strict=True), config.times, "training")):
        fine, coarse = (displaced(start, solution.state, alpha[:, None, None]) for solution in solutions)
        test, test_coarse = (fine_risk.outputs(particles, given.x_test) for particles in (fine, coarse))
        flips, flips_coarse = (
            laziness.activation_flips(_preactivations(particles, given.x), gates) for particles in (fine, coarse)
        )
        train_loss, train_error = losses(fine_risk.outputs(fine), y, given.classes)
        measured = {
            "train_loss": train_loss,
            "train_error": train_error,
            **dict(zip(("test_loss", "test_error"), losses(test, y_test, given.classes), strict=True)),
            "weight_motion": laziness.weight_motion(fine, start, runs=1),
            "activation_flips": flips,
            "activation_flips_error": (flips - flips_coarse).abs(),
            "tangent_distance": laziness.tangent_distance(test, tangent_test[index].repeat_interleave(members, 0)),
            "integration_error": laziness.tangent_distance(test_coarse, test),
        }
        for quantity, value in measured.items():
            curves[quantity][:, :, index] = value.reshape(config.seeds, members).T.cpu().numpy()
        ends = [_where(done, end, now) for end, now in zip(ends, (fine, coarse), strict=True)]
        paths.append(ends[0].select(slice(0, members)))
        done = done | (train_loss <= goal)
        if done.all():
            break
    return Nets(curves, end_figures(config, given, start, ends, paths))


def _where(done: Tensor, old: Particles, new: Particles) -> Particles:
    return Particles(*(torch.where(done[:, None, None], *pair) for pair in zip(old, new, strict=True)))


def _preactivations(particles: Particles, x: Tensor) -> Tensor:
    """b_j·x_i of each run, (runs, n, m); runs of a group are adjacent."""
    members = particles.runs // len(x)
    return x.repeat_interleave(members, 0) @ particles.input.mT
