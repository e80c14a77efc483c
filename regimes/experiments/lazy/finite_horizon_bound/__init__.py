"""Theorem 2.3 on random problems whose Lipschitz constants are known: is the bound ever exceeded, and how loose is it?

Statement. R(f) = ½‖f − y*‖²; h is Lip(h)- and Dh is Lip(Dh)-Lipschitz on the ball B(w_0, r). With ρ = ‖αh(w_0) − y*‖,
T = K/Lip(h)², β = (K²/α) (Lip(Dh)/Lip(h)²) ρ and α ≥ Kρ/(r Lip(h)),
    ‖αh(w_α(T)) − αh̄(w̄_α(T))‖ ≤ β ρ,        α Lip(h) ‖w_α(T) − w̄_α(T)‖ ≤ (2 + 4K/3) β ρ        (appendix B.2).
The argument for the outputs, d‖Δ‖/dt ≤ ‖Σ(w) − Σ(w_0)‖ ρ ≤ 2 Lip(Dh) Lip(h)² ρ² t/α with Σ = Dh Dhᵀ, carried over to
the weights, gives the factor ½ + K/3 = (2 + 4K/3)/4 in the second bound; it is tested too.

Protocol (inferred: the paper checks no constants). The maps are in `problems`. K, α, r and ρ (a fraction of the
largest that the condition allows) are drawn log-uniformly, the direction of αh(w_0) − y* uniformly. `condition` is
the margin in the condition on α, `quotient` the worst of random difference quotients over the constants: hypotheses
are looked at, not assumed. A family is one ensemble; it integrates v = α(w − w_0) in units of αr over s = t/T ∈ [0,
1], so that w − w̄ is not lost in w, at the tolerance and at ten times the tolerance: the difference is the recorded
error. The tangent model is solved exactly, outputs and weights. On the line, small K and r come close to equality,
which shows that the constant cannot be improved. `shrink` multiplies Lip(Dh): below 1 the hypothesis is false, and
the experiment has to notice.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from regimes.control.adaptive import integrate
from regimes.conventions import generator
from regimes.experiments.lazy.finite_horizon_bound.problems import (
    jacobian,
    log_uniform,
    normal,
    random_problems,
    sampled_quotient,
)
from regimes.lab.config import Settings
from regimes.lab.figures import MARKERS, PALETTE, figure, style
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.tangent.bounds import finite_horizon_bound
from regimes.tangent.regression import GradientFlow

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

OUTPUTS = "largest measured / bound, outputs"
WEIGHTS = "largest measured / bound, weights"
SHARP = "largest measured / bound, weights, factor ½ + K/3 for 2 + 4K/3"
TIGHT = "largest measured / bound, outputs, maps of the line"
CONDITION = "smallest α / (K ρ / (r Lip(h)))"
CONSTANTS = "largest sampled difference quotient / Lipschitz constant"
ROUNDING = 1e-6  # of difference quotients of float64 numbers down to 1e-9 apart

STATEMENT = Statement(
    claim="At time T = K/Lip(h)² the net is within (K²/α) (Lip(Dh)/Lip(h)²) ‖αh(w_0) − y*‖² of its tangent model.",
    source="[ChizatOyallonBach2019] Theorem 2.3 and appendix B.2",
    predictions=(
        Prediction(OUTPUTS, Interval(0.0, 1.0), "published"),
        Prediction(WEIGHTS, Interval(0.0, 1.0), "published"),
        Prediction(SHARP, Interval(0.0, 1.0), "derived"),
        Prediction(TIGHT, Interval(0.9, 1.0), "chosen"),
        Prediction(CONDITION, Interval.at_least(1 - ROUNDING), "derived"),
        Prediction(CONSTANTS, Interval(0.0, 1 + ROUNDING), "derived"),
    ),
)
GRID = ("family", "seed")
BATCHED = ("seed",)


class Config(Settings):
    family: tuple[str, ...] = ("scalar", "rotated", "sine", "tanh", "softplus")
    seeds: int = 16
    tolerance: float = 1e-10
    shrink: float = 1.0


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a problem; the problems of a family are one ensemble."""
    family = points[0]["family"]
    generators = [generator(point["seed"], 23) for point in points]
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
    tangent = GradientFlow(j @ j.mT, (first - residual)[..., None], first[..., None], samples=1)
    tangent_outputs, tangent_moved = tangent.train(time)[..., 0], tangent.test(time, j.mT)[..., 0]

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


def judge(rows: "DataFrame") -> Judgement:
    """The largest ratios over all problems against 1, with the largest integration error of any of them."""
    line = rows[rows.family == "scalar"]
    sharper = 4.0  # (2 + 4K/3) / (½ + K/3)
    largest = {
        OUTPUTS: rows.output_ratio.max(),
        WEIGHTS: rows.weight_ratio.max(),
        SHARP: sharper * rows.weight_ratio.max(),
        TIGHT: line.output_ratio.max(),
        CONDITION: rows.condition.min(),
        CONSTANTS: rows.quotient.max(),
    }
    error = {
        OUTPUTS: rows.output_error.max(),
        WEIGHTS: rows.weight_error.max(),
        SHARP: sharper * rows.weight_error.max(),
        TIGHT: line.output_error.max(),
    }
    merits = {
        "problems": float(len(rows)),
        "violations of the bound on outputs": float((rows.output_ratio > 1).sum()),
        "violations of the bound on weights": float((rows.weight_ratio > 1).sum()),
        "median of measured / bound, outputs": float(rows.output_ratio.median()),
        "largest ‖w(T) − w_0‖ / r": float(rows.reach.max()),
    }
    measured = {name: Interval(float(value), float(value)) for name, value in largest.items()}
    return STATEMENT.judge(measured, {name: float(value) for name, value in error.items()}, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line a family: how many problems, violations, and how tight the bounds are."""
    import pandas

    return pandas.DataFrame(
        {
            "family": family,
            "problems": len(some),
            "violations": int(np.sum((some.output_ratio > 1) | (some.weight_ratio > 1))),
            "largest measured / bound, outputs": float(np.max(some.output_ratio)),
            "median": float(np.median(some.output_ratio)),
            "largest measured / bound, weights": float(np.max(some.weight_ratio)),
            "K from": float(np.min(some.horizon)),
            "K to": float(np.max(some.horizon)),
        }
        for family, some in rows.groupby("family", sort=False)
    )


def draw(rows: "DataFrame") -> "Figure":
    """Histogram of measured / bound, and the ratio against the horizon K, by family of maps."""
    made, (top, bottom) = figure(2, height=5.4)
    with style():
        families = list(dict.fromkeys(rows.family))
        logs = np.log10(rows.output_ratio.to_numpy())
        bins = np.append(np.linspace(np.floor(logs.min()), 0.0, 26), 0.25)  # what is beyond 0 exceeds the bound
        values = [logs[rows.family == family] for family in families]
        top.hist(values, bins=bins, stacked=True, color=PALETTE[: len(families)], label=families)
        top.axvline(0.0, color="black", linewidth=1.0, linestyle="--", label="bound")
        top.set(xlabel="log₁₀ (measured / bound), outputs", ylabel="problems")
        for family, marker, colour in zip(families, MARKERS, PALETTE, strict=False):
            some = rows[rows.family == family]
            bottom.loglog(some.horizon, some.output_ratio, marker, color=colour, markersize=2.5, linestyle="none")
        bottom.axhline(1.0, color="black", linewidth=1.0, linestyle="--")
        bottom.set(xlabel="horizon K = T Lip(h)²", ylabel="measured / bound, outputs")
        made.legend(loc="outside lower center", ncols=3)
    return made
