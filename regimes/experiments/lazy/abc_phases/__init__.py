"""How far do the features of a deep net move, over a plane of the abc-parametrisations of Yang and Hu?

Set-up. A tanh net of L = 2 hidden layers of width n, trained by a fixed number of steps of gradient descent on the
square risk. Layer l is n^-a_l w_l with w_l ~ N(0, n^-2b_l) and the learning rate η n^-c. One of these exponents is
free: a_l + θ, b_l − θ, c − 2θ is the same net, so c = 0. With a_{L+1} = 1/2 the output weights change f by O(1),
whatever the rest does (non-trivial). Two exponents remain: s = a_{L+1} + b_{L+1}, the size n^-s of the output
weights at the start, and a = min_l (a_l + [l = 1]/2), equal for all hidden layers: how slowly they learn. The NTK
parametrisation is (s, a) = (1/2, 1/2), the maximal update μP (1, 0).
Theory, [YangHu2021]: features change by n^-r, r = min(s, 1) − 1 + 2a here. Nets are stable if r ≥ 0 and s + r ≥ 1,
which is a ≥ 1 − s for s ≤ 1 and a ≥ 0 for s ≥ 1. Stable nets learn features if r = 0 and are kernel machines if r > 0.

Derivation. The gradient at a feature is the residual times an output weight: n^-s z + n^-1 x, z from the start and x
learned, so its size is n^-min(s, 1). A hidden layer learns at n^-2a and sums over n features, so its preactivations
change by n^(1 − 2a − min(s, 1)) = n^-r; the first layer sums over d inputs and learns n times as fast, so it does the
same. Output weights z n^-s sum over changes that hold the same z: f changes by n^(1 − s − r), which must stay bounded.
After the first step alone, where only z counts, this exponent is 2 − 2s − 2a: its zero is the boundary of stability.

Finite widths. z and x add up in squares. With C parts of z to 1 of x, 1/2 ≤ C ≤ 2, this moves the exponents at n
between 64 and 512 by up to 0.1 at single points next to s = 1, about 0.05 in the mean. Features that move by a tenth or
more have corrections of higher order, of this size too. Hence ±0.1 around the derived exponents. f − f_0 is trained:
f_0 ~ n^(1/2 − s) would be another correction, for s near 1/2. A pilot with seeds from 1000 on chose the number of
steps: three were too few for x to count where s > 1, twelve are enough. The intervals were written down after it.
"""

from typing import TYPE_CHECKING

from regimes.experiments.lazy.abc_phases import numbers
from regimes.experiments.lazy.abc_phases.config import Config as Config
from regimes.experiments.lazy.abc_phases.figure import draw as draw
from regimes.experiments.lazy.abc_phases.numbers import MAXIMAL_UPDATE, NTK, exponents, richness, stable
from regimes.experiments.lazy.abc_phases.runs import measure as measure
from regimes.experiments.lazy.planes import of_points
from regimes.lab.numbers import cells, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

SMALL = "kernel regime, s < 1: exponent of the features' change + r, mean over the stable points"
LARGE = "kernel regime, s ≥ 1: exponent of the features' change + r, mean over a > 0"
RICH = "feature learning, s ≥ 1, a = 0: exponent of the features' change"
OF_NTK = "NTK parametrisation: exponent of the features' change"
OF_UPDATE = "maximal update: exponent of the features' change"
OUTPUT = "stable points: exponent of the output's change"
STABILITY = "boundary of stability, s ≤ 1: a where the first step moves f at exponent 0, minus 1 − s"
VANISHING = "boundary of feature learning, s ≥ 1: a where the features' exponent is 0"
STATEMENT = Statement(
    title="Deep nets are lazy, learn features or explode, by abc-exponents",
    claim="Over a plane of abc-parametrisations that holds the NTK one and the maximal update, the features of a deep "
    "net change by n^-r; r = 0 marks feature learning, and a_{L+1} + b_{L+1} + r = 1 the boundary of stability.",
    source="[YangHu2021]",
    predictions=(
        Prediction(SMALL, Interval(-0.1, 0.1), "after a pilot"),
        Prediction(LARGE, Interval(-0.1, 0.1), "after a pilot"),
        Prediction(RICH, Interval(-0.1, 0.1), "after a pilot"),
        Prediction(OF_NTK, Interval.around(-0.5, 0.1), "after a pilot"),
        Prediction(OF_UPDATE, Interval.around(0.0, 0.1), "after a pilot"),
        Prediction(OUTPUT, Interval(-0.1, 0.1), "after a pilot"),
        Prediction(STABILITY, Interval(-0.05, 0.05), "after a pilot"),
        Prediction(VANISHING, Interval(-0.1, 0.1), "after a pilot"),
    ),
)
GRID = ("width", "readout", "hidden", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """The exponents against −r, and both boundaries."""
    found, output = exponents(rows), exponents(rows, "change")
    measured = {
        SMALL: numbers.deviation(found, lambda s, a: s < 1 and stable(s, a)),
        LARGE: numbers.deviation(found, lambda s, a: s >= 1 and a > 0),
        RICH: numbers.average(found, lambda s, a: s >= 1 and a == 0),
        OF_NTK: numbers.average(found, lambda s, a: (s, a) == NTK),
        OF_UPDATE: numbers.average(found, lambda s, a: (s, a) == MAXIMAL_UPDATE),
        OUTPUT: numbers.average(output, stable),
        STABILITY: numbers.stability_error(rows),
        VANISHING: numbers.vanishing_error(found),
    }
    return judged(STATEMENT, measured, numbers.merits(rows))


def table(rows: "DataFrame") -> "DataFrame":
    """The exponent of each point of the plane beside −r."""
    import pandas

    lines = [
        {"s": s, "a": a, "nets": "unstable" if not stable(s, a) else "kernel" if richness(s, a) > 0 else "features"}
        | {"−r": -richness(s, a)}
        | cells("exponent", number)
        for (s, a), number in of_points(exponents(rows)).items()
    ]
    return pandas.DataFrame(lines)
