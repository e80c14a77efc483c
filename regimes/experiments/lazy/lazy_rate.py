"""Theorem 2.2: on a fixed time interval, how far from w_0 and from its tangent model does a net of scale α travel?

Statement. If h(w_0) = 0, then for every fixed T, as α → ∞, with sup over t in [0, T],
    sup‖w_α − w_0‖ = O(1/α),    sup‖w_α − w̄_α‖ = O(1/α²),    sup‖αh(w_α) − αh̄(w̄_α)‖ = O(1/α).

Set-up. h(x) = (1/m) Σ_j a_j tanh(b_j·x), both layers trained by particle flow, which is the gradient flow of F_α in
the norm ‖w‖² = (1/m) Σ_j ‖(a_j, b_j)‖². Three starts with the same data:
* `centred`: h − h(w_0) is trained, from m Gaussian neurons. The hypothesis holds and nothing is special: the rates of
  the theorem are attained.
* `doubled`: m/2 Gaussian neurons (a, b) and their mirror images (−a, b). The hypothesis holds, and more: the exchange
  S(w) of each neuron with minus the output weight of its image keeps w_0 and turns h into −h. So F_{−α}(w) = F_α(Sw),
  the flow of −α is the mirror image of that of α, and the outputs f = αh(w_α) are even in 1/α. The term of order 1/α
  has to vanish: outputs come within O(1/α²) of the tangent model, better than the theorem promises; weights still
  move by 1/α and leave w̄ by 1/α².
* `plain`: m Gaussian neurons as they are, h(w_0) ≠ 0, so αh(w_0) grows with α and the hypothesis fails. The theory
  then says: F_α = ½‖h − y/α‖² tends to ½‖h‖², whose flow from w_0 does not know α: it moves by O(1), and leaves the
  tangent flow by O(1), in the weights and in h; in the outputs αh that is O(α). The exponents are 0, 0 and +1:
  without h(w_0) = 0 a large scale is not lazy.

Protocol (inferred: the theorem has no experiment of its own). n points on the unit sphere of R^d, targets N(0, 1),
fresh for each seed. All starts, scales and seeds are one ensemble, integrated as v = α(w − w_0), twice: at the
tolerance and at ten times the tolerance. The largest difference between the two is the recorded error; it enters the
exponents, and a verdict that rests on less than ten times it is not given. The tangent model is exact: GradientFlow
for its outputs, and for its weights w̄ = w_0 − φc/α from the same coefficients.
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
from regimes.meanfield.displacement import displaced, displacement_flow, flatten_particles, motion, tangent_features
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent.regression import GradientFlow

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Start = Literal["doubled", "centred", "plain"]
PARITY = "doubled: outputs, by parity"
LABELS = {"weights": "‖w − w₀‖", "departure": "‖w − w̄‖", "outputs": "‖αh(w) − αh̄(w̄)‖"}
DRAWN = {
    "weights": r"$\|w - w_0\|$",
    "departure": r"$\|w - \bar w\|$",
    "outputs": r"$\|\alpha h(w) - \alpha\bar h(\bar w)\|$",
}
QUANTITIES = tuple(LABELS)

STATEMENT = Statement(
    claim="With h(w_0) = 0 and T fixed: ‖w_α − w_0‖ = O(1/α), ‖w_α − w̄_α‖ = O(1/α²), ‖αh(w_α) − αh̄(w̄_α)‖ = O(1/α).",
    source="[ChizatOyallonBach2019] Theorem 2.2",
    predictions=(
        Prediction("doubled: weights", Interval.around(-1.0, 0.05), "derived"),
        Prediction("doubled: departure", Interval.at_most(-1.9), "derived"),
        Prediction("doubled: outputs", Interval.at_most(-0.95), "derived"),
        Prediction(PARITY, Interval.around(-2.0, 0.1), "derived"),
        Prediction("centred: weights", Interval.around(-1.0, 0.05), "derived"),
        Prediction("centred: departure", Interval.around(-2.0, 0.1), "derived"),
        Prediction("centred: outputs", Interval.around(-1.0, 0.05), "derived"),
        Prediction("plain: weights", Interval.around(0.0, 0.05), "derived"),
        Prediction("plain: departure", Interval.around(0.0, 0.05), "derived"),
        Prediction("plain: outputs", Interval.around(1.0, 0.05), "derived"),
    ),
)
GRID = ("start", "alpha", "seed")
BATCHED = ("start", "alpha", "seed")


class Config(Settings):
    start: tuple[Start, ...] = ("doubled", "centred", "plain")
    alpha: tuple[float, ...] = (300.0, 1000.0, 3000.0)
    seeds: int = 8
    width: int = 16
    inputs: int = 4
    samples: int = 8
    activation: str = "tanh"
    horizon: float = 5.0
    times: int = 20
    tolerance: float = 1e-11


def initial(start: Start, width: int, inputs: int, seed: int) -> Particles:
    """The neurons of one run; the doubled net is as wide as the others."""
    if start == "doubled":
        return double(gaussian(width // 2, inputs, generators=[generator(seed, 1)]))
    return gaussian(width, inputs, generators=[generator(seed, 1)])


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run: the three suprema over the times, each with the measured error of integration."""
    unit = activation(config.activation)
    x = torch.stack([sphere(config.samples, config.inputs, generator=generator(p["seed"], 2)) for p in points])
    y = torch.stack(
        [torch.randn(config.samples, 1, generator=generator(p["seed"], 3), dtype=torch.float64) for p in points]
    )
    nets = [initial(p["start"], config.width, config.inputs, p["seed"]) for p in points]
    start = Particles(*(torch.cat(part) for part in zip(*nets, strict=True)))
    alpha = torch.tensor([p["alpha"] for p in points], dtype=torch.float64)
    centred = torch.tensor([p["start"] == "centred" for p in points])[:, None, None]
    first = TwoLayerRisk(x, y, unit).outputs(start)
    risk = TwoLayerRisk(x, y, unit, alpha=alpha, offset=torch.where(centred, first, 0.0))

    features = tangent_features(start, x, unit)
    kernel = features.mT @ features / config.width
    tangent = GradientFlow(kernel, y, risk.outputs(start))
    times = torch.linspace(0, config.horizon, config.times + 1, dtype=torch.float64)[1:]
    largest: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        largest[name] = torch.maximum(largest.get(name, value), value)

    flows = (displacement_flow(risk, start, times, rtol=tol, atol=tol) for tol in _tolerances(config))
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


def _tolerances(config: Config) -> tuple[float, float]:
    return config.tolerance, 10 * config.tolerance


def judge(rows: "DataFrame") -> Judgement:
    """Exponents in α, one a seed, with Student's interval over the seeds."""
    measured, error = {}, {}
    for start, some in rows.groupby("start", sort=False):
        for name in QUANTITIES:
            slope = loglog_slope(some.alpha, some[name], groups=some.seed.to_numpy())
            measured[f"{start}: {name}"] = slope.interval
            error[f"{start}: {name}"] = slope_error(
                some.alpha, some[name], some[f"{name}_error"], groups=some.seed.to_numpy()
            )
    measured[PARITY], error[PARITY] = measured["doubled: outputs"], error["doubled: outputs"]
    worst = {f"largest error / {name}": float(np.max(rows[f"{name}_error"] / rows[name])) for name in QUANTITIES}
    return STATEMENT.judge(measured, error, worst)


def table(rows: "DataFrame") -> "DataFrame":
    """Exponent in α of each quantity for each start, and the initial output."""
    import pandas

    lines = []
    for start, some in rows.groupby("start", sort=False):
        exponents = {
            f"exponent of sup {LABELS[name]}": loglog_slope(some.alpha, some[name], groups=some.seed.to_numpy()).value
            for name in QUANTITIES
        }
        largest = float(some.initial_output.max())
        lines.append({"start": start, **exponents, "largest ‖αh(w₀)‖": 0.0 if largest < 1e-9 else largest})
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """One panel a quantity: geometric means over the seeds with 95 % bands against α; exponents in the legends."""
    made, axes = figure(3, height=7.2)
    with style():
        for ax, name in zip(axes, QUANTITIES, strict=True):
            for number, (start, some) in enumerate(rows.groupby("start", sort=False)):
                power_law(ax, some.alpha, some[name], some.seed.to_numpy(), label=str(start), number=number)
            ax.set(xlabel="scale α", ylabel=f"sup {DRAWN[name]}")
            ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, columnspacing=0.8, handlelength=1.2)
        made.suptitle("start: exponent of α", fontsize=9)
    return made
