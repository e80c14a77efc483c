"""What becomes of a deep residual net whose residual branch has a large scale α?

Set-up, see `nets`. X_{l+1} = X_l + (α/(L M)) Σ_j [f(X_l, θ_lj) − f(X_l, θ_0,lj)], trained with the step rate·L M/α², so
that δ = α (θ − θ_0) moves by O(1) a step at every α.

Derivation. A neuron of a block adds α [f(X, θ_0 + δ/α) − f(X, θ_0)] = ∇_θ f·δ + (1/(2α)) D²f[δ, δ] + ..., at (X, θ_0).
* Weights move by 1/α: exponent −1.
* For α = ∞ a block is linear in δ. That is the lazy ODE: X' = ∫ ∇_θ f(X, θ_0)·δ dρ. The second term keeps the net
  O(1/α) away from it, at every depth, as both are trained with the same steps: exponent −1.
* Blocks' kernels ∇_θ f ∇_θ fᵀ at fixed states change by D²f ∇f δ/α: exponent −1.
* A law of θ_0 that is the same for u and −u turns f into −f, and so α into −α: the net is even in 1/α, terms of order
  1/α cancel, and the last two exponents are −2. That is so of Gaussian weights, exactly if every neuron has its mirror
  image. With independent ones it holds up to 1/√(L M), so a deep net has −2 first and −1 at α above √(L M).
* The lazy ODE is not the tangent model of the whole net: its blocks are linear in δ, but the states in which they act
  have moved by O(1). So the net stays O(1) away from its tangent model, however large α is: exponent 0. A two-layer
  net of scale α tends to its own (`lazy_rate`): this is what depth adds.
* Control, α = 1: blocks learn features, their kernels change by more than 0.2, the limit of `laziness` for a kernel.

Corrections are of relative size 1/α, so exponents are measured from α = 100 on. Their intervals are as those of
`lazy_rate`. A pilot with seeds from 1000 on chose steps, sizes and that range; it showed M = 8 too few for the 1/α
term of a block to have its mean.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.lazy_ode.config import CORRELATED, MIRRORED
from regimes.experiments.mean_field.lazy_ode.config import Config as Config
from regimes.experiments.mean_field.lazy_ode.figure import draw as draw
from regimes.experiments.mean_field.lazy_ode.figure import exponent
from regimes.experiments.mean_field.lazy_ode.runs import measure as measure
from regimes.lab.numbers import Number, by_seed, geometric_mean, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

DEPTHS = (16, 64, 256)
FIRST, SECOND, STILL = Interval.around(-1.0, 0.05), Interval.around(-2.0, 0.1), Interval.around(0.0, 0.05)
ORDER = {CORRELATED: FIRST, MIRRORED: SECOND}
QUANTITIES = {
    "weights": "motion of the weights",
    "kernel": "change of the blocks' kernels",
    "to_tangent": "distance to the tangent model of the whole net",
}
ODE = "distance to the lazy ODE"


def _exponent(law: str, words: str, depth: int | None = None) -> str:
    return f"{law}: exponent in α of the {words}" + ("" if depth is None else f", L = {depth}")


def _control(law: str) -> str:
    return f"{law}: change of the blocks' kernels at α = 1"


STATEMENT = Statement(
    title="A residual branch of large scale has a lazy ODE as its limit",
    claim="With scale α on the residual branch the weights of a deep net move by 1/α. At every depth it comes within "
    "O(1/α), or O(1/α²) if the law of its weights is even, of an ODE linear in the weights, not of its tangent model.",
    source="[Chizat2025] for the regime; exponents derived here",
    predictions=tuple(
        prediction
        for law, order in ORDER.items()
        for prediction in (
            Prediction(_exponent(law, QUANTITIES["weights"]), FIRST, "derived"),
            *(Prediction(_exponent(law, ODE, depth), order, "derived") for depth in DEPTHS),
            Prediction(_exponent(law, QUANTITIES["kernel"]), order, "derived"),
            Prediction(_exponent(law, QUANTITIES["to_tangent"]), STILL, "derived"),
            Prediction(_control(law), Interval.at_least(0.2), "chosen"),
        )
    ),
)
GRID = ("law", "layers", "alpha", "seed")
BATCHED = ("alpha", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Exponents by law, of the distance to the ODE by depth too, and the control at α = 1."""
    found: dict[str, Number | None] = {}
    merits: dict[str, Number | None] = {}
    for law in ORDER:
        own = rows.query("law == @law")
        for column, words in QUANTITIES.items():
            found[_exponent(law, words)] = exponent(own, column)
        for depth in DEPTHS:
            found[_exponent(law, ODE, depth)] = exponent(own.query("layers == @depth"), "to_ode")
        found[_control(law)] = geometric_mean(by_seed(own.query("alpha == 1"), "kernel"))
        for alpha, some in own.groupby("alpha"):
            if alpha in (own.alpha.min(), own.alpha.max()):
                merits[f"{law}, α = {alpha:g}: share of the risk left"] = geometric_mean(some.risk / some.risk_0)
                merits[f"{law}, α = {alpha:g}: distance to the ODE / motion of the output"] = geometric_mean(
                    some.to_ode / some.moved
                )
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """For each law, depth and scale: geometric means over the seeds."""
    import pandas

    lines = []
    for key, some in rows.groupby(["law", "layers", "alpha"], sort=False):
        place: Any = key
        line: dict[str, Any] = dict(zip(("law", "L", "α"), place, strict=True))
        for column, words in ({"to_ode": ODE} | QUANTITIES | {"moved": "motion of the output"}).items():
            found = geometric_mean(some[column])
            line[words] = "" if found is None else found.value
        lines.append(line)
    return pandas.DataFrame(lines)
