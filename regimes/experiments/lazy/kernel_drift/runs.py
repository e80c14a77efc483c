"""All scalings and seeds of one width as one ensemble of particle flows.

h(x) = (1/m) Σ_j a_j σ(b_j·x) is trained as α (h − h(w_0)) by the particle flow of F_α, so α = √m is the net with the
factor 1/√m in the flow time of its kernel, and α = 1 is the net with the factor 1/m in the flow time of its particles:
in both the kernel Θ = (1/m) Σ_j φ_j φ_jᵀ is O(1), and so is the time. n points on the unit sphere of R^d, targets
N(0, 1). Every run is integrated at the tolerance and at ten times the tolerance; the difference of the two drifts is
the recorded error.
"""

from typing import Any

import torch

from regimes.activations import SOFTPLUS
from regimes.conventions import generator
from regimes.experiments.lazy.kernel_drift.config import MEAN_FIELD, ONE_SIGN, Config
from regimes.experiments.lazy.starts import on_sphere, targets
from regimes.meanfield.displacement import displaced, displacement_flow, tangent_features
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import LazyNet
from regimes.tangent.laziness import kernel_drift


def start(config: Config, points: list[dict[str, Any]]) -> Particles:
    """Gaussian neurons, one stream a seed and width; the output weights of one sign are their absolute values."""
    width, streams = points[0]["width"], [generator(point["seed"], LazyNet.WEIGHTS, point["width"]) for point in points]
    drawn = gaussian(width, config.inputs, generators=streams)
    one_sign = torch.tensor([point["scaling"] == ONE_SIGN for point in points])[:, None, None]
    return Particles(torch.where(one_sign, drawn.output.abs(), drawn.output), drawn.input)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run: the relative drift of the kernel, and what is left of the risk."""
    width, seeds = points[0]["width"], [point["seed"] for point in points]
    x, y = on_sphere(config.samples, config.inputs, seeds), targets(config.samples, seeds)
    first = start(config, points)
    alpha = torch.tensor([1.0 if point["scaling"] == MEAN_FIELD else width**0.5 for point in points]).double()
    risk = TwoLayerRisk(x, y, SOFTPLUS, alpha=alpha, offset=TwoLayerRisk(x, y, SOFTPLUS).outputs(first))

    def kernel(particles: Particles) -> torch.Tensor:
        features = tangent_features(particles, x, SOFTPLUS)
        return features.mT @ features / width

    ends = []
    for tolerance in (config.tolerance, 10 * config.tolerance):
        (flow,) = displacement_flow(risk, first, [config.horizon], rtol=tolerance, atol=tolerance)
        ends.append(displaced(first, flow.moved, alpha))
    fine, coarse = (kernel_drift(kernel(end), kernel(first), runs=1) for end in ends)
    columns = {
        "drift": fine,
        "drift_error": (fine - coarse).abs(),
        "risk": risk.risk(ends[0]),
        "risk_before": risk.risk(first),
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]
