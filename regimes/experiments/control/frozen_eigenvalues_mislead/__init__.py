"""Do eigenvalues of the layers' Jacobians, each at its own time, say whether a net amplifies? What does?

z' = A(t) z with A(t) = U(t) A Uᵀ(t), U(t) = e^{tcS}: the layers z + hA(t_l)z of a net have the eigenvalues of A at
every time, here with Re λ < 0, and even a spectral radius below 1. In the turning frame, y = Uᵀz, y' = (A − cS) y,
hence z(t) = U(t) e^{t(A − cS)} z(0). With S = (A − Aᵀ)/2 and c = 1 the matrix A − S is the symmetric part of A, so
that the largest growth is exactly e^{μt}, μ = λ_max((A + Aᵀ)/2) the logarithmic norm: every A with μ > 0, however
stable, has a rotation that makes it amplify without bound. The known matrices of Vinograd (λ = −1, −10, growth
e^{2t}) and of Markus and Yamabe (λ = (−1 ± i√7)/4, growth e^{t/2}) turn at exactly this speed. The time is chosen such
that e^{μt} = 20: how far nets amplify at c = 1 follows from that choice and the closed form, and is shown beside the
predictions. For all speeds the growth is at most e^{∫μ dt}. Random triangular A with negative
diagonal take this to any width, and with tanh between, z' = U A tanh(Uᵀz), the eigenvalues are negative at every
state as well. Nets are Euler steps, with a relative error of O(h) in the growth; the equation itself is integrated by
Kutta's method to below 1e-6. Controls, in the same rotation: a normal matrix with the same eigenvalues (μ = max Re λ
< 0), and A shifted until its logarithmic norm is −0.1. Neither may amplify: the eigenvalues are those of the first,
or are as negative, and what tells the nets apart is the sign of μ.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.control.frozen_eigenvalues_mislead.config import Config as Config
from regimes.experiments.control.frozen_eigenvalues_mislead.drawing import draw as draw
from regimes.experiments.control.frozen_eigenvalues_mislead.runs import TANH
from regimes.experiments.control.frozen_eigenvalues_mislead.runs import measure as measure
from regimes.lab.averages import least, most
from regimes.lab.numbers import Number, extent, judged, largest, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

WITHIN = 1e-6
FROZEN = "largest Re λ of a layer's field, all nets, layers and states"
RADIUS = "largest spectral radius of a layer"
CLOSED = "linear, all speeds: amplification by the equation over its closed form"
BOUNDED = "all: log amplification by the equation over ∫ μ dt"
NORMAL = "control, normal matrices with the same eigenvalues: largest amplification"
NEGATIVE = "control, logarithmic norm −0.1: largest amplification"
# what follows from CLOSED and the time
AMPLIFIED = "speed 1: least amplification of a net"
ATTAINED = "linear, speed 1: log amplification by the equation over ∫ μ dt"
STATEMENT = Statement(
    title="Stable eigenvalues of all layers do not keep nets from growing",
    claim="Nets whose layers have Re λ < 0 at every time, rotated against each other, grow as a closed form says; "
    "the logarithmic norm bounds the growth, and nets in which it is negative do not amplify.",
    source="[Vinograd1952], [MarkusYamabe1960]; the worst speed of rotation is derived here",
    predictions=(
        Prediction(FROZEN, Interval.at_most(0.0), "derived"),
        Prediction(RADIUS, Interval.at_most(1.0), "derived"),
        Prediction(CLOSED, Interval.around(1.0, WITHIN), "derived"),
        Prediction(BOUNDED, Interval.at_most(1.0 + WITHIN), "derived"),
        Prediction(NORMAL, Interval.at_most(1.0), "derived"),
        Prediction(NEGATIVE, Interval.at_most(1.0), "derived"),
    ),
)
GRID = ("net", "speed", "seed")
BATCHED = ("speed", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Eigenvalues, amplifications and bounds."""
    linear: Any = rows[rows.net != TANH]
    worst: Any = rows[rows.speed == 1]
    tight: Any = linear[linear.speed == 1]
    found: dict[str, Number | None] = {
        FROZEN: largest(rows.frozen),
        RADIUS: largest(rows.radius),
        CLOSED: extent(linear.flow / linear.closed),
        BOUNDED: largest(np.log(rows.flow) / np.log(rows.bound)),
        NORMAL: largest(rows.normal),
        NEGATIVE: largest(rows.negative),
    }
    merits = {
        AMPLIFIED: smallest(worst.net_growth),
        "speed 1: largest amplification of a net": largest(worst.net_growth),
        ATTAINED: extent(np.log(tight.flow) / np.log(tight.bound)),
        "largest difference of net and equation, relative": largest((rows.net_growth / rows.flow - 1).abs()),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Of each net and speed: eigenvalues, amplifications and controls."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["net", "speed"], sort=False)
    for (net, speed), some in groups:
        line: dict[str, Any] = {"net": net, "speed": speed, "nets": len(some)}
        line |= {"largest Re λ": most(some.frozen), "largest radius of a layer": most(some.radius)}
        line |= {"amplification from": least(some.net_growth), "to": most(some.net_growth)}
        line["largest by the bound e^∫μ"] = most(some.flow / some.bound)
        line |= {"normal, at most": most(some.normal), "negative μ, at most": most(some.negative)}
        lines.append(line)
    return pandas.DataFrame(lines)
