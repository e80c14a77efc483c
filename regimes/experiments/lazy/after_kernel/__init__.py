"""Is a trained net a regression with the tangent kernel that it ended with, its after kernel?

Set-up. Parity of handwritten digits, nets α (h(w) − h(w_0)) with two hidden layers, see `scaled_images`. Beside each
net stand two regressions on its training images: the gradient flow from zero with the kernel at the start, and that
with the after kernel. Each is stopped where its training loss is that of the net, so all three are compared at one
loss, on held-out images.

Predictions.
* At α = 1, the mean-field scale, the after kernel fits held-out images better than the kernel at the start does
  ([Long2021], [Fort2020], on other nets and data), is nearer to the net than that one (half as far or less), and errs
  as often as the net, to 0.02. These were set when a pilot with other seeds had been looked at. The last one does not
  tell the two kernels apart if the kernel at the start errs as often, too; its difference is shown beside.
* Control. If the gain came from the labels that the net has learned, the after kernel of a net trained on shuffled
  labels, to the same loss, would fit the true labels less well. This was set before the pilot, and the pilot spoke
  against it: there both kernels had the gain.
* Rates. Θ_T − Θ_0 = O(1/α), and a regression at a fixed loss is a smooth function of its kernel; and the net tends to
  its tangent model like 1/α ([ChizatOyallonBach2019] Theorem 2.2), which is the regression with the kernel at the
  start up to the steps of the descent. So after kernel and net both tend to the start kernel's fit with exponent −1.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.after_kernel.figure import DISTANCES, FITS
from regimes.experiments.lazy.after_kernel.figure import draw as draw
from regimes.experiments.lazy.after_kernel.runs import measure as measure
from regimes.experiments.lazy.scaled_numbers import at_the_loss, exponent, shuffled, smallest
from regimes.experiments.lazy.scaled_settings import Config as Config
from regimes.experiments.lazy.scaled_settings import points as points
from regimes.lab.averages import average
from regimes.lab.intervals import CORRELATION, SHARE
from regimes.lab.numbers import cells, geometric_mean, judged, mean, paired
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

BETTER = "smallest α: mean square error, after kernel over start kernel"
NEAR = "smallest α: distance of the net from the after kernel's fit over that from the start kernel's"
ERRORS = "smallest α: error of the net less that of the after kernel"
LABELS = "smallest α: mean square error, after kernel over that of a net trained on shuffled labels"
AFTER_RATE = "exponent in α of the distance of the after kernel's fit from the start kernel's"
NET_RATE = "exponent in α of the distance of the net from the start kernel's fit"
STATEMENT = Statement(
    title="A trained net is nearly a regression with its final kernel",
    claim="At the same training loss, the kernel of a net trained at the mean-field scale fits held-out images better "
    "than the kernel at the start, as the net does, and because of the labels; for lazy nets all three are one.",
    source="[Long2021] and [Fort2020] for the after kernel, [ChizatOyallonBach2019] for the rates",
    predictions=(
        Prediction(BETTER, Interval.at_most(1.0), "after a pilot"),
        Prediction(NEAR, Interval.at_most(0.5), "after a pilot"),
        Prediction(ERRORS, Interval.around(0.0, 0.02), "after a pilot"),
        Prediction(LABELS, Interval.at_most(1.0), "chosen"),
        Prediction(AFTER_RATE, Interval.around(-1.0, 0.1), "derived"),
        Prediction(NET_RATE, Interval.around(-1.0, 0.1), "derived"),
    ),
)
GRID = ("labels", "alpha", "seed")
BATCHED = GRID


def judge(rows: "DataFrame") -> Judgement:
    """Ratios and differences at the smallest α, paired by seed; exponents over large α."""
    kept = at_the_loss(rows)
    small, other = smallest(kept), shuffled(kept)
    found = {
        BETTER: geometric_mean(small.after_square / small.start_square),
        NEAR: geometric_mean(small.net_after / small.net_start),
        ERRORS: mean(small.net_error - small.after_error, within=CORRELATION),
        LABELS: geometric_mean(paired(small.after_square, other.after_square, np.divide)),
        AFTER_RATE: exponent(kept, "after_start"),
        NET_RATE: exponent(kept, "net_start"),
    }
    merits = {
        "runs that did not come to the loss": float(len(rows) - len(kept)),
        "shuffled labels: mean square error, after kernel over start kernel": geometric_mean(
            other.after_square / other.start_square
        ),
        "smallest α: error of the net less that of the start kernel": mean(
            small.net_error - small.start_error, within=CORRELATION
        ),
        "smallest α: mean square error, net over start kernel": geometric_mean(small.net_square / small.start_square),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Held-out errors of the three fits, mean squares over that of the start kernel, and distances."""
    import pandas

    lines = []
    for (labels, alpha), some in at_the_loss(rows).groupby(["labels", "alpha"], sort=False):
        line: dict[str, Any] = {"labels": labels, "α": alpha, "seeds": len(some)}
        line |= {f"error, {FITS[fit][0]}": mean(some[f"{fit}_error"], within=SHARE).value for fit in FITS}  # pyright: ignore
        for fit in ("net", "after"):
            line |= cells(f"mean square, {fit} over start", geometric_mean(some[f"{fit}_square"] / some.start_square))
        logs = {words: average(np.log(some[key])) for key, (words, *_) in DISTANCES.items()}
        lines.append(line | {words: float(np.exp(value)) for words, value in logs.items()})
    return pandas.DataFrame(lines)
