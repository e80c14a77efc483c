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

Protocol. One ensemble of scales × seeds, integrated in the time t·λ of each run, at the tolerance and at ten times
the tolerance. The limit is the end of the flow polished by Newton's method; `polish` is how far that moved the
outputs, and shows that it is the limit of the flow. The rate is fitted where ‖f(t) − f_∞‖ is between `HIGH` and `LOW`
times its start: 6 decades, 12 of the excess risk. Its integration error is the change of the fit at the coarser
tolerance.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from regimes.activations import TANH
from regimes.conventions import function_norm, generator
from regimes.data.synthetic import gaussian_inputs
from regimes.lab.config import Settings
from regimes.lab.figures import PALETTE, band, figure, power_law, style
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import geometric_mean_interval, loglog_slope
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

HIGH, LOW = 1e-3, 1e-9
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


class Config(Settings):
    alpha: tuple[float, ...] = (300.0, 1000.0, 3000.0)
    seeds: int = 3
    width: int = 1
    inputs: int = 6
    samples: int = 50
    span: float = 25.0
    times: int = 40
    tolerance: float = 1e-11
    newton_steps: int = 6


class Limit(NamedTuple):
    """Local minimum v of R as a function of v = α(w − w_0), and what holds there."""

    v: Float[Tensor, "runs p"]
    outputs: Float[Tensor, "runs n 1"]
    gradient: Float[Tensor, " runs"]
    curvature: Float[Tensor, " runs"]


def problem(config: Config, points: list[dict[str, Any]]) -> tuple[TwoLayerRisk, Particles]:
    """The centred risks and the starts of all runs."""
    seeds = [point["seed"] for point in points]
    x = torch.stack([gaussian_inputs(config.samples, config.inputs, generator=generator(s, 2)) for s in seeds])
    y = torch.stack([gaussian_inputs(config.samples, 1, generator=generator(s, 3)) for s in seeds])
    drawn = gaussian(config.width, config.inputs, generators=[generator(s, 1) for s in seeds])
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


class Fit(NamedTuple):
    """Straight line through log distance against time: rate (in units of λ), r², decades of the distance covered."""

    rate: float
    r2: float
    decades: float


def fit(time: np.ndarray, distance: np.ndarray) -> Fit:
    """Least squares where the distance lies between LOW and HIGH; NaN where fewer than four points do."""
    inside = (distance < HIGH) & (distance > LOW)
    if inside.sum() < 4:
        return Fit(np.nan, np.nan, 0.0)
    t, y = time[inside], np.log(distance[inside])
    r2 = float(np.corrcoef(t, y)[0, 1] ** 2)
    return Fit(float(-np.polyfit(t, y, 1)[0]), r2, float(np.ptp(y) / np.log(10)))


def fits(rows: "DataFrame") -> "DataFrame":
    """One row a run: the fit, its error, and what holds at the limit."""
    import pandas

    made = []
    for _, run in rows.groupby(["alpha", "seed"]):
        first = run.iloc[0]
        rate, r2, decades = fit(run.time.to_numpy(), run.distance.to_numpy())
        loose = fit(run.time.to_numpy(), run.distance_coarse.to_numpy()).rate
        made.append(
            {
                "alpha": first.alpha,
                "seed": first.seed,
                "rate": rate,
                "error": abs(rate - loose),
                "r2": r2,
                "decades": decades,
            }
            | first[["curvature", "gradient", "polish", "risk", "tangent_risk", "tangent_distance"]].to_dict()
            | {"rank": run[["rank_start", "rank_end"]].to_numpy().min()}
        )
    return pandas.DataFrame(made)


def judge(rows: "DataFrame") -> Judgement:
    """Ranges over all runs; exponents one a seed, with Student's interval over the seeds."""
    runs = fits(rows)
    largest = runs[runs.alpha == runs.alpha.max()]
    seeds = runs.seed.to_numpy()
    steepness = runs.rate / runs.curvature
    measured = {
        STRAIGHT: _range(runs.r2),
        DECADES: _range(2 * runs.decades),
        HESSIAN_RATE: _range(steepness),
        KERNEL_RATE: _range(largest.rate),
        RATE_EXPONENT: loglog_slope(runs.alpha, (runs.curvature - 1).abs(), groups=seeds).interval,
        GRADIENT: _range(runs.gradient),
        CURVATURE: _range(runs.curvature),
        RISK: _range(runs.risk),
        TANGENT_EXPONENT: loglog_slope(runs.alpha, runs.tangent_distance, groups=seeds).interval,
        RANK: _range(runs["rank"]),
    }
    error = {HESSIAN_RATE: float(runs.error.max()), KERNEL_RATE: float(largest.error.max())}
    merits = {
        "largest ‖f(T) − f_∞‖ / ‖f(0) − f_∞‖ removed by Newton's method": float(runs.polish.max()),
        "largest R(f_∞) / R(tangent model's limit) − 1": float((runs.risk / runs.tangent_risk - 1).max()),
        "smallest R(f_∞) / R(tangent model's limit) − 1": float((runs.risk / runs.tangent_risk - 1).min()),
    }
    return STATEMENT.judge(measured, error, merits)


def _range(values: ArrayLike) -> Interval:
    """From the smallest to the largest value; NaN if one is NaN."""
    return Interval(float(np.min(np.asarray(values))), float(np.max(np.asarray(values))))


def table(rows: "DataFrame") -> "DataFrame":
    """Means over the seeds for each scale."""
    import pandas

    shown = ("rate", "r2", "decades", "curvature", "risk", "tangent_risk", "tangent_distance")
    return pandas.DataFrame(
        {"alpha": some.alpha.iloc[0], **{name: float(np.mean(some[name])) for name in shown}}
        for _, some in fits(rows).groupby("alpha")
    )


def draw(rows: "DataFrame") -> "Figure":
    """Distance to the limit against time for every run, and what separates the net from its tangent model against α."""
    made, (top, bottom) = figure(2, height=5.2)
    runs = fits(rows)
    with style():
        scales = sorted(set(rows.alpha))
        for alpha, colour in zip(scales[:: max(1, (len(scales) - 1) // 2)], PALETTE, strict=False):
            some = rows[rows.alpha == alpha]
            times = np.unique(some.time)
            means = [geometric_mean_interval(some.distance[some.time == time]) for time in times]
            top.semilogy(times, [mean.value for mean in means], color=colour, label=f"α = {alpha:.0f}")
            band(top, times, [m.interval.low for m in means], [m.interval.high for m in means], color=colour)
        time = np.linspace(0, rows.time.max(), 2)
        top.semilogy(time, np.exp(-time), "--", color="black", linewidth=1.0, label="exp(−λt)")
        top.set(xlabel="time × smallest eigenvalue λ", ylabel=r"$\|f - f_\infty\|\,/\,\|f_0 - f_\infty\|$")
        top.legend()
        curves = {r"$\|f_\infty - \bar f_\infty\|$": runs.tangent_distance, "|μ/λ − 1|": (runs.curvature - 1).abs()}
        for number, (label, values) in enumerate(curves.items()):
            power_law(bottom, runs.alpha, values, runs.seed.to_numpy(), label=label, number=number)
        bottom.set(xlabel="scale α", ylabel="distance from the tangent model")
        bottom.legend(title="exponent of α (μ: Hessian)")
    return made
