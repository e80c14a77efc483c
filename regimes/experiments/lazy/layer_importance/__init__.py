"""One trained layer at a time goes back to its start: do the effects add up, and how many layers matter?

Set-up. Deep nets α (h − h(w_0)) on digits, trained to one training loss at every α; see `runs`. Layer l goes back to
its initial weights, which changes the output by Δ_l ([ZhangBengioSinger2022]). All layers back change it by f.

Derivation. With v = α(w − w_0), f = Jv + vᵀHv/(2α) + O(1/α²), J and H the first and second derivative of h at w_0. In
the tangent model Δ_l = J_l v_l, so Σ_l Δ_l = f exactly. Beyond,
    Σ_l Δ_l − f = (1/2α) Σ_{l ≠ l'} v_lᵀ H_{ll'} v_l' + O(1/α²),
and v tends to that of the tangent model, so the gap ‖Σ_l Δ_l − f‖/‖f‖ has the exponent −1 in α, if σ is smooth. ReLU
has a kink: when pre-activations move by O(1/α), a share O(1/α) of the m units changes sign, each with an effect O(1/√m)
on f that has either sign. The sum of m/α such terms is O(α^-1/2): the exponent is −1/2.
At α = 1 the gap is O(1), and nothing makes the layers alike: for dense nets the first one is critical, and the others
can go back with little harm (published). Lazy nets spread the effect over the layers as their kernels are spread.
Effective number of layers: (Σ_l e_l)²/Σ_l e_l², e_l = ‖Δ_l‖².
Controls. All nets have the same training loss, a lazy net with the same start stands beside each, and the exponent is
taken with two activations whose theory differs.

Predictions. Pilots of one seed (1000) chose sizes at which a run takes minutes, and set the intervals that say so. They
showed the exponent −1/2 of ReLU nets before it was derived. In a first run at a fixed step some lazy nets diverged; it
was done again on other seeds, with the same predictions, by steps that are taken back where they raise the loss. The
three on the accuracy had been written without an activation, and judged on the mean over both. They are judged for each
activation alone since 30 November 2026, as the mean hid that they do not hold for ReLU by itself.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.layer_importance.config import Config as Config
from regimes.experiments.lazy.layer_importance.figure import LAZY_FROM, at_each, exponent, layers
from regimes.experiments.lazy.layer_importance.figure import draw as draw
from regimes.experiments.lazy.layer_importance.runs import measure as measure
from regimes.lab.averages import average
from regimes.lab.intervals import CORRELATION
from regimes.lab.numbers import at_highest, at_lowest, by_seed, cells, geometric_mean, judged, largest, mean, paired
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

MEAN_FIELD = 1.0  # α that predictions for the smallest one are about
SMOOTH = "tanh, α ≥ 10: exponent in α of the gap from additive effects"
KINK = "ReLU, α ≥ 10: exponent in α of the gap from additive effects"
RICH_GAP = "tanh, smallest α: gap from additive effects"
FEW = "tanh: effective number of layers, smallest over largest α"
NAMES = {"tanh": "tanh", "relu": "ReLU"}  # activations, of each of which the next three speak
CRITICAL = "largest loss of accuracy by one layer, smallest α − largest α"
FIRST = "smallest α: loss of accuracy by the first layer − largest by another"
ROBUST = "largest α: largest loss of accuracy by one layer"
LOSSES = (
    Prediction(CRITICAL, Interval(0.0, 1.0), "after a pilot"),
    Prediction(FIRST, Interval(0.0, 1.0), "published"),
    Prediction(ROBUST, Interval(-1.0, 0.1), "after a pilot"),
)
STATEMENT = Statement(
    title="Effects of layers add up in lazy nets, and not in others",
    claim="When one trained layer of a tanh or ReLU net at a time goes back to its initial weights, the changes of the "
    "output of a lazy net add up to the output, and none costs much accuracy; at α = 1 the first layer is critical, "
    "and with tanh the changes do not add up.",
    source="[ZhangBengioSinger2022] for the critical layer; exponents derived here",
    predictions=(
        Prediction(SMOOTH, Interval.around(-1.0, 0.1), "derived"),
        Prediction(KINK, Interval.around(-0.5, 0.1), "after a pilot"),
        Prediction(RICH_GAP, Interval.at_least(0.3), "after a pilot"),
        Prediction(FEW, Interval(0.0, 1.0), "after a pilot"),
        *(said._replace(quantity=f"{name}, {said.quantity}") for name in NAMES.values() for said in LOSSES),
    ),
)
GRID = ("activation", "alpha", "seed")
BATCHED = ("alpha", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """One exponent a seed; means over seeds at α = 1 and at the largest α, of each activation alone."""
    tanh, relu = (rows[rows.activation == name] for name in NAMES)
    least, most = at_lowest(rows, "alpha", MEAN_FIELD), at_highest(rows, "alpha", LAZY_FROM)
    few = {name: geometric_mean(_at_both(least, most, name, "effective", np.divide)) for name in NAMES}
    found = {
        SMOOTH: exponent(tanh),
        KINK: exponent(relu),
        RICH_GAP: geometric_mean(least[least.activation == "tanh"].gap),
        FEW: few["tanh"],
    }
    for name, words in NAMES.items():
        rich, lazy = (some[some.activation == name] for some in (least, most))
        drops = _at_both(least, most, name, "largest_drop", np.subtract)
        found |= {
            f"{words}, {CRITICAL}": mean(drops, within=CORRELATION),
            f"{words}, {FIRST}": mean(rich.first_over_others, within=CORRELATION),
            f"{words}, {ROBUST}": mean(lazy.largest_drop, within=CORRELATION),
        }
    merits = {
        "ReLU: effective number of layers, smallest over largest α": few["relu"],
        "largest share of the training loss left": largest(rows.left),
        "test accuracy, smallest α": mean(least.accuracy),
        "test accuracy, largest α": mean(most.accuracy),
    }
    return judged(STATEMENT, found, merits)


def _at_both(least: Any, most: Any, name: str, column: str, combine: Any) -> Any:
    """combine(smallest α, largest α) of a column of one activation, paired by seed."""
    rich, lazy = (by_seed(some[some.activation == name], column) for some in (least, most))
    return paired(rich, lazy, combine)


def table(rows: "DataFrame") -> "DataFrame":
    """Gap, effective number of layers, accuracy, and the loss of accuracy by each layer, for each activation and α."""
    import pandas

    lines = []
    for name, some in rows.groupby("activation", sort=False):
        for alpha, gap in at_each(some, "gap").items():
            at: Any = some[some.alpha == alpha]
            line: dict[str, Any] = {"activation": name, "α": alpha} | cells("gap", gap)
            line |= cells("effective layers", geometric_mean(at.effective)) | {"accuracy": average(at.accuracy)}
            line |= {f"loss, layer {place}": average(at[key]) for place, key in enumerate(layers(rows, "drop"), 1)}
            lines.append(line)
    return pandas.DataFrame(lines)
