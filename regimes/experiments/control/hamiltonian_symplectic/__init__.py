"""Is a layer of a Hamiltonian network symplectic, and by how much do other methods miss it?

A layer is one step of z' = A1ᵀσ(A1 p + b1), p' = −A2ᵀσ(A2 z + b2). A symplectic method (symplectic Euler, Verlet,
Yoshida's, Gauss's) gives a Jacobian with JᵀΩJ = Ω whatever the weights and the step, so det J = 1, and products of such
layers are symplectic too. The step of −h by the adjoint method undoes a layer; for a pair it is explicit.

δzᵀΩδz' is a quadratic invariant of the equations of two variations. A method that keeps quadratic invariants to order q
(`product_order`, from rooted trees: 1 for Euler, 3 for Heun) misses it by O(h^(q+1)) in a single step. For Euler's it
is seen by hand: with J = I + hF and F Hamiltonian, FᵀΩ + ΩF = 0 and JᵀΩJ − Ω = h² FᵀΩF. These orders are predicted for
one layer, at the same states for all methods and steps; corrections are of relative size h‖F‖, hence ±0.1. Kutta 4 is
an exception: on linear fields its term of order 5 is zero, and the defect is that of |R(iy)|² = 1 − y⁶/72, so of order
6. tanh is nearly linear; a pilot with other seeds had slopes of 5.1 to 5.4, and 5 to 6 is predicted.

Weights are as drawn, or trained on two spirals with Verlet's steps of 0.5. Rounding of the defects is some 10⁻¹⁵ ‖J‖²,
of the way back some 10⁻¹⁵ times the norm of the network's inverse Jacobian; 10⁻¹² leaves room for both.
"""

from typing import TYPE_CHECKING, Any

from regimes.control.tableau import EULER, HEUN, KUTTA3, KUTTA4
from regimes.control.trees import product_order
from regimes.experiments.control.halves import SYMPLECTIC
from regimes.experiments.control.hamiltonian_symplectic.config import RANDOM, TRAINED
from regimes.experiments.control.hamiltonian_symplectic.config import Config as Config
from regimes.experiments.control.hamiltonian_symplectic.figure import EXACT, LAWS
from regimes.experiments.control.hamiltonian_symplectic.figure import draw as draw
from regimes.experiments.control.hamiltonian_symplectic.runs import measure as measure
from regimes.lab.averages import most
from regimes.lab.numbers import Number, judged, known, largest, mean
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

AREA = "symplectic methods, a layer: largest ‖JᵀΩJ − Ω‖ / ‖Ω‖"
VOLUME = "symplectic methods, a layer: largest |det J − 1|"
WHOLE = "symplectic methods, the network: largest ‖MᵀΩM − Ω‖ / ‖M‖²"
BACK = "symplectic methods, the network: largest error of the way back"
COLUMNS = {AREA: "area_most", VOLUME: "volume_most", WHOLE: "whole", BACK: "back"}
# The methods that are no pairs and not symplectic, with the order to which a single step misses the area.
OTHERS = {each.name: product_order(each.a, each.b, 6) + 1 for each in (EULER, HEUN, KUTTA3, KUTTA4)}
BETWEEN = Interval(4.9, 6.1)  # of Kutta 4, see above


def _order(name: str, nets: str) -> str:
    return f"{name}, {nets} nets: order in h of the defect of the area"


STATEMENT = Statement(
    title="Symplectic methods make the layers of a net symplectic",
    claim="A layer of a Hamiltonian network by a symplectic method has JᵀΩJ = Ω, volume 1 and an exact inverse to "
    "rounding, with random and with trained weights; other explicit methods miss the area by h to the power that "
    "rooted trees give.",
    source="[Celledoni2021], [HairerLubichWanner2006]; the orders of the others are derived here",
    predictions=(
        *(Prediction(words, EXACT, "published") for words in COLUMNS),
        *(
            Prediction(_order(name, nets), BETWEEN, "after a pilot")
            if name == KUTTA4.name
            else Prediction(_order(name, nets), Interval.around(float(order), 0.1), "derived")
            for nets in (RANDOM, TRAINED)
            for name, order in OTHERS.items()
        ),
    ),
)
GRID = ("nets", "method", "halvings", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Largest defects of the symplectic methods, and orders of the others."""
    own: Any = rows[rows.method.isin(SYMPLECTIC)]
    found: dict[str, Number | None] = {words: largest(own[column]) for words, column in COLUMNS.items()}
    merits: dict[str, Number | None] = {}
    for nets in (RANDOM, TRAINED):
        some: Any = rows[(rows.nets == nets) & rows.method.isin(list(OTHERS))]
        found |= {_order(name, nets): each for name, each in LAWS.exponents(some, "area").items()}
        volumes = LAWS.exponents(some, "volume")
        merits |= {f"{name}, {nets} nets: order in h of the defect of the volume": volumes.get(name) for name in OTHERS}
    merits["trained nets: accuracy on the spirals"] = mean(rows[rows.nets == TRAINED].accuracy.drop_duplicates())
    return judged(STATEMENT, found, known(merits))


def table(rows: "DataFrame") -> "DataFrame":
    """For each kind of net and method the largest defects at the longest step, and the order of the area's."""
    import pandas

    lines = []
    for nets, method in dict.fromkeys(zip(rows.nets, rows.method, strict=True)):
        some: Any = rows[(rows.nets == nets) & (rows.method == method)]
        longest = some[some.h == some.h.max()]
        line: dict[str, Any] = {"nets": nets, "method": method, "h": float(some.h.max())}
        line |= {column: most(longest[column]) for column in COLUMNS.values()}
        order = None if method in SYMPLECTIC else LAWS.exponents(some, "area").get(method)
        lines.append(line | {"order of the area's": "" if order is None else order.value})
    return pandas.DataFrame(lines)
