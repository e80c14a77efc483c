"""Does least action make test accuracy vary less between seeds?

The talk notes that least action's intervals are narrower. In its table (50 runs a size on MNIST) the squared widths of
LAP's intervals are 0.42, 0.25, 0.53, 1 and 0.25 of those of plain training with 100, 200, 300, 400 and 500 images: that
is a ratio of variances. A net that has not finished training varies more, and least action's steps on the risk are λ
times those of plain training. So it is compared, too, with a control that minimises λ·risk with λ by the same rule and
no transport, and all are compared a second time at the first moment of equal training risk.

Set-up. Dense residual nets without norm on few MNIST images, SGD on the whole training set from the same weights: one
seed, one training set, one start, one test set for all three arms. Sizes are reduced (published: ResNet9 with batch
norm), so no published number is judged, only the direction.

Measured is w = Var(accuracy, least action)/Var(accuracy, other arm) over seeds. Seeds are paired and the accuracies of
a seed correlated: the interval is that of all ratios that the test of Pitman and Morgan for paired variances does not
reject (`lab.variances`). It supposes a normal law; intervals by resampling seeds are among the numbers.

Predictions, for the number of images at which w is largest (its interval is corrected for that choice): w at most 1
against plain training, as published after a protocol's steps (at equal risk nothing is published); and, if transport is
the reason, at most 1 against the control. Trial runs with four to six other seeds, which chose rate, gain and numbers
of steps, had shown deviations of accuracy of 3 to 5 points in all arms, in no clear order.
"""

from typing import TYPE_CHECKING

from regimes.experiments.least_action.narrower_intervals.figure import draw as draw
from regimes.experiments.least_action.narrower_intervals.ratios import RATIO, largest, ratio
from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.accuracies import Config as Config
from regimes.experiments.least_action.small_nets.accuracies import measure as measure
from regimes.experiments.least_action.small_nets.contrasts import ACCURACIES, NAMES
from regimes.experiments.least_action.small_nets.settings import VANILLA
from regimes.lab import numbers
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import holm, pitman_morgan
from regimes.lab.variances import resampled_variance_ratio

if TYPE_CHECKING:
    from pandas import DataFrame

PUBLISHED = ("accuracy", VANILLA)  # the talk compares with no control, and not at equal risk
STATEMENT = Statement(
    title="Test accuracy varies less between seeds with least action",
    claim="The test accuracy of least-action nets varies less between seeds than that of plain training, and than that "
    "of a control with the same λ and no transport.",
    source="[Karkar2020] Table 1, widths of the intervals",
    predictions=tuple(
        Prediction(words, Interval.at_most(1.0), "published" if compared == PUBLISHED else "after a pilot")
        for compared, words in RATIO.items()
    ),
)
GRID = ("train_size", "arm", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """The largest ratio over the sizes for each end of training and other arm; its interval is for all sizes."""
    found, merits = {}, {"seeds": float(rows.seed.nunique())}
    for (column, other), words in RATIO.items():
        size, found[words] = largest(rows, column, other)
        resampled = (
            None if size is None else ratio(rows[rows.train_size == size], column, other, resampled_variance_ratio)
        )
        merits |= numbers.spread(f"{words}, by resampling", resampled)
    for size, some in rows.groupby("train_size"):
        for name, share in contrasts.reached(some).items():
            merits[f"n = {size}: {name}"] = share
    return numbers.judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """A line a size, end and other arm: means, deviations in points, ratio of variances and its p, Holm's over all."""
    import pandas

    lines = []
    for size, some in rows.groupby("train_size"):
        for (column, other), _ in RATIO.items():
            first, second = contrasts.pairs(some, column, other)
            if len(first) == 0:  # an arm that never came to equal risk
                continue
            line = {
                "n": size,
                "trained to": ACCURACIES[column].removeprefix("after ").removeprefix("at "),
                "other arm": NAMES[other],
            }
            for place, values in (("least action", first), ("other", second)):
                line |= {f"{place}, mean, %": 100 * values.mean(skipna=False)}
                line[f"{place}, deviation, points"] = 100 * values.std(skipna=False)
            line |= numbers.cells("ratio of variances", ratio(some, column, other))
            lines.append(line | {"seeds": len(first), "p, Pitman-Morgan": pitman_morgan(first, second)[1]})
    for line, corrected in zip(lines, holm([line["p, Pitman-Morgan"] for line in lines]), strict=True):
        line["p, Holm"] = corrected
    return pandas.DataFrame(lines)
