"""Which layer learns, and does the kernel move: two-layer nets over the balance of their layers.

Set-up. The nets of `phase_diagram` at one width and one size of the output, κm = 1, trained to 1 % of the risk, with
β₁/β₂ from 10^-3 to 10^3: output weights over input weights at the start. In [Kunin2024] this is the axis of the
conserved δ = a² − ‖w‖²: δ < 0 is downstream, where the output weights learn faster, δ > 0 upstream, where the input
weights do. They find for linear nets that only balance makes them rich, and for nets with a kink that upstream does,
too. How the exponents of the width depend on the balance is the axis γ' of `phase_diagram`.

Derivation, in the notation there, with κ' = β₁/β₂ and τ from sinh 2τ = 2y/(κm (κ' + 1/κ')).
* Linear net, one sample: the kernel is proportional to mean(w²)/κ' + κ' mean(a²) = (κ' + 1/κ') cosh 2τ, so its drift is
  cosh 2τ − 1 = √(1 + (2y/(κm (κ' + 1/κ')))²) − 1. It is largest at κ' = 1 and falls as κ'^±2 on both sides.
* ReLU, downstream: input weights move by κ'²/κm, little, so no activation flips, and the same law holds: κ'².
* ReLU, upstream: output weights stand still, input weights move by 1/κm relative to themselves however large κ' is.
  Activations flip, and the kernel, mean(a² σ'σ') κ' x·x', moves with them: a constant, exponent 0.

Corrections are of order 1/κ' in the drift of ReLU nets, where flips of a small layer cancel in part, and of order 1/κ'²
in the others; the exponents are fitted from 10^1.5 on. A pilot with seeds from 1000 on and β₁/β₂ up to 10^±2 was looked
at before the intervals of ±0.2 were set; the exponents are derived. The last prediction is that of [Kunin2024].
"""

from typing import TYPE_CHECKING

import numpy as np

from regimes.experiments.lazy.unbalanced_layers.config import LINEAR, RELU_NET
from regimes.experiments.lazy.unbalanced_layers.config import Config as Config
from regimes.experiments.lazy.unbalanced_layers.figure import draw as draw
from regimes.experiments.lazy.unbalanced_layers.numbers import drifts, exponent, peak, sides
from regimes.experiments.lazy.unbalanced_layers.runs import measure as measure
from regimes.lab.numbers import cells, judged, largest, mean
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

LINEAR_DOWN = "linear, downstream: exponent of the kernel's drift in β₁/β₂"
LINEAR_UP = "linear, upstream: exponent of the kernel's drift in β₁/β₂"
RELU_DOWN = "ReLU, downstream: exponent of the kernel's drift in β₁/β₂"
RELU_UP = "ReLU, upstream: exponent of the kernel's drift in β₁/β₂"
FLIPS = "ReLU, upstream: exponent of the share of activations flipped in β₁/β₂"
PEAK = "linear: lg β₁/β₂ where the drift is largest"
SIDES = "ReLU: drift far upstream over drift far downstream"
STATEMENT = Statement(
    title="Unbalanced layers make linear nets lazy, ReLU nets one way only",
    claim="At one size of the output, the tangent kernel of a linear net moves most if its layers are balanced, and "
    "less as the square of the imbalance on both sides; that of a ReLU net moves upstream at any imbalance.",
    source="[Kunin2024] for the axis and the direction; exponents derived here",
    predictions=(
        Prediction(LINEAR_DOWN, Interval.around(2.0, 0.2), "after a pilot"),
        Prediction(LINEAR_UP, Interval.around(-2.0, 0.2), "after a pilot"),
        Prediction(RELU_DOWN, Interval.around(2.0, 0.2), "after a pilot"),
        Prediction(RELU_UP, Interval.around(0.0, 0.2), "after a pilot"),
        Prediction(FLIPS, Interval.around(0.0, 0.2), "after a pilot"),
        Prediction(PEAK, Interval.around(0.0, 0.25), "after a pilot"),
        Prediction(SIDES, Interval(1.0, np.inf), "published"),
    ),
)
GRID = ("activation", "imbalance", "seed")
BATCHED = ("imbalance", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Exponents on both sides, the place of the peak, and the two sides of ReLU nets."""
    found = {
        LINEAR_DOWN: exponent(rows, LINEAR, -1),
        LINEAR_UP: exponent(rows, LINEAR, 1),
        RELU_DOWN: exponent(rows, RELU_NET, -1),
        RELU_UP: exponent(rows, RELU_NET, 1),
        FLIPS: exponent(rows, RELU_NET, 1, "flips"),
        PEAK: peak(rows),
        SIDES: sides(rows),
    }
    merits = {
        "largest error / drift": largest(rows.drift_error / rows.drift),
        "share of trainings that reached their risk": mean(rows.stopped),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """The drift for each activation and imbalance."""
    import pandas

    lines = [
        {"net": activation, "β₁/β₂": ratio} | cells("‖Θ_T − Θ_0‖/‖Θ_0‖", number)
        for activation in dict.fromkeys(rows.activation)
        for ratio, number in drifts(rows, activation).items()
    ]
    return pandas.DataFrame(lines)
