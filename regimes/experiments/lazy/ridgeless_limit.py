"""Where lazy training ends: kernel ridgeless regression with the net's own initial tangent kernel.

Statement. Gradient flow of the square risk to convergence, over-parameterised and lazy: on every input x,
    f_∞(x) → f_0(x) + Θ(x, X) Θ(X, X)⁻¹ (y − f_0(X)),    Θ the tangent kernel at w_0, f_0 = αh(w_0),
at the rate of the outputs in Theorem 2.4, O(1/α). f_0 = 0 where the net is doubled or centred.

Set-up. h(x) = (1/m) Σ_j a_j tanh(b_j·x), both layers trained by particle flow until the residual has shrunk by the
factor `residual`; distance = root mean square over test points of the unit sphere. Four starts:
* `centred` (h − h(w_0), m Gaussian neurons): rate 1/α, attained.
* `doubled` (m/2 neurons and their images (−a, b)): rate 1/α². The mirror symmetry that turns h into −h makes the
  outputs even in 1/α at all times (see lazy_rate), so also at the end.
* `plain` (m Gaussian neurons, m fixed): f_0 = αh(w_0) grows with α, F_α tends to ½‖h‖², the weights move by O(1), and
  the limit differs from the kernel's by O(α): exponent +1. The offset f_0 in the formula does not save it.
* `wide` (Gaussian neurons, m = α², so that αh is the classical net with 1/√m): f_0 is O(1), not 0, and the formula
  needs it. The theorem gives 1/α at most. The term of order 1/α is (1/α)(1/m) Σ_j q_j with q_j odd in a_j: a mean of
  m nearly centred numbers, of size 1/(α√m) = 1/α². So the expected exponent is −2 in α, −1 in m. `wide without f₀` is
  the same distance for `wide` when the offset is left out of the formula: it does not decrease, exponent 0.

Protocol (inferred: the paper has no such table). n points on the sphere of R^d, targets N(0, 1), fresh for each seed.
Runs of one width are one ensemble, integrated as v = α(w − w_0), each to its own end, at a tolerance of residual/1000
and of residual/100. The recorded error is the difference of the two, plus what the remaining residual is worth on the
test points, ‖Θ(x, X) Θ⁻¹ (f(X) − y)‖. Rank and condition of Θ(X, X) are recorded: the claim needs full rank.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from regimes.activations import activation
from regimes.conventions import function_norm, generator
from regimes.data.synthetic import sphere
from regimes.lab.config import Settings
from regimes.lab.figures import figure, power_law, style
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import loglog_slope, slope_error
from regimes.meanfield.displacement import displaced, displacement_flow
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk, tangent_kernel_trace
from regimes.tangent.regression import kernel_ridge, predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Start = Literal["doubled", "centred", "plain", "wide"]
BOUND, WITHOUT, RANK = "wide: exponent, theorem", "wide without f₀: exponent", "smallest rank of Θ / n"

STATEMENT = Statement(
    claim="A lazy net at convergence is kernel ridgeless regression with its own initial tangent kernel, up to O(1/α).",
    source="[ChizatOyallonBach2019] Theorem 2.4 and section 2; exponents derived in the docstring",
    predictions=(
        Prediction("doubled: exponent", Interval.around(-2.0, 0.1), "derived"),
        Prediction("centred: exponent", Interval.around(-1.0, 0.05), "derived"),
        Prediction("plain: exponent", Interval.around(1.0, 0.05), "derived"),
        Prediction(BOUND, Interval.at_most(-0.95), "derived"),
        Prediction("wide: exponent", Interval.around(-2.0, 0.25), "derived"),
        Prediction(WITHOUT, Interval.around(0.0, 0.25), "derived"),
        Prediction(RANK, Interval(1.0, 1.0), "derived"),
    ),
)
GRID = ("start", "width", "alpha", "seed")
BATCHED = ("start", "alpha", "seed")  # of one width: the wide nets of each scale are an ensemble of their own


class Config(Settings):
    start: tuple[Start, ...] = ("doubled", "centred", "plain", "wide")
    alpha: tuple[float, ...] = (100.0, 200.0, 400.0)
    wide_alpha: tuple[int, ...] = (5, 8, 12)
    seeds: int = 5
    width: int = 16
    inputs: int = 8
    samples: int = 5
    test_samples: int = 50
    activation: str = "tanh"
    residual: float = 1e-7
    wide_residual: float = 1e-4


def points(config: Config) -> list[dict[str, Any]]:
    """All starts at the same scales, except that the wide nets have their own, with width α²."""
    return [
        {"start": start, "width": width, "alpha": float(alpha), "seed": seed}
        for start in config.start
        for alpha in (config.wide_alpha if start == "wide" else config.alpha)
        for width in [int(alpha) ** 2 if start == "wide" else config.width]
        for seed in range(config.seeds)
    ]


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run; the runs of one width are one ensemble."""
    unit, seeds = activation(config.activation), [point["seed"] for point in points]
    x, x_test = (
        torch.stack([sphere(count, config.inputs, generator=generator(seed, stream)) for seed in seeds])
        for count, stream in ((config.samples, 2), (config.test_samples, 4))
    )
    y = torch.stack([torch.randn(config.samples, 1, generator=generator(s, 3), dtype=torch.float64) for s in seeds])
    nets = [_initial(point["start"], point["width"], config.inputs, point["seed"]) for point in points]
    start = Particles(*(torch.cat(part) for part in zip(*nets, strict=True)))
    alpha = torch.tensor([point["alpha"] for point in points], dtype=torch.float64)
    centred = torch.tensor([point["start"] == "centred" for point in points])[:, None, None]
    net = TwoLayerRisk(x, y, unit)
    offset, offset_test = (torch.where(centred, net.outputs(start, inputs), 0.0) for inputs in (x, x_test))
    risk = TwoLayerRisk(x, y, unit, alpha=alpha, offset=offset)

    f_train_0, f_test_0 = risk.outputs(start), risk.outputs(start, x_test, offset=offset_test)
    kernel = tangent_kernel_trace(start, x, x, unit)
    k_test_train = tangent_kernel_trace(start, x_test, x, unit)
    fit = kernel_ridge(kernel, y - f_train_0)
    limit = f_test_0 + predict(fit, k_test_train)

    wide = all(point["start"] == "wide" for point in points)
    residual = config.wide_residual if wide else config.residual
    ends = []
    for tolerance in (residual / 1000, residual / 100):
        goal = residual**2 * risk.risk(start).clamp(min=0.5)
        *_, last = displacement_flow(
            risk, start, [1e9], rtol=tolerance, atol=tolerance, risk_below=goal, max_steps=1_000_000
        )
        weights = displaced(start, last.moved, alpha)
        ends.append((last, risk.outputs(weights), risk.outputs(weights, x_test, offset=offset_test)))
    (last, f_train, f_test), (_, _, f_test_coarse) = ends
    unfinished = predict(kernel_ridge(kernel, f_train - y), k_test_train)
    columns: dict[str, Tensor] = {
        "distance": function_norm(f_test - limit),
        "error": function_norm(f_test - f_test_coarse) + function_norm(unfinished),
        "without_offset": function_norm(f_test - predict(kernel_ridge(kernel, y), k_test_train)),
        "limit_size": function_norm(limit),
        "offset_size": function_norm(f_test_0),
        "residual": function_norm(f_train - y),
        "rank": fit.rank / config.samples,
        "condition": fit.condition,
        "time": last.time,
        "steps": last.steps,
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]


def _initial(start: Start, width: int, inputs: int, seed: int) -> Particles:
    if start == "doubled":
        return double(gaussian(width // 2, inputs, generators=[generator(seed, 1)]))
    return gaussian(width, inputs, generators=[generator(seed, 1)])


def judge(rows: "DataFrame") -> Judgement:
    """Exponents in α of the distance on test points, one a seed, with Student's interval over the seeds."""
    measured, error = {}, {}
    for name, start, column in _curves(rows):
        some = rows[rows.start == start]
        measured[f"{name}: exponent"] = loglog_slope(some.alpha, some[column], groups=some.seed.to_numpy()).interval
        error[f"{name}: exponent"] = slope_error(some.alpha, some[column], some.error, groups=some.seed.to_numpy())
    measured[BOUND], error[BOUND] = measured["wide: exponent"], error["wide: exponent"]
    rank = float(np.min(rows["rank"]))
    measured[RANK] = Interval(rank, rank)
    merits = {
        "largest error / distance": float(np.max(rows.error / rows.distance)),
        "largest condition of Θ": float(np.max(rows.condition)),
    }
    return STATEMENT.judge(measured, error, merits)


def _curves(rows: "DataFrame") -> list[tuple[str, str, str]]:
    """Name, start and column of what is drawn and judged."""
    starts = [(start, start, "distance") for start in dict.fromkeys(rows.start)]
    return [*starts, ("wide without f₀", "wide", "without_offset")]


def draw(rows: "DataFrame") -> "Figure":
    """Distance to kernel ridgeless regression against α: geometric means over the seeds with 95 % bands."""
    made, ax = figure(height=3.6)
    with style():
        for number, (name, start, column) in enumerate(_curves(rows)):
            some = rows[rows.start == start]
            power_law(ax, some.alpha, some[column], some.seed.to_numpy(), label=name, number=number)
        ax.set(
            xlabel="scale α (wide nets: α = √width)",
            ylabel="distance to kernel regression\n(root mean square over test points)",
        )
        made.legend(title="start: exponent of α", loc="outside lower center", ncols=2)
    return made
