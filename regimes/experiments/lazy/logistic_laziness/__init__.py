"""How long is a scaled net lazy under the logistic loss?

Theorem 2.2 of [ChizatOyallonBach2019] holds for any smooth loss, at a fixed time. Under the square loss the distances
stay as they are once the training has converged. The logistic loss has no minimum: weights never rest.

Derivation, for α (h − h(w_0)) under particle flow, v = α(w − w_0), labels y = ±1, s = log t. γ is the largest margin of
the tangent model: the largest min_i y_i f̄(x_i) over v̄ of norm 1.
* The tangent model separates the labels, so v̄(t) = v̂ s + O(1), v̂ the max-margin solution, ‖v̂‖ = 1/γ
  [SoudryHoffer2018]. So ‖w̄ − w_0‖ = s/(αγ) + O(1/α): it grows without limit, but like log t.
* The kernel Θ_s of the net differs from Θ_0 by O(s/α). Let q_i = t e^{−y_i f_i}/n be the force on sample i. Then
  dq_i/ds = q_i (1 − Σ_j y_i y_j Θ_s(x_i, x_j) q_j): as Θ_s changes slowly, q stays O(1/α) close to the dual solution
  λ(Θ_s) of the max-margin problem. Since y_i f_i = s − log(n q_i), on the support vectors |f − f̄| = |log λ(Θ_s) −
  log λ(Θ_0)| + O(1/α) = O(s/α): margins correct themselves.
* What does not correct itself adds up: v − v̄ = ∫ (φ_s q − φ_0 λ) y ds = ∫ O(s/α) ds = O(s²/α), and so do the outputs
  on other points, f − f̄ = ∫ (Θ_s(x, ·) q − Θ_0(x, ·) λ) y ds.
So for 1 ≪ s ≪ α: ‖w − w_0‖ ∝ s/α, ‖w − w̄‖ ∝ s²/α², outputs ∝ s/α on the training points and ∝ s²/α on others. At a
fixed time the exponents in α are those of the theorem. In log t they are 1, 2, 1 and 2; under the square loss, 0.
* The net has left when ‖w − w_0‖/‖w_0‖ passes θ: at log T = θ ‖w_0‖ γ α (1 + O(θ)) + O(1). The outputs on other points
  leave those of the tangent model, relative to f̄ ∝ s, when s²/α ∝ θ s: at log T ∝ α too. So T is exponential in α. No
  net is lazy for ever, and at a large scale all are for as long as anybody trains. [Moroshko2020] has the like for
  diagonal linear nets: how small the training loss has to be before they leave the kernel regime.
  On the training points the relative distance stays O(1/α): who looks at them alone does not see it.
θ = 10 %, the limit of `regimes.diagnose`. A pilot (seeds from 1000 on) chose sizes, tolerance, the grid of times and
the α to fit from, 1000. The intervals are from before it, but for that of the outputs that are 10 % apart.
The three exponents 0 under the square loss are no predictions any more but numbers shown beside them: a run ends when
it has converged, long before the times from which growth is fitted, so that they are 0 by construction.
The exponent 1 was predicted for all training points, and the run refuted it: one that is no support vector has no
margin to correct, and behaves like any other point.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.logistic_laziness.config import LOGISTIC, SQUARE
from regimes.experiments.lazy.logistic_laziness.config import Config as Config
from regimes.experiments.lazy.logistic_laziness.figure import figure
from regimes.experiments.lazy.logistic_laziness.numbers import (
    LEFT,
    QUANTITIES,
    at_fixed_time,
    fixed,
    grows,
    growth,
    leaving,
    leaving_rate,
    left_cells,
)
from regimes.experiments.lazy.logistic_laziness.runs import measure as measure
from regimes.lab.numbers import Number, judged, largest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

AT_FIXED_TIME = {
    "weights": Interval.around(-1.0, 0.05),
    "departure": Interval.around(-2.0, 0.1),
    "train": Interval.around(-1.0, 0.05),
    "held_out": Interval.around(-1.0, 0.05),
}
GROWTH = {
    "weights": Interval.around(1.0, 0.05),
    "departure": Interval.around(2.0, 0.1),
    "train": Interval.around(1.0, 0.1),
    "held_out": Interval.around(2.0, 0.1),
}
STILL = ("weights", "departure", "held_out")  # under the square loss both models come to the labels on the others
MOVED = f"exponent in α of log T at which weights have moved by {LEFT:.0%}"
APART = f"exponent in α of log T at which outputs on other points are {LEFT:.0%} apart"
RATE = f"Δ log T/Δα over {LEFT:g}·‖w₀‖·γ"

STATEMENT = Statement(
    title="Under the logistic loss a net is lazy until log t is about α",
    claim="Under the logistic loss the distance to the tangent model falls like 1/α at a fixed time and grows without "
    "limit in time, by powers of log t; the time at which a net has left its tangent model is exponential in α.",
    source="[ChizatOyallonBach2019] Theorem 2.2, [SoudryHoffer2018] for the tangent model; growth derived here",
    predictions=(
        *(Prediction(fixed(column), interval, "derived") for column, interval in AT_FIXED_TIME.items()),
        *(Prediction(grows(LOGISTIC, column), interval, "derived") for column, interval in GROWTH.items()),
        Prediction(MOVED, Interval.around(1.0, 0.05), "derived"),
        Prediction(APART, Interval.around(1.0, 0.1), "after a pilot"),
        Prediction(RATE, Interval.around(1.0, 0.1), "derived"),
    ),
)
GRID = ("loss", "alpha", "log_time", "seed")
BATCHED = ("loss", "alpha", "log_time", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Exponents at a fixed time and in time, and those of the time of leaving, against those derived."""
    found = {fixed(column): at_fixed_time(rows, column) for column in AT_FIXED_TIME}
    found |= {grows(LOGISTIC, column): growth(rows, LOGISTIC, column) for column in GROWTH}
    found |= {MOVED: leaving(rows, "weights"), APART: leaving(rows, "held_out"), RATE: leaving_rate(rows)}
    moving: Any = rows[rows.loss == LOGISTIC]
    merits: dict[str, Number | None] = {grows(SQUARE, column): growth(rows, SQUARE, column) for column in STILL}
    merits |= {
        f"largest error / {words}": largest(moving[f"{column}_error"] / moving[column])
        for column, (words, _) in QUANTITIES.items()
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """For each α: log T at which weights have moved, and outputs on other points are apart; "≥": not of all seeds."""
    import pandas

    moving: Any = rows[rows.loss == LOGISTIC]
    lines = [
        {"α": alpha}
        | left_cells(f"log T, weights moved {LEFT:.0%}", some, "weights")
        | left_cells(f"log T, outputs {LEFT:.0%} apart", some, "held_out")
        for alpha, some in moving.groupby("alpha")
    ]
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """Distances against α at a fixed time, against log t at the largest α, and the time of leaving against α."""
    return figure(rows)
