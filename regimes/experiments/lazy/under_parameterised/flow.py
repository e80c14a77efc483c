"""Flows of nets with fewer weights than samples, their limits, and what holds there.

Protocol. One ensemble of scales × seeds, integrated in the time t·λ of each run, at the tolerance and at ten times
the tolerance. The limit is the end of the flow polished by Newton's method; `polish` is how far that moved the
outputs, and shows that it is the limit of the flow.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import TANH
from regimes.conventions import function_norm, generator
from regimes.data.synthetic import gaussian_inputs
from regimes.experiments.lazy.under_parameterised.config import Config
from regimes.meanfield.displacement import (
    Displacement,
    displaced,
    displacement_flow,
    flatten_particles,
    tangent_features,
    unflatten_particles,
)
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import LazyNet


class Limit(NamedTuple):
    """Local minimum v of R as a function of v = α(w − w_0), and what holds there."""

    v: Float[Tensor, "runs p"]
    outputs: Float[Tensor, "runs n 1"]
    gradient: Float[Tensor, " runs"]
    curvature: Float[Tensor, " runs"]


def problem(config: Config, points: list[dict[str, Any]]) -> tuple[TwoLayerRisk, Particles]:
    """The centred risks and the starts of all runs."""
    seeds = [point["seed"] for point in points]
    x = torch.stack(
        [gaussian_inputs(config.samples, config.inputs, generator=generator(s, LazyNet.INPUTS)) for s in seeds]
    )
    y = torch.stack([gaussian_inputs(config.samples, 1, generator=generator(s, LazyNet.TARGETS)) for s in seeds])
    drawn = gaussian(config.width, config.inputs, generators=[generator(s, LazyNet.WEIGHTS) for s in seeds])
    start = Particles(drawn.output.sign(), drawn.input)
    alpha = torch.tensor([point["alpha"] for point in points], dtype=torch.float64)
    return TwoLayerRisk(x, y, TANH, alpha=alpha, offset=TwoLayerRisk(x, y, TANH).outputs(start)), start


def limit(risk: TwoLayerRisk, start: Particles, v: Float[Tensor, "runs p"], steps: int) -> Limit:
    """Newton's method on m R(αh(w_0 + v/α)) from v, with gradient and Hessian by automatic differentiation."""
    alpha, offset = risk.alpha, risk.offset
    assert isinstance(alpha, Tensor)
    assert offset is not None
    m, d = start.input.shape[1:]

    def outputs(v: Tensor, a: Tensor, b: Tensor, x: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        output, input = a + v[:m, None] / scale, b + v[m:].reshape(m, d) / scale
        return scale * (torch.tanh(x @ input.T) @ output / m - centre)

    def value(v: Tensor, y: Tensor, *net: Tensor) -> Tensor:
        return m * (outputs(v, *net) - y).square().mean() / 2

    slope, bend = torch.func.vmap(torch.func.grad(value)), torch.func.vmap(torch.func.hessian(value))
    net = (start.output, start.input, risk.x, offset, alpha)
    for _ in range(steps):
        v = v - torch.linalg.solve(bend(v, risk.y, *net), slope(v, risk.y, *net))
    first = slope(torch.zeros_like(v), risk.y, *net).norm(dim=1)
    gradient = slope(v, risk.y, *net).norm(dim=1) / first
    curvature = torch.linalg.eigvalsh(bend(v, risk.y, *net))[:, 0]
    return Limit(v, torch.func.vmap(outputs)(v, *net), gradient, curvature)


def rank(features: Float[Tensor, "runs p n"]) -> Float[Tensor, " runs"]:
    """Rank of Dh relative to the number of weights p, by torch's default tolerance."""
    return torch.linalg.matrix_rank(features) / features.shape[1]


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, float]]]:
    """One row a run and time; all runs are one ensemble."""
    risk, start = problem(config, points)
    n, m = config.samples, config.width
    features = tangent_features(start, risk.x, TANH)
    smallest = torch.linalg.eigvalsh(features @ features.mT / (m * n))[:, 0]
    times = torch.linspace(0, config.span, config.times + 1, dtype=torch.float64)[1:]
    fine, coarse = (
        list(displacement_flow(risk, start, times, rtol=tolerance, atol=tolerance, unit=1 / smallest))
        for tolerance in (config.tolerance, 10 * config.tolerance)
    )
    found = limit(risk, start, flatten_particles(fine[-1].moved), config.newton_steps)
    final = displaced(start, unflatten_particles(found.v, m), risk.alpha)
    tangent = features.mT @ torch.linalg.lstsq(features.mT, risk.y).solution  # the minimum of the tangent model
    initial = function_norm(risk.outputs(start) - found.outputs)

    def distance(at: Displacement) -> Tensor:
        return function_norm(risk.outputs(displaced(start, at.moved, risk.alpha)) - found.outputs) / initial

    columns = {
        "smallest": smallest,
        "curvature": found.curvature / smallest,
        "gradient": found.gradient,
        "polish": distance(fine[-1]),
        "risk": (function_norm(found.outputs - risk.y) / function_norm(risk.y)).square(),
        "tangent_risk": (function_norm(tangent - risk.y) / function_norm(risk.y)).square(),
        "tangent_distance": function_norm(found.outputs - tangent),
        "rank_start": rank(features),
        "rank_end": rank(tangent_features(final, risk.x, TANH)),
    }
    paths = [torch.stack([distance(at) for at in flow]) for flow in (fine, coarse)]
    return [
        [
            {"time": float(time), "distance": float(near[run]), "distance_coarse": float(other[run])}
            | {name: float(column[run]) for name, column in columns.items()}
            for time, near, other in zip(times, *paths, strict=True)
        ]
        for run in range(len(points))
    ]
