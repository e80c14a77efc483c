"""What a trained residual net loses when blocks are deleted: little, smoothly, and at first what each block adds.

With a factor g_l before block l (1, or 0 where it is deleted) a net of L blocks of strength s,
    z ← z + g_l s r_l(z),
is smooth in all g. Taylor: deleting the set S changes the outputs by
    f_S − f = Σ_{i∈S} (f_i − f) + departure,
f_i the net without block i alone. The single changes are O(s), the departure is a sum over pairs of O(s²). In a net
that is to have a limit, s = 1/L (the ensemble view: each block contributes O(1/L)): a single change falls like 1/L, the
departure of two deletions like 1/L², and k deletions are additive up to a share of O(k/L). Control: s = 1/√L, where
blocks are of no use together unless they are random; there the orders are 1/√L and 1/L.

The change of the outputs by k deletions lies between √k (single changes independent of each other) and k (all alike).
The risk is near its minimum, where its derivative in g_l, Σ U_l·∂E/∂U_l, is 0; so it rises like the square of that
change: with an exponent between 1, nearly additive, and 2. Errors of classification should then rise smoothly, too.

A plain net z ← tanh(V_l z + c_l) of the same depth is the control of Veit et al., who deleted layers of VGG: each layer
works in the coordinates that the one before has made, so that one deletion destroys it. At depths to which plain nets
cannot be trained there is nothing to destroy. The prediction, on all depths, did not foresee that: where one has not
trained it can be refuted by the others, but not supported.

Digits of scikit-learn, Adam on the cross-entropy; random orders of deletion, drawn for each seed. Outputs are logits
less their mean over classes, on the test samples; risks are on training samples. Deletion follows training: nothing is
trained again. The intervals were set before any trial run, save that of 1/√L, which was set after one (2 other seeds).
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.deleted_blocks.config import MEAN_FIELD, PLAIN, ROOT
from regimes.experiments.mean_field.deleted_blocks.config import Config as Config
from regimes.experiments.mean_field.deleted_blocks.figure import draw as draw
from regimes.experiments.mean_field.deleted_blocks.numbers import (
    PERCENT,
    deepest,
    departure_share,
    in_depth,
    in_number,
    largest_rise,
    least_rise,
    rise,
)
from regimes.experiments.mean_field.deleted_blocks.runs import measure as measure
from regimes.lab.numbers import cells, judged, mean
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

ONE = "residual 1/L: change of the outputs by one deletion, exponent in L"
TWO = "residual 1/L: departure from additivity of two deletions, exponent in L"
ROOT_TWO = "residual 1/√L: departure from additivity of two deletions, exponent in L"
SHARE = "residual 1/L: departure over change of the outputs when an eighth of the deepest net is deleted"
CHANGE = "residual 1/L: change of the outputs, exponent in the number of deletions up to a quarter"
RISK = "residual 1/L: rise of the risk, exponent in the number of deletions up to a quarter"
FIRST = "residual 1/L: rise of the test error by one deletion from the deepest net, points"
JUMP = "residual 1/L: largest rise of the test error by one more deletion, points"
DESTROYED = "plain: rise of the test error by one deletion, points, least of all depths"
STATEMENT = Statement(
    title="Blocks deleted from a residual net: smooth, additive at first",
    claim="The error of a trained residual net rises smoothly with the number of deleted blocks, and its outputs "
    "change at first by the sum of what each block contributes, O(1/L); one deletion destroys a plain net.",
    source="[Veit2016] and [Lu2020]",
    predictions=(
        Prediction(ONE, Interval.around(-1.0, 0.1), "derived"),
        Prediction(TWO, Interval.around(-2.0, 0.2), "derived"),
        Prediction(ROOT_TWO, Interval.around(-1.0, 0.3), "after a pilot"),
        Prediction(SHARE, Interval(0.0, 0.1), "chosen"),
        Prediction(CHANGE, Interval(0.5, 1.0), "derived"),
        Prediction(RISK, Interval(1.0, 2.0), "derived"),
        Prediction(FIRST, Interval.at_most(1.0), "chosen"),
        Prediction(JUMP, Interval.at_most(10.0), "chosen"),
        Prediction(DESTROYED, Interval.at_least(50.0), "chosen"),
    ),
)
GRID = ("net", "layers", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Exponents and means over the seeds."""
    deep = deepest(rows, MEAN_FIELD)
    found = {
        ONE: in_depth(rows, MEAN_FIELD, "change", 1),
        TWO: in_depth(rows, MEAN_FIELD, "departure", 2),
        ROOT_TWO: in_depth(rows, ROOT, "departure", 2),
        SHARE: departure_share(deep, 8),
        CHANGE: in_number(deep, "change"),
        RISK: in_number(deep, "train_risk"),
        FIRST: rise(deep),
        JUMP: largest_rise(deep),
        DESTROYED: least_rise(rows[rows.net == PLAIN]),
    }
    merits = {
        "seeds": float(rows.seed.nunique()),
        "residual 1/√L: change of the outputs by one deletion, exponent in L": in_depth(rows, ROOT, "change", 1),
    }
    for net in dict.fromkeys(rows.net):
        whole = deepest(rows, net)
        merits[f"{net}, L = {int(whole.layers.max())}: test error of the whole net, %"] = mean(
            whole[whole.deleted == 0].test_error, within=PERCENT
        )
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each net and depth: test errors in percent with blocks deleted, and how outputs change."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["net", "layers"], sort=False)
    for (net, layers), some in groups:
        line: dict[str, Any] = {"net": net, "L": layers}
        for words, many in {"whole": 0, "1 deleted": 1, "L/4 deleted": layers // 4, "L/2 deleted": layers // 2}.items():
            line |= cells(f"test error, {words}", mean(some[some.deleted == many].test_error, within=PERCENT))
        line |= cells("departure / change, L/4 deleted", departure_share(some, 4))
        lines.append(line)
    return pandas.DataFrame(lines)
