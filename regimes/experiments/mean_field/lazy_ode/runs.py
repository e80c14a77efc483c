"""All scales and seeds of one law and depth as one ensemble, beside their lazy ODEs and their tangent models.

All are trained by as many steps of gradient descent of the same size on the same samples, δ ← δ − rate·L M ∇_δ E, E the
half mean square. For the net this is a step rate·L M/α² in its weights. So the three differ by their models alone, and
there is no error of integration.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regimes.experiments.mean_field.lazy_ode.config import Config
from regimes.experiments.mean_field.lazy_ode.nets import (
    Weights,
    block_kernel,
    lazy,
    scaled,
    start,
    states,
    tangent,
)
from regimes.experiments.mean_field.paths import problem
from regimes.meanfield.depth import DepthRisk
from regimes.tangent.laziness import kernel_drift


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net; distances are root mean squares over the samples, the largest over the steps."""
    law, layers = points[0]["law"], points[0]["layers"]
    seeds = [config.first_seed + point["seed"] for point in points]
    alpha = torch.tensor([point["alpha"] for point in points], dtype=torch.float64)
    risk = problem(config.samples, config.inputs, seeds)
    first = start(law, layers, config.width, config.inputs, seeds)
    size = (layers, config.width)

    moved, outputs = descend(config, risk, first, lambda by: states(risk.x, scaled(first, by, alpha), *size))
    _, limits = descend(config, risk, first, lambda by: states(risk.x, lazy(first, by), *size))
    _, linear = descend(config, risk, first, lambda by: tangent(risk.x, lazy(first, by), *size))

    end = Weights(*(one + by / alpha[:, None, None, None] for one, by in zip(first, moved, strict=True)))
    kernels = (block_kernel(weights, risk.x).flatten(2).movedim(1, 2) for weights in (end, first))
    columns = {
        "weights": sum((by.square().sum(3).mean((1, 2)) for by in moved), torch.zeros(())).sqrt() / alpha,
        "to_ode": _largest(outputs - limits),
        "to_tangent": _largest(outputs - linear),
        "kernel": kernel_drift(*kernels, runs=1),
        "moved": _largest(outputs - outputs[0]),
        "risk_0": (outputs[0] - risk.y).square().mean(1) / 2,
        "risk": (outputs[-1] - risk.y).square().mean(1) / 2,
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]


def descend(
    config: Config, risk: DepthRisk, first: Weights, last: Callable[[Weights], Tensor]
) -> tuple[Weights, Tensor]:
    """δ after training from 0, and the outputs before each step and at the end; last: δ to X_L."""
    layers, width = first.output.shape[1:3]
    moved = Weights(*(torch.zeros_like(part).requires_grad_() for part in first))
    outputs = []
    for step in range(config.steps + 1):
        residuals = risk.residuals(last(moved))
        outputs.append((residuals + risk.y).detach())
        if step < config.steps:
            slopes = torch.autograd.grad((residuals.square().mean(1) / 2).sum(), moved)
            with torch.no_grad():
                for part, slope in zip(moved, slopes, strict=True):
                    part -= config.rate * layers * width * slope
    return Weights(*(part.detach() for part in moved)), torch.stack(outputs)


def _largest(values: Tensor) -> Tensor:
    """The largest over the steps of the root mean square over the samples."""
    return values.square().mean(2).sqrt().amax(0)
