"""Theorem 2.3 on the main job: a proved bound on how far a net can be from its tangent model after a short time."""

import math

import torch

from regimes.activations import activation
from regimes.conventions import function_norm
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.problem import Problem
from regimes.meanfield.kernel import tangent_kernel
from regimes.tangent.finite_horizon import finite_horizon_bound
from regimes.tangent.spectrum import merge_outputs

HORIZON = 1.0  # K = T Lip(h)²
RADII = torch.logspace(-3, 3, 121, dtype=torch.float64).tolist()


def proved_bounds(config: Config, given: Problem, alpha: float) -> list[tuple[float, float]]:
    """(T, bound) of each seed: ‖αh(w(T)) − αh̄(w̄(T))‖ ≤ bound · ‖y‖ on the training inputs, K = T Lip(h)² = 1.

    Weights are measured by √(1/m Σ_j ‖(a_j, b_j)‖²), as fits the particle flow. On the ball of radius r around w_0,
    with A = max_j ‖a_j‖ + √m r and X = max_i ‖x_i‖: Lip(Dh) ≤ X sup|σ'| + A X² sup|σ''| and
    Lip(h) ≤ √(λ_max(Θ_0)/n) + r Lip(Dh). The radius is the smallest of RADII that is granted: T is largest there.
    (nan, nan) where none does; sup|σ''| is infinite for ReLU, whose derivative jumps: no bound then.
    Source: [ChizatOyallonBach2019] Theorem 2.3; the constants by Taylor's formula, our own.
    """
    sigma = activation(config.activation)
    if math.isinf(sigma.lipschitz_derivative):
        return [(math.nan, math.nan)] * config.seeds
    found = []
    for seed in range(config.seeds):
        here = slice(seed, seed + 1)
        x, start = given.x[here], given.start.select(here)
        kernel = merge_outputs(tangent_kernel(start, x, x, sigma))[0]
        steepest = math.sqrt(float(torch.linalg.eigvalsh((kernel + kernel.mT) / 2)[-1]) / x.shape[1])
        size, largest = float(x.norm(dim=-1).max()), float(start.output.norm(dim=-1).max())
        distance = float(function_norm(given.y[seed]))
        best = (math.nan, math.nan)
        for radius in RADII:
            reach = largest + math.sqrt(start.width) * radius
            curvature = size * sigma.lipschitz + reach * size**2 * sigma.lipschitz_derivative
            slope = steepest + radius * curvature
            bound = finite_horizon_bound(
                HORIZON / slope**2,
                lipschitz=slope,
                lipschitz_derivative=curvature,
                alpha=alpha,
                initial_distance=distance,
                radius=radius,
            )
            if bound.applies:
                best = (HORIZON / slope**2, bound.outputs)
                break
        found.append(best)
    return found
