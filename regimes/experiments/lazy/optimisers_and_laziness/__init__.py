"""Which optimisers keep the law of lazy training when the scale α of the output grows?

Theorem 2.2 of [ChizatOyallonBach2019] is about gradient flow: ‖w − w_0‖ = O(1/α), ‖w − w̄‖ = O(1/α²) and
‖αh(w) − αh̄(w̄)‖ = O(1/α), w̄ the weights of the tangent model. Here the same net and its tangent model take a fixed
number of steps of the same optimiser on the same batches. The distances are the largest over the steps.

Derivation, for the centred net α (h − h(w_0)) and its risk F_α = R/α². Let v = α(w − w_0) and G_α(v) =
α ∇F_α(w_0 + v/α). Then G_α = G_∞ + O(1/α), and G_∞ is what the tangent model sees, at every α.
* Gradient descent, SGD and momentum are linear in the gradients, with coefficients free of α. So v follows one
  recursion with G_α, the tangent model with G_∞. After fixed steps of a smooth recursion the two differ by as much as
  G_α and G_∞: v − v̄ = O(1/α). Exponents −1, −2, −1.
* Adam divides by the size of the gradients, so their scale is lost. Let its rate be ρ ∝ α^−s.
  - s = 1 with ε ∝ 1/α: in v the recursion has no α but for G_α. Exponents −1, −2, −1.
  - s < 1: the first step moves each weight by ρ, whatever the data. That moves the output by αρ → ∞, so from then on
    the targets do not matter. With u = (w − w_0)/ρ Adam minimises ‖h(w_0 + ρu) − h(w_0)‖²/ρ² = ‖Dh(w_0) u‖² + O(ρ), and
    u = O(1). Hence w − w_0 = O(ρ), the tangent model is left by O(ρ²), and its outputs by O(αρ²): exponents −s, −2s,
    1 − 2s. A fixed rate, s = 0, gives 0, 0, +1: no lazy law at all. For 0 < s < 1 there is a reservation. The second
    step is nearly the sign of the second gradient, and that is another one for net and tangent model in a share O(ρ)
    of the weights. If there are many weights, these dominate, and the last two exponents are −1.5s and 1 − 1.5s. A net
    of a few hundred weights, as here, lies in between.
  - ε far above the gradients: Adam divides by a constant, and is momentum. Exponents −1, −2, −1 at a fixed rate.
    So it is the normalisation that breaks the law, not momentum or the correction of the averages.
  - The rate tuned for each α, to the lowest risk at the end: near s = 1 the risk is a function of αρ alone as α → ∞, so
    the best αρ is one number and the best rate is ∝ 1/α. Who tunes Adam for each α gets the lazy law.
The laws are limits of large α and αρ, so they are fitted from α = 1000 on; smaller α are shown.

A pilot (seeds from 1000 on) chose sizes, steps and rates, among them 0.5/√α instead of 0.05/√α, for which αρ was not
yet large. The intervals for the rates 1/√α and fixed were written after it, and say so.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.optimisers_and_laziness.config import NAMES
from regimes.experiments.lazy.optimisers_and_laziness.config import Config as Config
from regimes.experiments.lazy.optimisers_and_laziness.figure import LARGE, QUANTITIES, figure
from regimes.experiments.lazy.optimisers_and_laziness.runs import TUNED
from regimes.experiments.lazy.optimisers_and_laziness.runs import measure as measure
from regimes.lab.averages import middle
from regimes.lab.numbers import Number, cells, each, geometric_mean, judged, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LAZY = {
    "weights": Interval.around(-1.0, 0.05),
    "departure": Interval.around(-2.0, 0.1),
    "outputs": Interval.around(-1.0, 0.05),
}
LAWS: dict[str, dict[str, Interval]] = dict.fromkeys(NAMES, LAZY) | {
    "Adam, rate 1/√α": {
        "weights": Interval.around(-0.5, 0.05),
        "departure": Interval(-1.1, -0.65),
        "outputs": Interval(-0.1, 0.35),
    },
    "Adam, fixed rate": {
        "weights": Interval.around(0.0, 0.05),
        "departure": Interval.around(0.0, 0.1),
        "outputs": Interval.around(1.0, 0.1),
    },
}
RATE = f"{TUNED}: best rate"
AFTER_PILOT = ("Adam, rate 1/√α", "Adam, fixed rate")
STATEMENT = Statement(
    title="Adam is lazy at a rate ∝ 1/α, not at a fixed one",
    claim="GD, SGD and momentum keep the exponents −1, −2, −1 of lazy training in α; Adam keeps them at a rate ∝ 1/α, "
    "which tuning finds, or with a large ε; at a fixed rate its exponents are 0, 0, +1.",
    source="[ChizatOyallonBach2019] Theorem 2.2 for gradient flow, [KingmaBa2015] for Adam; exponents derived here",
    predictions=(
        *(
            Prediction(f"{name}: {quantity}", interval, "after a pilot" if name in AFTER_PILOT else "derived")
            for name, law in LAWS.items()
            for quantity, interval in law.items()
        ),
        Prediction(RATE, Interval.around(-1.0, 0.1), "derived"),
    ),
)
GRID = ("optimiser", "alpha", "seed")
BATCHED = ("alpha", "seed")


def exponents(rows: "DataFrame", column: str) -> dict[str, Number]:
    """Exponent in α of one column for each optimiser, from α = 1000 on: one a seed, Student's interval over seeds."""
    large = rows[rows.alpha >= LARGE]
    return each(large, "optimiser", lambda some: slope(some.alpha, some[column], some.seed), sort=False)


def judge(rows: "DataFrame") -> Judgement:
    """The exponents against those derived; beside them the share of the risk that is left at the largest α."""
    found = {f"{name}: {column}": one for column in QUANTITIES for name, one in exponents(rows, column).items()}
    left = each(rows[rows.alpha == rows.alpha.max()], "optimiser", lambda some: geometric_mean(some.risk_left))
    merits = {f"{name}: risk left at the largest α": one for name, one in left.items()}
    return judged(STATEMENT, found | {RATE: exponents(rows, "rate").get(TUNED)}, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Of each optimiser: the three exponents, and the share of the risk left at the smallest and the largest α."""
    import pandas

    lines = []
    for name, some in rows.groupby("optimiser", sort=False):
        line: dict[str, Any] = {"optimiser": name}
        for column, (words, _) in QUANTITIES.items():
            line |= cells(f"exponent of {words}", exponents(some, column).get(str(name)))
        for words, alpha in (("smallest", rows.alpha.min()), ("largest", rows.alpha.max())):
            at = some[some.alpha == alpha]
            line |= {f"risk left, {words} α": middle(at.risk_left) if len(at) else ""}
        lines.append(line)
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """One panel a quantity, against α on double logarithmic axes; one legend for all, with the three exponents."""
    return figure(rows, {column: exponents(rows, column) for column in QUANTITIES})
