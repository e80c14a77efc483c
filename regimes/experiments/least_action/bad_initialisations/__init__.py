"""Does least action help the more, the farther a bad start makes plain training move the data?

The talk: from initial weights that move the data far, plain training keeps moving them far and generalises badly, and
transport repairs it. Then the accuracy that least action gains over plain training should grow with the transport cost
of plain training, over initialisations.

Set-up. Dense residual nets without norm on few images, as in `regular_map`, from initial weights of the laws of
`low_energy_bias` with several gains (there with batch norm, so gains are smaller here; larger ones diverge). One seed:
one training set, one test set; its initialisations are compared with each other only. Transport cost is Σ_k ‖v_k‖² at
the test images, after plain training.

What is seen in either case has a flaw. Accuracy of plain training is in the gain over it, so if transport goes with bad
accuracy by accident, the gain grows with transport whatever least action does. The gain over the control (λ·risk, λ by
the same rule, no transport) has no such part: if transport is the reason, it grows too. And nets that have not finished
training differ by that: all is asked a second time at the first moment of equal training risk.

Predictions: Spearman's ρ over initialisations of gain and transport cost of plain training is at least 0, for the gain
over plain training and over the control, after the protocol's steps and at equal risk. Mean over seeds; the laws
were picked by hand and are resampled like the seeds, both at once, a law with all its gains: gains of one law lie on
one curve and say nothing of other laws.

A trial run had been looked at: one other seed, eleven initialisations, 300 steps. From the smallest ones plain training
had hardly begun, so that the gain over it was largest where nothing moved: they are left out. From orthogonal weights
of gain 1 least action diverged, plain training and the control did not: left out, too, as that is a matter of step
size. Of the rest the gain over the control was 2 to 4 points at the three starts that move data farthest, and smaller
elsewhere.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.bad_initialisations.course import Config as Config
from regimes.experiments.least_action.bad_initialisations.course import advantages, growth
from regimes.experiments.least_action.bad_initialisations.course import measure as measure
from regimes.experiments.least_action.bad_initialisations.course import points as points
from regimes.experiments.least_action.bad_initialisations.figure import draw as draw
from regimes.experiments.least_action.initialisations import correlations
from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.contrasts import ENDS, NAMES, OTHERS
from regimes.experiments.least_action.small_nets.settings import VANILLA
from regimes.lab import numbers
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

GROWTH = {
    (prefix, other): f"Spearman's ρ of plain training's transport and the gain over {NAMES[other]}, {words}"
    for prefix, words in ENDS.items()
    for other in OTHERS
}
STATEMENT = Statement(
    title="Least action gains the more, the farther a start moves data",
    claim="Over initialisations, the accuracy that least action gains over plain training, and over a control with the "
    "same λ and no transport, grows with the transport cost of plain training.",
    source="[Karkar2020] bad initialisations of the talk",
    predictions=tuple(Prediction(words, Interval(0.0, 1.0), "after a pilot") for words in GROWTH.values()),
)
GRID = ("arm", "law", "gain", "seed")
BATCHED = ("law", "gain", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """One ρ a seed over its initialisations, with intervals over laws and seeds."""
    found = {words: growth(rows, other, prefix) for (prefix, other), words in GROWTH.items()}
    plain = rows[rows.arm == VANILLA]
    merits: dict[str, float | numbers.Number | None] = {
        "seeds": float(rows.seed.nunique()),
        "initialisations": float(len(rows[["law", "gain"]].drop_duplicates())),
        **contrasts.reached(rows),
        "ρ of transport and accuracy, plain training": correlations(plain, "transport", "accuracy"),
    }
    for prefix, words in ENDS.items():
        for other in OTHERS:
            some = advantages(rows, other, prefix)
            mean = numbers.mean(numbers.by_seed(some, "advantage")) if len(some) else None
            merits |= numbers.spread(f"gain over {NAMES[other]}, mean over initialisations, {words}, points", mean)
    return numbers.judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """A line an initialisation: the transport cost of plain training, and the gains of least action in points."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["law", "gain"], sort=False)
    for (law, gain), some in groups:
        cost = numbers.geometric_mean(contrasts.of_arm(some, VANILLA, "transport"))
        line = {"law": law, "gain": gain, **numbers.cells("transport cost, plain training", cost)}
        for prefix, words in ENDS.items():
            for other in OTHERS:
                found = numbers.mean(advantages(some, other, prefix).advantage)
                line |= numbers.cells(f"gain over {NAMES[other]} {words}", found)
        lines.append(line)
    return pandas.DataFrame(lines)
