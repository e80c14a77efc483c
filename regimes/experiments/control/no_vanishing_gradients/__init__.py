"""Do gradients vanish on their way back through many layers, and can any weights make them?

The gradient at layer j is M_jᵀ g, with g that at the end and M_j = ∂z_N/∂z_j. In a Hamiltonian net by a symplectic
method M_j is symplectic whatever the weights. What is proved of it:
    its singular values come in pairs σ, 1/σ, so ‖M_j‖ ≥ 1; det M_j = 1, so its spectral radius, and with that every
    sub-multiplicative norm, is at least 1 [Galimberti2023];
    ‖M_j‖_F² = Σ σ² + 1/σ² ≥ width: a gradient g of random direction comes back with at least its own mean square.
What is not proved: a single g may still shrink, down to 1/‖M_j‖, and ‖M_j‖ may grow exponentially with depth. Both are
reported (`own` gradients of the loss, largest ‖M_j‖), and not predicted.

Controls of one width: ResNets z + hσ(Kz + b) and plain nets σ(Kz + b). A plain net with tanh, weights of variance
1/width and shifts of variance ¼ has, for infinite width, q = E tanh²(√q Z) + ¼ and χ = E tanh'(√q Z)² < 1: mean squares
of gradients fall by χ a layer [Schoenholz2017]; at finite width the mean of the logarithm falls faster. A ResNet at its
start loses little over a bounded time; but with K = −cI it has ‖M_0‖ = (1 − hc)^N at 0. So a search decides what "any
weights" means: Adam shrinks log ‖M_0‖_F from the initial weights, with as many steps as training has. It cannot get
below 1 in the Hamiltonian net. That it comes below 0.1 in the deepest ResNet is chosen as its mark before any run.

‖M_j‖ is measured to some 10⁻¹⁵ ‖M_j‖ N; 10⁻⁹ leaves room.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.control.no_vanishing_gradients.config import HAMILTONIAN, HOSTILE, INITIAL, PLAIN, RESNET
from regimes.experiments.control.no_vanishing_gradients.config import Config as Config
from regimes.experiments.control.no_vanishing_gradients.figure import draw as draw
from regimes.experiments.control.no_vanishing_gradients.runs import measure as measure
from regimes.lab.averages import average, least, most
from regimes.lab.numbers import Number, cells, geometric_mean, judged, known, largest, mean, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

AT_LEAST_ONE = Interval(1 - 1e-9, float("inf"))
NORM = "Hamiltonian nets, all weights: smallest ‖∂z_N/∂z_j‖"
SENT = "Hamiltonian nets, all weights: smallest ‖∂z_N/∂z_j‖_F/√width"
AREA = "Hamiltonian nets, all weights: largest ‖MᵀΩM − Ω‖/‖M‖²"
FALLS = "plain nets, initial: change of ln(‖∂z_N/∂z_0‖_F) by layer"
FOUND = "ResNets, hostile weights, deepest: ‖∂z_N/∂z_0‖_F/√width"
STATEMENT = Statement(
    title="No weights make a Hamiltonian net's gradients vanish",
    claim="In a Hamiltonian network by a symplectic method the backward product has norm at least 1 at every depth, "
    "with initial, trained and hostile weights; in plain nets it vanishes, and some weights make it vanish in ResNets.",
    source="[Galimberti2023]; [Schoenholz2017] for plain nets; the mean square of random gradients is derived here",
    predictions=(
        Prediction(NORM, AT_LEAST_ONE, "published"),
        Prediction(SENT, AT_LEAST_ONE, "derived"),
        Prediction(AREA, Interval(0.0, 1e-12), "published"),
        Prediction(FALLS, Interval(float("-inf"), 0.0), "derived"),
        Prediction(FOUND, Interval(0.0, 0.1), "chosen"),
    ),
)
FLOOR = 1e-100  # norms below count as that: their logarithms are averaged
GRID = ("net", "weights", "depth", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """The smallest norms of the Hamiltonian nets; what becomes of the others'."""
    own: Any = rows[rows.net == HAMILTONIAN]
    hostile = _deepest(rows, RESNET, HOSTILE)
    found: dict[str, Number | None] = {
        NORM: smallest(own.norm),
        SENT: smallest(own.sent_least),
        AREA: largest(own.area),
        FALLS: _by_layer(rows[(rows.net == PLAIN) & (rows.weights == INITIAL)]),
        FOUND: geometric_mean(hostile.sent.clip(lower=FLOOR)),
    }
    merits: dict[str, Number | None] = {}
    for net in dict.fromkeys(rows.net):
        for weights in dict.fromkeys(rows.weights):
            some, words = _deepest(rows, net, weights), f"{net}, {weights}, deepest"
            below = ", at most" if (some.sent < FLOOR).any() else ""
            merits[f"{words}: ‖∂z_N/∂z_0‖_F/√width{below}"] = geometric_mean(some.sent.clip(lower=FLOOR))
            merits[f"{words}: smallest ratio of the loss's own gradients"] = smallest(some.own)
            merits[f"{words}: largest ‖∂z_N/∂z_j‖"] = largest(some.grown)
            merits[f"{words}: accuracy"] = mean(some.accuracy)
    return judged(STATEMENT, found, known(merits))


def _deepest(rows: "DataFrame", net: str, weights: str) -> Any:
    return rows[(rows.net == net) & (rows.weights == weights) & (rows.depth == rows.depth.max())]


def _by_layer(rows: Any) -> Number | None:
    """The slope of ln(sent) against the depth, the mean over seeds."""
    if rows.depth.nunique() < 2:
        return None
    logs = rows.assign(log=np.log(rows.sent.clip(lower=FLOOR)))
    return mean([np.polyfit(some.depth, some.log, 1)[0] for _, some in logs.groupby("seed")])


def table(rows: "DataFrame") -> "DataFrame":
    """For each net, weights and depth the smallest norm, the share sent and the accuracy."""
    import pandas

    lines = []
    for place, some in rows.groupby(["net", "weights", "depth"], sort=False):
        net, weights, depth = tuple(place)  # type: ignore[arg-type]
        line: dict[str, Any] = {"net": net, "weights": weights, "layers": depth}
        line |= {"smallest ‖M_j‖": least(some.norm), "largest ‖M_j‖": most(some.grown)}
        line |= _sent(some)
        lines.append(line | {"smallest own gradient": least(some.own), "accuracy": average(some.accuracy)})
    return pandas.DataFrame(lines)


def _sent(some: Any) -> dict[str, float | str]:
    """The cells of what is sent back; where some of it is below FLOOR, a bound without an interval."""
    name, number = "‖M_0‖_F/√width", geometric_mean(some.sent.clip(lower=FLOOR))
    if number is None or not (some.sent < FLOOR).any():
        return cells(name, number)
    return {name: f"< {FLOOR if (some.sent < FLOOR).all() else number.value:.3g}", f"{name}, 95 %": ""}
