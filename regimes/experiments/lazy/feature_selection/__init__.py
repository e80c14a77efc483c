"""A target on k of d coordinates: does a net that learns features gain on its kernel as d/k grows?

Set-up. Quadratic targets on k coordinates, x uniform on the sphere, fewer samples than quadratic features; the NTK of
infinite width, nets in the mean-field scaling, and lazy nets; see `runs`.

Derivation. The NTK and the tangent kernel of a net with Gaussian weights do not know which coordinates matter: they are
invariant to rotations. So (see lazy/rotations.py)
* their mean error is the same for all k, up to the choice of the ridge by few validation points: the exponent of the
  error in d/k is 0;
* it is at least 1 − n/N, N = d(d+1)/2 − 1, whatever the ridge and however the coefficients are chosen; so is that of a
  lazy net, up to its distance O(1/α) from its tangent model.
A net that moves its neurons towards the k coordinates fits a form of rank k, with about k·d unknowns in place of d²/2:
its error falls as k falls ([Ghorbani2020]: nets outperform kernels where the target has a low dimension that the
inputs have not). Hence the sign: the ratio of the errors, kernel over net, grows with d/k.
Controls. On all d coordinates there is nothing to select, and the ratio is near 1. A lazy net is as bad as its kernel,
which it is close to. And where k is least, at k = 2, the net falls below the bound that no kernel of this kind can
pass.

Predictions. A pilot of one seed (1000) with d = 32, n = 256 set the intervals that say so, and α = 1000 for the lazy
nets: at α = 100 they were 0.11 from their tangent models, as kinks make the distance fall slowly, like α^-1/2.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.feature_selection.config import LEAST
from regimes.experiments.lazy.feature_selection.config import Config as Config
from regimes.experiments.lazy.feature_selection.figure import ARMS, errors
from regimes.experiments.lazy.feature_selection.figure import draw as draw
from regimes.experiments.lazy.feature_selection.runs import measure as measure
from regimes.experiments.lazy.feature_selection.runs import work as work
from regimes.lab.numbers import by_seed, cells, each, geometric_mean, judged, largest, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

GAIN = "NTK over net: exponent of the ratio of test errors in d/k"
LAZY_GAIN = "lazy net over net: exponent of the ratio of test errors in d/k"
BLIND = "NTK: exponent of the test error in d/k"
BOUND, LAZY_BOUND = "NTK: test error over the bound 1 − n/N", "lazy net: test error over the bound 1 − n/N"
BELOW = "net at the largest d/k: test error over the bound 1 − n/N"
NOTHING_TO_SELECT = "k = d: NTK over net, test errors"
KERNEL = "lazy net: relative distance to its tangent model on the test points, largest"
STATEMENT = Statement(
    title="Nets select the relevant inputs, their kernels cannot",
    claim="On a quadratic target of k out of d coordinates, with fewer samples than quadratic features, the test error "
    "of regression with the NTK does not depend on k and stays above a bound, and so does that of lazy nets; nets in "
    "the mean-field scaling gain more on the kernel the larger d/k is, and pass the bound at the smallest k.",
    source="[Ghorbani2020] for the direction; bound and exponents derived here",
    predictions=(
        Prediction(GAIN, Interval.at_least(0.0), "published"),
        Prediction(LAZY_GAIN, Interval.at_least(0.0), "published"),
        Prediction(BLIND, Interval.around(0.0, 0.05), "derived"),
        Prediction(BOUND, Interval.at_least(1.0), "derived"),
        Prediction(LAZY_BOUND, Interval.at_least(1.0), "derived"),
        Prediction(BELOW, Interval(0.0, 1.0), "after a pilot"),
        Prediction(NOTHING_TO_SELECT, Interval(0.5, 2.0), "after a pilot"),
        Prediction(KERNEL, Interval(0.0, 0.1), "chosen"),
    ),
)
GRID = ("seed", "relevant")
BATCHED = ("relevant",)


def judge(rows: "DataFrame") -> Judgement:
    """One slope and one mean a seed; the ratios are geometric means over the seeds."""
    few: Any = rows[rows.relevant == LEAST]
    every: Any = rows[rows.d_over_k == 1]
    found = {
        GAIN: slope(rows.d_over_k, rows.kernel / rows.net, rows.seed),
        LAZY_GAIN: slope(rows.d_over_k, rows.lazy / rows.net, rows.seed),
        BLIND: slope(rows.d_over_k, rows.kernel, rows.seed),
        BOUND: geometric_mean(by_seed(rows.assign(over=rows.kernel / rows.least), "over")),
        LAZY_BOUND: geometric_mean(by_seed(rows.assign(over=rows.lazy / rows.least), "over")),
        BELOW: geometric_mean(few.net / few.least),
        NOTHING_TO_SELECT: geometric_mean(every.kernel / every.net),
        KERNEL: largest(rows.to_tangent),
    }
    merits = {
        "bound 1 − n/N": float(rows.least.iloc[0]),
        "largest share of the training risk left, net": largest(rows.net_left),
        "largest share of the training risk left, lazy net": largest(rows.lazy_left),
        "test error of lazy nets over that of their tangent models": geometric_mean(rows.lazy / rows.tangent),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Test errors of the three arms, for each k; the last over the bound, and the first over the last."""
    import pandas

    found = {arm: errors(rows, arm) for arm in ARMS}
    ratio = each(rows, "d_over_k", lambda at: geometric_mean(at.kernel / at.net))
    bound = each(rows, "d_over_k", lambda at: geometric_mean(at.net / at.least))
    lines = []
    for relevant, some in rows.groupby("relevant"):
        place = float(some.d_over_k.iloc[0])
        line: dict[str, Any] = {"k": relevant, "d/k": place}
        for arm, (words, _) in ARMS.items():
            line |= cells(f"test error, {words}", found[arm].get(place))
        line |= cells("mean-field net over the bound", bound.get(place))
        lines.append(line | cells("NTK over mean-field net", ratio.get(place)))
    return pandas.DataFrame(lines)
