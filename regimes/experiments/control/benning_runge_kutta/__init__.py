"""Does a net whose layers are steps of a better method learn better?

Nets of the plane with 15 layers, each a step h = 0.1 of one method for z' = tanh(K_k z + b_k), the same K_k and b_k at
all its stages; output sigmoid(W x + μ). Euler's method (a ResNet), Heun's (the improved Euler method), Kutta's of order
3 and 4. Trained by gradient descent with Armijo's backtracking on ½ Σ (output − label)² of 1000 samples, in 10,000
iterations, all methods from the same weights, K, b, W from N(0, 1) and μ from [0, 1]; tried on 1000 fresh samples.

The study is known to us from its author code, which sets the four methods side by side, and has no table. What a reader
takes from its figures becomes numbers: the methods reach about the same accuracy (within 0.02 of Euler's; one
of 0.95 on 1000 samples has a standard error of 0.007), and none of higher order has the lower loss (a ratio to Euler's
between 2/3 and 3/2, geometric mean). Theory gives no reason for another ranking: training fits K and b to the method at
hand, so that its error is a part of the net, and not an error.

Two things theory does say.
* The adjoint steps by the symplectic partner give the gradient of back-propagation, to rounding, at any weights.
* A step's error is O(h^(p+1)) with constants of ‖K‖, which training lets grow. So the trained net is the flow of its
  own equation only for methods of high order: integrated exactly, it puts fewer points into another class for Kutta 4
  than for Euler's method; and for Kutta 4 fewer than 1 %, as h ‖K‖ stays below 1 for ‖K‖ < 10 and the local error
  (h ‖K‖)⁵/120 is then below 1 %.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.data.plane import PLANE
from regimes.experiments.control.benning_runge_kutta.config import METHODS
from regimes.experiments.control.benning_runge_kutta.config import Config as Config
from regimes.experiments.control.benning_runge_kutta.figure import draw as draw
from regimes.experiments.control.benning_runge_kutta.runs import measure as measure
from regimes.experiments.control.plane_course import compared, ends
from regimes.lab.averages import average
from regimes.lab.intervals import CORRELATION, SHARE
from regimes.lab.numbers import Number, cells, geometric_mean, judged, largest, mean
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

EULER, *HIGHER = METHODS
BEST = HIGHER[-1]
GAP = "largest distance of the adjoint's gradient to back-propagation, over that of the start"


def _accuracy(dataset: str, method: str) -> str:
    return f"{dataset}: fresh accuracy, {method} − Euler"


def _loss(dataset: str, method: str) -> str:
    return f"{dataset}: loss, {method} over Euler"


def _flow(dataset: str) -> str:
    return f"{dataset}: share of points that the exact flow puts elsewhere, Euler − {BEST}"


def _exact(dataset: str) -> str:
    return f"{dataset}: share of points that the exact flow puts elsewhere, {BEST}"


STATEMENT = Statement(
    title="Layers as Runge-Kutta steps: the order does not matter",
    claim="Nets whose layers are steps of Euler's, Heun's or Kutta's methods reach about the same accuracy and loss; "
    "the adjoint gives their gradient to rounding; only those of high order are the flow of their own equation.",
    source="[Benning2019] section 6, set-up of the author code; the bounds are chosen and derived here",
    predictions=(
        Prediction(GAP, Interval(0.0, 1e-12), "published"),
        *(Prediction(_accuracy(each, one), Interval(-0.02, 0.02), "chosen") for each in PLANE for one in HIGHER),
        *(Prediction(_loss(each, one), Interval(2 / 3, 3 / 2), "chosen") for each in PLANE for one in HIGHER),
        *(Prediction(_flow(each), Interval.at_least(0.0), "derived") for each in PLANE),
        *(Prediction(_exact(each), Interval(0.0, 0.01), "derived") for each in PLANE),
    ),
)
GRID = ("dataset", "method", "seed")
BATCHED = ("dataset", "seed")
PLAN = ("ensemble",)
RESUMABLE = True  # within a point


def judge(rows: "DataFrame") -> Judgement:
    """Accuracies, losses and distances to the exact flow, paired by seed with those of Euler's method."""
    last: Any = rows[rows["last"].astype(bool)]
    found: dict[str, Number | None] = {GAP: largest(last.gradient_gap)}
    for each in PLANE:
        for one in HIGHER:
            more = compared(rows, each, one, EULER, "fresh_accuracy", np.subtract)
            found[_accuracy(each, one)] = mean(more, within=CORRELATION)
            found[_loss(each, one)] = geometric_mean(compared(rows, each, one, EULER, "loss", np.divide))
        less = compared(rows, each, EULER, BEST, "moved_by_flow", np.subtract)
        found[_flow(each)] = mean(less, within=CORRELATION)
        found[_exact(each)] = mean(ends(rows, each, BEST).moved_by_flow, within=SHARE)
    return judged(STATEMENT, found)


def table(rows: "DataFrame") -> "DataFrame":
    """After training: loss per sample, accuracy, and the share of points that the exact flow puts elsewhere."""
    import pandas

    lines = []
    for dataset in dict.fromkeys(rows.dataset):
        for method in METHODS:
            some: Any = ends(rows, dataset, method)
            if not len(some):
                continue
            line = {"data": dataset, "method": method} | cells("loss", geometric_mean(some.loss))
            line |= {"accuracy": average(some.accuracy)}
            line |= cells("fresh accuracy", mean(some.fresh_accuracy, within=SHARE))
            line |= cells("moved by the exact flow", mean(some.moved_by_flow, within=SHARE))
            lines.append(line | {"trials / iteration": average(some.trials / some.iteration)})
    return pandas.DataFrame(lines)
