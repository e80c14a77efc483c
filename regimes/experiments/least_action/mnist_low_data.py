"""Table 1 of the least-action paper, MNIST with few samples: is the gain due to transport or to larger steps?

Published (50 runs): least action (LAP) gains 13.6, 7.1 and 2.7 points of test accuracy over plain training ("vanilla")
with 100, 200 and 300 training samples. LAP minimises λ·risk + transport with λ = 5 and growing, so its steps on the
risk are λ times larger than those of vanilla at the same learning rate. A gain over vanilla alone does not tell the
one from the other. Two more comparisons do: `control` minimises λ·risk, with λ by the same rule, without transport;
"vanilla, tuned" is vanilla at the best of several learning rates.

Protocol of the author code of 2019: ResNet9 with 32 filters and batch norm, orthogonal weights with gain 0.01, SGD of
momentum 0.9, learning rate 0.01, weight decay 10⁻⁴, batches of 128, 30 epochs (its schedule starts after that), λ_0 =
5, λ += risk every 5 steps (the batch's risk, measured again after the step), transport cost as a mean over samples
and features, normalised images, no augmentation. Arms: `vanilla`, `lap` (λ·risk + transport), `lap_divided` (risk +
transport/λ, the steps of vanilla), `control` (λ·risk), and `METHOD_lrRATE`, the same at another learning rate.
All arms of one seed and size share training, validation and test images, initial weights and the order of batches:
differences are paired by seed. Smaller training sets of a seed are parts of its larger ones.

Two ways to count accuracy. `paper`: the largest over the epochs on images of one random half of the test set.
`held_out`: on images of the other half, at the epoch that was best on validation images. Departures: the encoder learns
with the rest (in 2019 it was a frozen autoencoder); accuracy is measured on a part of each half and in some epochs
only, and, for the choice of epochs, in bfloat16 (`held_out` itself is measured in float32).

A third one, `refreshed`, was added when two seeds had been run and a third begun; nothing is predicted for it: the
images of `held_out` after the last epoch, batch norm's running statistics replaced by those of the training set. An
epoch on 100 samples is one step; the running statistics are means over about ten steps, and after 30 steps of a net
that changes fast they belong to other weights.

The tuned rate of each size is the one with the best mean validation accuracy over the seeds. The validation images
(1,000 at the published size) come from the training part of the data and are more labels than the training set has,
so "tuned" says what the method can do, not what a user with n labels would find. `extra_arm`, run at
`extra_train_size` only, tune LAP and the control in the same way.
"""

from typing import TYPE_CHECKING

from regimes.experiments.least_action.low_data import comparison
from regimes.experiments.least_action.low_data.comparison import (
    CONTROL,
    DIVIDED,
    LAP,
    VANILLA,
    Comparison,
    published_gain,
)
from regimes.experiments.least_action.low_data.mnist import Config, measure, points
from regimes.experiments.least_action.low_data.pictures import panels
from regimes.lab import numbers
from regimes.lab.report import Interval, Judgement, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["BATCHED", "GRID", "STATEMENT", "Config", "draw", "judge", "measure", "points", "table"]

# Test accuracy in percent: mean, low and high end of the 95 % interval over 50 runs. [Karkar2020] Table 1.
PUBLISHED = {
    "vanilla": {
        100: (56.4, 54.9, 58.0),
        200: (74.9, 73.9, 75.9),
        300: (83.5, 83.0, 84.1),
        400: (88.4, 88.0, 88.8),
        500: (90.8, 90.4, 91.2),
    },
    "lap": {
        100: (70.0, 69.0, 71.0),
        200: (82.0, 81.5, 82.5),
        300: (86.2, 85.8, 86.6),
        400: (88.4, 88.0, 88.8),
        500: (90.9, 90.7, 91.1),
    },
}
SIZES = (100, 200, 300)  # of the predictions
TUNED, LAP_TUNED, CONTROL_TUNED = ("vanilla", True), ("lap", True), ("control", True)
PAIRS = ((LAP, VANILLA), (LAP, CONTROL), (LAP, TUNED), (LAP_TUNED, CONTROL_TUNED), (LAP_TUNED, TUNED))
REPORTED = (*PAIRS, (CONTROL, VANILLA), (TUNED, VANILLA))
PROTOCOLS = ("held_out", "refreshed")
COMPARED = (
    *(Comparison(LAP, VANILLA, size, "paper", published_gain(PUBLISHED, size), "published") for size in SIZES),
    *(Comparison(LAP, CONTROL, size, "held_out", Interval.at_least(0.0), "derived") for size in SIZES),
    *(Comparison(LAP, TUNED, size, "held_out", Interval.at_least(0.0), "derived") for size in SIZES),
    Comparison(LAP_TUNED, CONTROL_TUNED, 100, "held_out", Interval.at_least(0.0), "derived"),
    Comparison(LAP_TUNED, TUNED, 100, "held_out", Interval.at_least(0.0), "derived"),
)
STATEMENT = Statement(
    title="Least action gains accuracy on few samples of MNIST",
    claim="On 100 to 300 samples of MNIST least-action training gains 13.6, 7.1 and 2.7 points of test accuracy over "
    "plain training, and transport is the reason: neither the multiplier without transport nor a tuned learning rate "
    "does as well.",
    source="[Karkar2020] Table 1",
    predictions=comparison.predictions(COMPARED),
    baselines=comparison.baselines(PUBLISHED, COMPARED),
)
GRID = ("seed", "train_size", "arm")
BATCHED = ("seed",)  # in groups of `ensemble`
RESUMABLE = True  # within a point
# Settings that say what is measured, or how fast, not how.
PLAN = ("seeds", "train_size", "arm", "extra_train_size", "extra_arm", "more", "ensemble")


def judge(rows: "DataFrame") -> Judgement:
    """Means over seeds, with intervals, of paired differences of accuracy, in points."""
    rows = comparison.read(rows)
    merits = comparison.merits(rows, REPORTED, PROTOCOLS)
    return numbers.judged(STATEMENT, comparison.measured(rows, COMPARED), merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Accuracy in percent beside the published one, medians of transport and λ at the end, for each size and arm."""
    return comparison.to_table(comparison.lines(comparison.read(rows), PUBLISHED, ("paper", *PROTOCOLS)))


def draw(rows: "DataFrame") -> "Figure":
    """Accuracy of each method with the published values, and what LAP gains over the others."""
    return panels(comparison.read(rows), (VANILLA, LAP, DIVIDED, CONTROL, TUNED), PAIRS, PUBLISHED, PROTOCOLS)
