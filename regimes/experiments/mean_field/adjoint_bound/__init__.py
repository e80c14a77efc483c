"""How small can the adjoint of a mean-field ResNet become, and is it the limit of back-propagation?

p' = −∇F(X, t)ᵀ p and |∇F| ≤ C(t) = Σ_j |μ_j| |u_j| |v_j| sup|σ'| give |p(t)| ≥ |p(1)| exp(−∫_t^1 C) for every sample.
With p(1) = (w·X(1) − y) w the norm at the end is ‖p(1)‖ = |w| √(2E), so that, in L² of the samples,
    ‖p(·, t)‖ ≥ |w| √(2E(ρ)) exp(−∫_t^1 C(s) ds).
For |w| = 1 and E ≤ 2 this implies the lemma of the source, ‖p‖ ≥ exp(−(C_1 + C_2 t)) E(ρ), with constants that can be
computed. It is why a net whose risk is not 0 always has a direction of descent. The bound is nearly attained where all
Jacobians point back along one direction and σ' is near its supremum: with inputs of size 0.01 the ratio is 1 + O(1e-4).

Back-propagation through L blocks is the Euler method for X, and for p backwards: its difference to p is O(1/L). The
relative correction is of order 1/L too, a few per cent at the smallest depth, hence ±0.1 on the exponent.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.mean_field.adjoint_bound.config import RANDOM, TIGHT
from regimes.experiments.mean_field.adjoint_bound.config import Config as Config
from regimes.experiments.mean_field.adjoint_bound.flow import drawn, flow, norm
from regimes.lab import figures
from regimes.lab.averages import least, most
from regimes.lab.numbers import Number, cells, each, extent, geometric_mean, judged, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LEAST = "random measures: smallest ‖p(t)‖ over its bound, t < 1"
ATTAINED = "measures made for it: ‖p(0)‖ over its bound"
ORDER = "random measures: exponent in L of the difference of back-propagation to the adjoint"
STATEMENT = Statement(
    title="The adjoint of a deep net does not vanish before its risk does",
    claim="‖p(·, t)‖ ≥ |w| √(2E) exp(−∫_t^1 C), with C(t) = Σ |μ_j| |u_j| |v_j| sup|σ'|, for every measure; this bound "
    "cannot be improved; p is the limit of back-propagation at the rate 1/L.",
    source="[Lu2020] for the lemma; constants and rate are derived here",
    predictions=(
        Prediction(LEAST, Interval(1.0, float("inf")), "derived"),
        Prediction(ATTAINED, Interval(1.0, 1.001), "derived"),
        Prediction(ORDER, Interval.around(-1.0, 0.1), "derived"),
    ),
)
GRID = ("problems", "layers", "seed")
BATCHED = ("seed",)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a problem: how near the adjoint comes to its bound, and how far back-propagation is from it.

    Integrated at the tolerance and at ten times the tolerance; the differences are the recorded errors.
    """
    layers = points[0]["layers"]
    risk, rho = drawn(config, points)
    blocks = rho.blocks(layers)
    propagated = risk.adjoint(blocks, risk.states(blocks))
    found = []
    for tolerance in (config.tolerance, 10 * config.tolerance):
        exact = flow(risk, rho, layers, tolerance)
        over = (norm(exact.adjoint).log() - exact.log_bound).exp()[:, :-1]  # at t = 1 the two are equal
        off = norm(propagated - exact.adjoint).amax(1) / norm(exact.adjoint[:, -1])
        found.append({"ratio": over.amin(1), "ratio_at_0": over[:, 0], "difference": off})
    fine, coarse = found
    columns = fine | {f"{name}_error": (fine[name] - coarse[name]).abs() for name in fine}
    columns["risk"] = risk.risk(blocks)
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(points))]


def judge(rows: "DataFrame") -> Judgement:
    """The smallest ratios, and the exponent of the difference."""
    some, tight = (rows[rows.problems == kind] for kind in (RANDOM, TIGHT))
    found = {
        LEAST: extent(some.ratio, some.ratio_error) if len(some) else None,
        ATTAINED: extent(tight.ratio_at_0, tight.ratio_at_0_error) if len(tight) else None,
        ORDER: slope(some.layers, some.difference, some.seed, some.difference_error) if len(some) else None,
    }
    merits = {"random measures": float(some.seed.nunique()), "risk, geometric mean": geometric_mean(some.risk)}
    return judged(STATEMENT, found, merits)


def differences(rows: "DataFrame") -> dict[int, Number]:
    """Difference of back-propagation to the adjoint of random measures, by depth: geometric means over the seeds."""
    return each(rows[rows.problems == RANDOM], "layers", lambda some: geometric_mean(some.difference))


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each kind of problem and depth."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["problems", "layers"], sort=False)
    for (kind, layers), some in groups:
        line: dict[str, Any] = {"measures": kind, "L": layers, "problems": len(some)}
        line |= {"smallest ‖p‖ / bound": least(some.ratio), "largest ‖p(0)‖ / bound": most(some.ratio_at_0)}
        lines.append(line | cells("‖P_L − p‖ / ‖p(1)‖", geometric_mean(some.difference)))
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """How near the adjoint comes to its bound, and the difference of back-propagation to it."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=2.8)
    with figures.style():
        some, tight = (rows[rows.problems == kind] for kind in (RANDOM, TIGHT))
        deepest: Any = some[some.layers == some.layers.max()]
        bins = np.geomspace(1.0, max(2.0, float(np.max(rows.ratio_at_0))), 25)
        left.hist(deepest.ratio_at_0, bins=bins, color=figures.PALETTE[0], label="random measures")
        if len(tight):
            look: dict[str, Any] = {"color": figures.PALETTE[1], "linestyle": "--", "label": "made for the bound"}
            left.axvline(float(np.max(tight.ratio_at_0)), **look)
        left.set(xscale="log", xlabel=r"$\|p(0)\|$ over its bound", ylabel="measures")
        left.set_ylim(top=1.35 * left.get_ylim()[1])
        left.legend(loc="upper right")
        if len(some):
            label = figures.with_exponent("exponent in L", slope(some.layers, some.difference, some.seed))
            figures.curve(right, differences(rows), label=label)
            right.legend()
        right.set(xscale="log", yscale="log", xlabel="number L of blocks", ylabel=r"$\|P_L - p\|\,/\,\|p(1)\|$")
        seeds = rows.seed.nunique()
        figures.explain(
            made,
            f"Left: {len(deepest)} random measures. Right: geometric means of {seeds} problems; "
            f"{figures.intervals('bands', seeds)}.",
        )
    return made
