"""Theorem 2.5: an under-parameterised lazy net converges geometrically, to a local minimum of positive risk.

Statement. R strongly convex, h(w_0) = 0, rank Dh constant near w_0: there is α_0 such that for α ≥ α_0 the gradient
flow of F_α converges at a geometric rate to a local minimum of F_α.

Set-up (inferred: the theorem has no experiment). Square risk, n Gaussian inputs, N(0, 1) targets; h = (1/m) Σ_j a_j
tanh(b_j·x) − h(w_0), a_j = ±1, b_j Gaussian, with p = m(d + 1) < n weights, all trained by particle flow. Dh(w_0) has
full column rank p, and full rank is an open condition: the rank is locally constant. (A doubled net would not do: the
image of a neuron has the same tangent features, so rank Dh(w_0) is p/2, but p nearby.)

What theory gives for v = α(w − w_0), v' = −m ∇_v R: the slowest rate at the limit is the smallest eigenvalue of the
Hessian m ∇²_v R there. It is that of m JᵀJ/n, the smallest nonzero eigenvalue λ of Θ(w_0)/n, plus (residual ×
curvature)/α, as the residual does not vanish. So log‖f(t) − f_∞‖ falls linearly with slope → −λ at relative distance
O(1/α); the excess risk falls twice as fast; at the limit the gradient is zero and the Hessian positive definite; the
limit is not that of the tangent model, but within O(1/α) of it.
The protocol is in `flow`, the fit of the rate in `fits`.
"""

from typing import TYPE_CHECKING

from regimes.experiments.lazy.under_parameterised.config import Config as Config
from regimes.experiments.lazy.under_parameterised.figure import draw as draw
from regimes.experiments.lazy.under_parameterised.fits import fits
from regimes.experiments.lazy.under_parameterised.flow import measure as measure
from regimes.lab.averages import averages
from regimes.lab.numbers import extent, judged, largest, slope, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

STRAIGHT = "smallest r² of log ‖f − f_∞‖ against t"
DECADES = "fewest decades of the excess risk in a fit"
HESSIAN_RATE = "rate / smallest eigenvalue of the Hessian at the limit"
KERNEL_RATE = "rate / smallest nonzero eigenvalue of Θ(w_0)/n, largest α"
RATE_EXPONENT = "exponent of |smallest eigenvalue of the Hessian / λ − 1| in α"
GRADIENT = "largest ‖∇F(w_∞)‖ / ‖∇F(w_0)‖"
CURVATURE = "smallest eigenvalue of the Hessian at the limit / λ"
RISK = "smallest R(f_∞) / R(0)"
TANGENT_EXPONENT = "exponent of ‖f_∞ − f̄_∞‖ in α"
RANK = "rank of Dh / p, at w_0 and w_∞"

STATEMENT = Statement(
    title="Lazy training converges with fewer weights than samples",
    claim=(
        "With fewer weights than samples, h(w_0) = 0 and rank Dh constant, for large α the flow converges "
        "geometrically to a local minimum."
    ),
    source="[ChizatOyallonBach2019] Theorem 2.5; rates and exponents derived in the docstring",
    predictions=(
        Prediction(STRAIGHT, Interval(0.999, 1.0), "chosen"),
        Prediction(DECADES, Interval.at_least(10.0), "chosen"),
        Prediction(HESSIAN_RATE, Interval.around(1.0, 0.02), "derived"),
        Prediction(KERNEL_RATE, Interval.around(1.0, 0.02), "derived"),
        Prediction(RATE_EXPONENT, Interval.around(-1.0, 0.15), "derived"),
        Prediction(GRADIENT, Interval(0.0, 1e-10), "derived"),
        Prediction(CURVATURE, Interval.at_least(0.1), "derived"),
        Prediction(RISK, Interval(0.1, 1.0), "chosen"),
        Prediction(TANGENT_EXPONENT, Interval.around(-1.0, 0.1), "derived"),
        Prediction(RANK, Interval(1.0, 1.0), "derived"),
    ),
)
GRID = ("alpha", "seed")
BATCHED = ("alpha", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Ranges over all runs; exponents one a seed, with Student's interval over the seeds."""
    runs = fits(rows)
    laziest = runs[runs.alpha == runs.alpha.max()]
    excess = runs.risk / runs.tangent_risk - 1
    measured = {
        STRAIGHT: extent(runs.r2),
        DECADES: extent(2 * runs.decades),
        HESSIAN_RATE: extent(runs.rate / runs.curvature, runs.error),
        KERNEL_RATE: extent(laziest.rate, laziest.error),
        RATE_EXPONENT: slope(runs.alpha, (runs.curvature - 1).abs(), runs.seed),
        GRADIENT: extent(runs.gradient),
        CURVATURE: extent(runs.curvature),
        RISK: extent(runs.risk),
        TANGENT_EXPONENT: slope(runs.alpha, runs.tangent_distance, runs.seed),
        RANK: extent(runs["rank"]),
    }
    merits = {
        "largest ‖f(T) − f_∞‖ / ‖f(0) − f_∞‖ removed by Newton's method": largest(runs.polish),
        "largest R(f_∞) / R(tangent model's limit) − 1": largest(excess),
        "smallest R(f_∞) / R(tangent model's limit) − 1": smallest(excess),
    }
    return judged(STATEMENT, measured, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Arithmetic means over the seeds, for each scale."""
    shown = ["rate", "r2", "decades", "curvature", "risk", "tangent_risk", "tangent_distance"]
    return averages(fits(rows), ["alpha"], shown)
