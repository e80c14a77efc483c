"""Random problems, their flows and the bounds on them; a family is one ensemble.

Protocol (inferred: the paper checks no constants). The maps are in `problems`. K, α, r and ρ (a fraction of the
largest that the condition allows) are drawn log-uniformly, the direction of αh(w_0) − y* uniformly. `condition` is
the margin in the condition on α, `quotient` the worst of random difference quotients over the constants: hypotheses
are looked at, not assumed. A family is one ensemble; it integrates v = α(w − w_0) in units of αr over s = t/T ∈ [0,
1], so that w − w̄ is not lost in w, at the tolerance and at ten times the tolerance: the difference is the recorded
error. The tangent model is solved exactly, outputs and weights. On the line, small K and r come close to equality,
which shows that the constant cannot be improved. `shrink` multiplies Lip(Dh): below 1 the hypothesis is false, and
the experiment has to notice.
"""

from typing import Any

import torch
from torch import Tensor

from regimes.control.adaptive import integrate
from regimes.conventions import generator
from regimes.experiments.lazy.finite_horizon_bound.config import FAMILIES, Config
from regimes.experiments.lazy.finite_horizon_bound.problems import (
    jacobian,
    log_uniform,
    normal,
    random_problems,
    sampled_quotient,
)
from regimes.streams import LazyNet
from regimes.tangent.finite_horizon import finite_horizon_bound
from regimes.tangent.regression import GradientFlow


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a problem; the problems of a family are one ensemble."""
    family = points[0]["family"]
    generators = [generator(point["seed"], LazyNet.PROBLEMS, FAMILIES.index(family)) for point in points]
    small = 1e-3 if family == "scalar" else 1e-2  # the line is where the bound is nearly attained: go further towards 0
    k, alpha = log_uniform(generators, small, 1000 * small), log_uniform(generators, 1.0, 1e4)
    drawn = random_problems(family, generators, log_uniform(generators, small, 0.3))
    drawn = drawn._replace(lipschitz_derivative=config.shrink * drawn.lipschitz_derivative)
    fraction = log_uniform(generators, 0.1, 1.0)
    rho = fraction * alpha * drawn.radius * drawn.lipschitz / k
    direction = normal(generators, drawn.map(drawn.start).shape[1])
    residual = direction * (rho / direction.norm(dim=1))[:, None]

    time = k / drawn.lipschitz.square()
    first = alpha[:, None] * drawn.map(drawn.start)
    j = jacobian(drawn.map, drawn.start)
    tangent = GradientFlow(j @ j.mT, (first - residual)[..., None], first[..., None])
    whole = j.shape[-2] * time  # the flow of the sum over the outputs, not of their mean
    tangent_outputs, tangent_moved = tangent.train(whole)[..., 0], tangent.test(whole, j.mT)[..., 0]

    unit = (alpha * drawn.radius)[:, None]  # the state is v in this unit: at most 1 in norm, by the proof

    def velocity(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs, pull, *_ = torch.func.vjp(drawn.map, drawn.start + drawn.radius[:, None] * state[0])
        return (-time[:, None] / unit * pull(alpha[:, None] * outputs - first + residual)[0],)

    def end(tolerance: float) -> tuple[Tensor, Tensor]:
        start = (torch.zeros_like(drawn.start),)
        *_, last = integrate(velocity, start, [1.0], rtol=tolerance, atol=tolerance)
        (state,) = last.state
        return unit * state, alpha[:, None] * drawn.map(drawn.start + drawn.radius[:, None] * state)

    (moved, outputs), (moved_loosely, outputs_loosely) = end(config.tolerance), end(10 * config.tolerance)
    bounds = [
        finite_horizon_bound(
            float(time[run]),
            lipschitz=float(drawn.lipschitz[run]),
            lipschitz_derivative=float(drawn.lipschitz_derivative[run]),
            alpha=float(alpha[run]),
            initial_distance=float(rho[run]),
            radius=float(drawn.radius[run]),
        )
        for run in range(len(points))
    ]
    output_bound = rho * torch.tensor([bound.outputs for bound in bounds], dtype=torch.float64)
    weight_bound = alpha * torch.tensor([bound.weights for bound in bounds], dtype=torch.float64)
    least_alpha = torch.tensor([bound.least_alpha for bound in bounds], dtype=torch.float64)
    columns = {
        "horizon": k,
        "alpha": alpha,
        "radius": drawn.radius,
        "lipschitz": drawn.lipschitz,
        "lipschitz_derivative": drawn.lipschitz_derivative,
        "residual": rho,
        "condition": alpha / least_alpha,
        "quotient": sampled_quotient(drawn, generators),
        "reach": moved.norm(dim=1) / (alpha * drawn.radius),
        "output_ratio": (outputs - tangent_outputs).norm(dim=1) / output_bound,
        "output_error": (outputs - outputs_loosely).norm(dim=1) / output_bound,
        "weight_ratio": (moved - tangent_moved).norm(dim=1) / weight_bound,
        "weight_error": (moved - moved_loosely).norm(dim=1) / weight_bound,
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]
