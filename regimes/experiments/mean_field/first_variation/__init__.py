"""Is δE/δρ(θ, t) = mean_n f(X(t), θ)·p(t), p the adjoint, the first variation of a deep net's risk in its measure?

Between two measures ρ and ν over parameters and depth, E((1 − λ)ρ + λν) − E(ρ) − λ ⟨δE/δρ, ν − ρ⟩ is O(λ²) exactly if
δE/δρ is the first variation; else a term of order λ is left. E is a smooth function of the masses, so the order is 2 up
to a relative correction of order λ, which moves the slope over three decades below 0.1 by less than 0.05. The net of L
blocks has this property by itself, with the adjoint of back-propagation: it holds at every L, not in the limit alone.

Control: the adjoint left as it is at the output, p(t) = p(1). This forgets that a block moves the inputs of those after
it, so its remainder is of order 1.
"""

from typing import TYPE_CHECKING, Any

import torch

from regimes.experiments.mean_field.first_variation.config import Config as Config
from regimes.experiments.mean_field.paths import paths, problem
from regimes.experiments.mean_field.powers import PowerLaws
from regimes.lab.numbers import geometric_mean, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.meanfield.depth import DepthMeasure, DepthRisk, mixture
from regimes.streams import DeepFlow

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

DEPTHS = (4, 16, 64)
KINDS = {
    "remainder": ("with the adjoint", Interval.around(2.0, 0.1)),
    "control": ("control, p(1) in place of p(t)", Interval.around(1.0, 0.1)),
}


def _order(column: str, layers: int) -> str:
    return f"L = {layers}: order in λ of the remainder, {KINDS[column][0]}"


STATEMENT = Statement(
    title="The adjoint gives the first variation of a deep net's risk",
    claim="E((1 − λ)ρ + λν) − E(ρ) − λ ⟨δE/δρ, ν − ρ⟩ is of order λ² for measures ρ, ν over parameters and depth of a "
    "ResNet, with δE/δρ = mean of f(X, θ)·p, p the adjoint.",
    source="[Lu2020]; the exact form for finitely many blocks is derived here",
    predictions=tuple(
        Prediction(_order(column, layers), interval, "derived")
        for layers in DEPTHS
        for column, (_, interval) in KINDS.items()
    ),
)
LAWS = PowerLaws({column: words for column, (words, _) in KINDS.items()}, ("share", "λ"), ("layers", "L"), "rounding")
GRID = ("layers", "share", "seed")
BATCHED = ("seed",)
ROUNDING = 1e-15  # of a difference of risks, relative to the risk


class _AsAtTheOutput(DepthRisk):
    """The control: an adjoint that no block changes."""

    def adjoint(self, measure: DepthMeasure, states: torch.Tensor) -> torch.Tensor:
        return super().adjoint(measure, states)[:, -1:].expand_as(states)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row for each pair of measures: both remainders, absolute, and the risk that they are parts of."""
    layers, share, seeds = points[0]["layers"], points[0]["share"], [point["seed"] for point in points]
    risk = problem(config.samples, config.inputs, seeds)
    rho, nu = (
        paths(config.particles, config.inputs, seeds, stream).blocks(layers)
        for stream in (DeepFlow.MEASURE, DeepFlow.OTHER)
    )
    before = risk.risk(rho)
    change = risk.risk(mixture(rho, nu, share)) - before
    other = _AsAtTheOutput(risk.x, risk.y, risk.readout, risk.activation)
    columns = {
        "remainder": (change - share * risk.slope(rho, nu)).abs(),
        "control": (change - share * other.slope(rho, nu)).abs(),
        "risk": before,
        "rounding": ROUNDING * before,
    }
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(points))]


def judge(rows: "DataFrame") -> Judgement:
    """The orders at each depth of a prediction."""
    found = {
        _order(column, layers): one
        for column in KINDS
        for layers, one in LAWS.exponents(rows, column).items()
        if layers in DEPTHS
    }
    return judged(STATEMENT, found, {"risk of ρ, geometric mean": geometric_mean(rows.risk)})


def table(rows: "DataFrame") -> "DataFrame":
    """Both remainders for each depth and share."""
    return LAWS.table(rows)


def draw(rows: "DataFrame") -> "Figure":
    """Remainders against the share for every depth; the orders are in the legend."""
    return LAWS.draw(rows, r"share $\lambda$ of the second measure", "remainder of the risk", "remainder: order")
