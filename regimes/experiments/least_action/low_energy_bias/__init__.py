"""Does a net that moves its data little also classify new data well? Transport cost against test accuracy.

Statement, as read from the talk, which shows the figure without a caption, and from what the author code of 2019 logs:
trained without any penalty from initialisations of many laws and gains, residual nets with a low transport cost tend
to have a high test accuracy; and a small initialisation gives small displacements that stay small through training.

Set-up. ResNet9 with batch norm and few filters on a small uniform training set, vanilla training by SGD with momentum,
the rate divided by 10 after 1/2, 3/4 and 5/6 of the epochs (the proportions of the author code of 2020). The laws are
the three of the author code, orthogonal, Kaiming normal and normal, and five more that can be set, each with gains; see
`regimes.models.initialise`. The gain acts on every convolution and linear map. Sizes are ours (the talk gives none).
One seed has one training set, one test set, one order of batches; its initialisations are compared with each other
only: one rank correlation a seed. The laws were picked by hand and are resampled like the seeds, both at once, a law
with all its gains: the interval says what other laws and other seeds would give. Where one law decides, that shows in
the weakest ρ with one law left out. The test set is looked at once, after the last epoch.

The gauge. Transport cost is Σ_k ‖v_k‖² in the units of the encoded features, norm summed over features, mean over test
samples (ranks would be the same with the mean over features of the author code, since all nets have one shape). These
units are no property of the function: the norms undo a rescaling of the features ahead of them, so that the encoder and
all blocks may be scaled alike at the same outputs, and the cost with them. A merit gives the same correlation with
Σ_k ‖v_k‖²/‖z_{k−1}‖², which does not depend on the gauge; where its sign is the opposite one, the claim is one on the
scale of the initialisation. A net that has not fitted its training set says little of a bias: another merit counts the
fitted runs (training accuracy at least 0.99) and correlates among them alone.

Predictions, made before any run (with intervals over the seeds alone, which are narrower). Spearman's ρ of transport
cost and test accuracy over initialisations, mean over seeds, in [−1, −0.3]; ρ of transport cost before and after
training in [0.3, 1].

Two kept runs have eight initialisations of the three laws, of which three are Kaiming's; without these the first ρ is
−0.52 on MNIST in place of −0.84, and 0.12 on CIFAR-10 in place of −0.43. configs/laws/low_energy_bias.yaml has 20 of
eight laws on MNIST, at half the filters and two thirds of the epochs.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.initialisations import correlations
from regimes.experiments.least_action.low_energy_bias.course import Config, measure, points
from regimes.experiments.least_action.low_energy_bias.figure import draw, other_laws
from regimes.lab import numbers
from regimes.lab.averages import averages
from regimes.lab.numbers import Number
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["BATCHED", "GRID", "STATEMENT", "Config", "draw", "judge", "measure", "points", "table"]

BIAS = "Spearman's ρ of transport cost and test accuracy over initialisations"
MEMORY = "Spearman's ρ of transport cost before and after training"
FITTED = 0.99  # training accuracy from which a run counts as fitted

STATEMENT = Statement(
    title="A low transport cost goes with a high test accuracy",
    claim="Over initialisations of vanilla residual nets, a low transport cost goes with a high test accuracy, and "
    "what moves little at the start moves little after training.",
    source="[Karkar2020] low-energy bias of the talk, author code of 2019",
    predictions=(
        Prediction(BIAS, Interval(-1.0, -0.3), "chosen"),
        Prediction(MEMORY, Interval(0.3, 1.0), "chosen"),
    ),
)
GRID = ("law", "gain", "seed")
BATCHED = ()


def judge(rows: "DataFrame") -> Judgement:
    """One ρ a seed over its initialisations, with intervals over laws and seeds."""
    fitted: Any = rows[~(rows.train_accuracy < FITTED)]  # of a net of which that is not known nothing is known
    fitted = fitted.assign(transport=fitted.transport.where(fitted.train_accuracy.notna()))
    found = {
        BIAS: correlations(rows, "transport", "test_accuracy"),
        MEMORY: correlations(rows, "transport_start", "transport"),
    }
    laws = [correlations(rows[rows.law != law], "transport", "test_accuracy") for law in rows.law.unique()]
    merits: dict[str, float | Number | None] = {
        "seeds": float(rows.seed.nunique()),
        "initialisations": float(len(rows) / rows.seed.nunique()),
        **found,
        "share of runs that fitted the training set": numbers.count(rows.train_accuracy >= FITTED, rows.train_accuracy)
        / len(rows),
        "ρ of transport cost and test accuracy among them": correlations(fitted, "transport", "test_accuracy"),
        "ρ of transport cost and test accuracy without Kaiming's initialisations": correlations(
            other_laws(rows), "transport", "test_accuracy"
        ),
        "ρ of transport cost and test accuracy, weakest with one law left out": numbers.worst(laws),
        "ρ of relative displacement and test accuracy": correlations(rows, "relative", "test_accuracy"),
        "ρ of relative displacement and test accuracy without them": correlations(
            other_laws(rows), "relative", "test_accuracy"
        ),
    }
    for name, one in [(name, one) for name, one in merits.items() if isinstance(one, Number)]:
        merits |= numbers.spread(name, one)
    return numbers.judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Means over the seeds. Transport is in the units of the features, which a norm undoes; "relative" has none."""
    columns = ["train_accuracy", "test_accuracy", "transport", "relative", "transport_start", "relative_start"]
    return averages(rows, ["law", "gain"], columns)
