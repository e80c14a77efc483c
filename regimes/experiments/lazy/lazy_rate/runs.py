"""One ensemble of flows, at all scales, starts and seeds, beside their exact tangent models.

Protocol (inferred: the theorem has no experiment of its own). n points on the unit sphere of R^d, targets N(0, 1),
fresh for each seed. All runs are integrated together as v = α(w − w_0), twice: at the tolerance and at ten times the
tolerance. The largest difference between the two is the recorded error. The tangent model is exact: GradientFlow for
its outputs, and for its weights w̄ = w_0 − φc/α from the same coefficients.
"""

from typing import Any

import torch
from torch import Tensor

from regimes.activations import activation
from regimes.conventions import function_norm
from regimes.experiments.lazy.lazy_rate.config import Config
from regimes.experiments.lazy.starts import is_centred, nets, on_sphere, targets
from regimes.meanfield.displacement import displaced, displacement_flow, flatten_particles, motion, tangent_features
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent.regression import GradientFlow


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run: the three suprema over the times, each with the measured error of integration."""
    unit, seeds = activation(config.activation), [point["seed"] for point in points]
    x, y = on_sphere(config.samples, config.inputs, seeds), targets(config.samples, seeds)
    start = nets(points, config.inputs, config.width)
    alpha = torch.tensor([point["alpha"] for point in points], dtype=torch.float64)
    first = TwoLayerRisk(x, y, unit).outputs(start)
    risk = TwoLayerRisk(x, y, unit, alpha=alpha, offset=torch.where(is_centred(points), first, 0.0))

    features = tangent_features(start, x, unit)
    kernel = features.mT @ features / config.width
    tangent = GradientFlow(kernel, y, risk.outputs(start))
    times = torch.linspace(0, config.horizon, config.times + 1, dtype=torch.float64)[1:]
    largest: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        largest[name] = torch.maximum(largest.get(name, value), value)

    tolerances = (config.tolerance, 10 * config.tolerance)
    flows = (displacement_flow(risk, start, times, rtol=tolerance, atol=tolerance) for tolerance in tolerances)
    for time, fine, coarse in zip(times, *flows, strict=True):
        v, v_coarse = flatten_particles(fine.moved), flatten_particles(coarse.moved)
        f, f_coarse = (risk.outputs(displaced(start, flow.moved, risk.alpha)) for flow in (fine, coarse))
        v_bar, f_bar = tangent.test(float(time), features)[..., 0], tangent.train(float(time))
        keep("weights", motion(v, config.width) / alpha)
        keep("departure", motion(v - v_bar, config.width) / alpha)
        keep("outputs", function_norm(f - f_bar))
        keep("weights_error", motion(v - v_coarse, config.width) / alpha)
        keep("outputs_error", function_norm(f - f_coarse))
    columns = largest | {
        "departure_error": largest["weights_error"],
        "initial_output": function_norm(risk.outputs(start)),
        "horizon_in_bound": config.horizon * tangent.eigenvalues[:, -1] / config.samples,
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]
