"""Table 2 of the least-action paper: CIFAR-10 with 4,000 to 50,000 samples, ResNet9, 20 runs.

Published: least action (LAP) gains 2.3 points of test accuracy over plain training ("vanilla") with 4,000 and 5,000
training samples, 1.7 with 10,000, 1.0, 0.8 and 0.5 with 20,000, 30,000 and 50,000.

Protocol of the author code of 2020: ResNet9 with 64 filters and batch norm, the encoder learned with the rest, Kaiming
normal weights, SGD of momentum 0.9, learning rate 0.1 divided by 10 after 150, 225 and 250 of 300 epochs, weight decay
10⁻⁴, batches of 128, random crop and flip; subsets drawn uniformly, anew for each seed. The code divides the objective
by λ: risk + transport/λ (arm `lap_divided`), whose steps on the risk are those of vanilla; this arm is set beside the
published values. The paper writes λ·risk + transport (arm `lap`), whose steps are λ times larger: `control` minimises
λ·risk, with λ by the same rule, without transport. The values of λ_0, τ, s behind the table are not known; those here
(1, 1, 1) are of a later recipe of the same author for CIFAR-100. λ grows by the risk of each of thousands of steps, so
that with τ = 1 the penalty is soon nothing: at the end of a reduced run λ was 3,669 and the penalty 0.0005 of the risk.
`lap_divided_growth0.001` has τ = 0.001, by which λ would have ended near 5. Others are arms, too, such as
`lap_divided_multiplier5` or `lap_divided_growth0.1_every50`; of the several arms of a method the best by validation is
reported as "tuned". configs/slow_growth/cifar10_low_data.yaml is a reduced run with τ = 0.001 in all arms.

Two ways to count accuracy. `paper`: the largest over the epochs on one random half of the test set, as in the author
code. `held_out`: on the other half, at the epoch that was best on the first half, which so plays the validation set
(one row trains on all 50,000 training images; `validation` takes training images instead where some are spare).
All arms of one seed and size share data, initial weights, order of batches and augmentation: differences are paired by
seed. Predictions, made before any run: `paper` differences in the published interval; `held_out` ones, of LAP in the
divided form to vanilla and of LAP to the control, at least 0.

A run on other data or with other training than the recipe's (a smoke run, fewer epochs) fills no row of the
table: it is marked "reduced", and what it measures is judged by no prediction. The table is 600 runs of 300 epochs,
which need a graphics card.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from regimes.experiments.least_action.low_data import comparison
from regimes.experiments.least_action.low_data.config import (
    BATCHED,
    GRID,
    PLAN,
    RESUMABLE,
    TableConfig,
    measure,
    points,
)
from regimes.experiments.least_action.low_data.table import drawn, judged, shown
from regimes.lab.report import Judgement, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["BATCHED", "GRID", "PLAN", "RESUMABLE", "STATEMENT", "Config", "draw", "judge", "measure", "points", "table"]

# Test accuracy in percent: mean, low and high end of the 95 % interval over 20 runs. [Karkar2020] Table 2.
PUBLISHED = {
    "vanilla": {
        4_000: (67.80, 67.55, 68.07),
        5_000: (70.32, 70.00, 70.63),
        10_000: (79.25, 79.00, 79.49),
        20_000: (85.73, 85.59, 85.87),
        30_000: (88.61, 88.47, 88.75),
        50_000: (91.49, 91.40, 91.59),
    },
    "lap_divided": {
        4_000: (70.12, 69.81, 70.42),
        5_000: (72.58, 72.36, 72.79),
        10_000: (80.90, 80.74, 81.06),
        20_000: (86.74, 86.61, 86.87),
        30_000: (89.41, 89.31, 89.50),
        50_000: (91.94, 91.84, 92.04),
    },
}
COMPARED = comparison.of_table(PUBLISHED)
STATEMENT = Statement(
    title="Least action gains accuracy on few samples of CIFAR-10",
    claim="On 4,000 to 50,000 samples of CIFAR-10 least-action training of ResNet9 gains 2.3 to 0.5 points of test "
    "accuracy over plain training, the more the fewer the samples, and transport is the reason.",
    source="[Karkar2020] Table 2",
    predictions=comparison.predictions(COMPARED),
    baselines=comparison.baselines(PUBLISHED, COMPARED),
)


class Config(TableConfig):
    """The defaults are a smoke run on digits, configs/cifar10_low_data.yaml is the real size."""

    SMOKE: ClassVar[dict[str, Any]] = {"epochs": 3, "arch_options": {"filters": 4, "blocks": 3}}


def judge(rows: "DataFrame") -> Judgement:
    """Means over seeds, with intervals, of paired differences of accuracy, in points."""
    return judged(STATEMENT, rows, PUBLISHED, COMPARED)


def table(rows: "DataFrame") -> "DataFrame":
    """Published and measured accuracy in percent, for each size and arm, run or not."""
    return shown(rows, PUBLISHED)


def draw(rows: "DataFrame") -> "Figure":
    """Accuracy of each method with the published values, and the paired differences."""
    return drawn(rows, PUBLISHED)
