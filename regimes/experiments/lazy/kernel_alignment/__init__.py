"""Does training turn the tangent kernel to the labels, on images it was not trained on, and only where it is not lazy?

Set-up. Parity of handwritten digits, nets α (h(w) − h(w_0)) with two hidden layers, see `scaled_images`. All nets are
trained to the same training loss. Alignment is the centred one of [Cortes2012], ⟨HΘH, HyyᵀH⟩/(‖HΘH‖ ‖HyyᵀH‖); its
rise is that after training less that before, on held-out images unless said otherwise.

Predictions.
* At α = 1, the mean-field scale, the alignment rises by 0.05 or more. ([Fort2020] and [Atanasov2022] saw it rise, on
  other nets and data.)
* Lazy nets keep their kernel: at the largest α the alignment changes by at most 0.01.
* A kernel could come nearer to the labels without learning them, for weights that move make it sharper, and labels are
  smooth functions of images. Control: nets that are trained on shuffled labels, to the same loss. Their rise towards
  the true labels is smaller by 0.05 or more.
* Rate. Weights move by O(1/α) ([ChizatOyallonBach2019] Theorem 2.2), and the kernel is a smooth function of them (the
  units are smooth): ‖Θ_T − Θ_0‖/‖Θ_0‖ = c_1/α + O(1/α²), exponent −1 where α is large, here from 100 on, well above
  √m = 10.
The thresholds of the first three were set when a pilot with other seeds had been looked at. `chance` in the table: the
mean alignment with the labels in random order, in closed form.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.kernel_alignment.figure import draw as draw
from regimes.experiments.lazy.kernel_alignment.runs import measure as measure
from regimes.experiments.lazy.scaled_numbers import at_the_loss, exponent, largest, shuffled, smallest
from regimes.experiments.lazy.scaled_settings import Config as Config
from regimes.experiments.lazy.scaled_settings import points as points
from regimes.lab.averages import average
from regimes.lab.intervals import CORRELATION
from regimes.lab.numbers import cells, judged, mean, paired
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

RISE = "rise of the alignment at the smallest α"
STAYS = "rise of the alignment at the largest α"
LABELS = "rise at the smallest α less that of nets trained on shuffled labels"
RATE = "exponent of the kernel drift in α, from α = 100 on"
STATEMENT = Statement(
    title="Training turns the kernel to the labels, lazy training does not",
    claim="At the same training loss, the tangent kernel of a net at the mean-field scale has turned to the labels of "
    "held-out images, more than that of a net trained on shuffled labels; that of a lazy net has not.",
    source="[Fort2020] and [Atanasov2022] for the alignment, [ChizatOyallonBach2019] for the rate",
    predictions=(
        Prediction(RISE, Interval.at_least(0.05), "after a pilot"),
        Prediction(STAYS, Interval.around(0.0, 0.01), "after a pilot"),
        Prediction(LABELS, Interval.at_least(0.05), "after a pilot"),
        Prediction(RATE, Interval.around(-1.0, 0.1), "derived"),
    ),
)
GRID = ("labels", "alpha", "seed")
BATCHED = GRID


def rises(rows: Any, part: str = "held") -> Any:
    """Alignment after training less that before."""
    return rows[f"{part}_after"] - rows[f"{part}_before"]


def judge(rows: "DataFrame") -> Judgement:
    """Rises at both ends of the α axis, the first beside that of shuffled labels, paired by seed; the exponent."""
    kept = at_the_loss(rows)
    small = smallest(kept)
    last = at_the_loss(largest(rows))
    found = {
        RISE: mean(rises(small), within=CORRELATION),
        STAYS: mean(rises(last), within=CORRELATION),
        LABELS: mean(paired(rises(small), rises(shuffled(kept)), np.subtract), within=CORRELATION),
        RATE: exponent(kept, "drift"),
    }
    merits = {
        "runs that did not come to the loss": float(len(rows) - len(kept)),
        "rise of nets trained on shuffled labels": mean(rises(shuffled(kept)), within=CORRELATION),
        "rise on the training images at the smallest α": mean(rises(small, "train"), within=CORRELATION),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Held-out alignments before and after, with chance, and the drift, for each kind of labels and scale."""
    import pandas

    lines = []
    for (labels, alpha), some in at_the_loss(rows).groupby(["labels", "alpha"], sort=False):
        line = {"labels": labels, "α": alpha, "seeds": len(some), "before": average(some.held_before)}
        line |= cells("after", mean(some.held_after, within=CORRELATION)) | cells("rise", mean(rises(some)))
        for time in ("before", "after"):
            line[f"chance {time}"] = average(some[f"held_{time}_chance"])
        lines.append(line | {"training images, rise": average(rises(some, "train")), "drift": average(some.drift)})
    return pandas.DataFrame(lines)
