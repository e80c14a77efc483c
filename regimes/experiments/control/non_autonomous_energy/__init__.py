"""Which energy stays when the weights of a Hamiltonian network change with depth, and by which methods?

With weights that depend on t, H is no invariant: H' = ∂H/∂t. In the extended phase space time is a position, p_t its
momentum with p_t' = −∂H/∂t, and K = H + p_t does not change. A symplectic method applied there keeps a modified
K + h^p K_p + … but for terms that are exponentially small in 1/h, as long as (z, p) stays in a bounded set; so K − K_0
swings within O(h^p) over any number of layers of practice, p the order of the method. H changes as that of the exact
solution does, whatever h.

A method that is not symplectic has a modified equation z' = f + h f_2 + h² f_3 + …, whose terms change K. The system
here is reversible: with (z(t), p(t)) also (z(−t), −p(−t)) solves it. f_j is a sum of elementary differentials of order
j, and those of odd j have the same symmetry: what they do to K on the way out they undo on the way back. So K drifts at
the first odd power of h that is at least p: at h for Euler, h³ for Heun and Kutta 3, h⁵ for Kutta 4, and in
proportion to the depth as long as the drift is small. On an oscillator the same follows from |R(iy)|².

What limits it: K_N is taken over windows, which cover the swings of a trajectory unequally, and the trajectories of
Euler leave the region where its drift is small. A pilot with other seeds had exponents of K_N in the depth of at most
0.15 for symplectic methods and at least 0.75 for the others: 0 ± 0.2 and 0.5 to 1.2 are predicted.
"""

from typing import TYPE_CHECKING, Any

from regimes.control.tableau import STORMER_VERLET
from regimes.experiments.control.non_autonomous_energy.config import Config as Config
from regimes.experiments.control.non_autonomous_energy.figure import draw as draw
from regimes.experiments.control.non_autonomous_energy.numbers import (
    COLUMNS,
    DRIFT,
    LAWS,
    ORDER,
    deep,
    depths,
    exponent,
    last_depth,
    value,
)
from regimes.experiments.control.non_autonomous_energy.runs import measure as measure
from regimes.lab.numbers import Number, cells, geometric_mean, judged, known
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

BOUNDED, GROWS = Interval.around(0.0, 0.2), Interval(0.5, 1.2)
FIXED = f"{STORMER_VERLET.name}: order in h of the change of H"
RATIO = f"{STORMER_VERLET.name}: change of H over change of K, all layers"


def _depth(name: str) -> str:
    return f"{name}: exponent of the change of K in the depth"


def _order(name: str) -> str:
    return f"{name}: order in h of the {'change' if name in ORDER else 'drift'} of K"


STATEMENT = Statement(
    title="Symplectic layers keep the extended energy over 10,000 layers",
    claim="With weights that change with depth a canonical integrator keeps K = H + p_t within O(h^p), and no change "
    "of K that grows with the depth over 10,000 layers, while H changes; other methods drift in proportion to the "
    "depth, at the first odd power of h from their order on.",
    source="[HairerLubichWanner2006] chapters VI and IX, [Celledoni2021]; the orders of the drifts are derived here",
    predictions=(
        *(Prediction(_depth(name), BOUNDED, "after a pilot") for name in ORDER),
        *(Prediction(_depth(name), GROWS, "after a pilot") for name in DRIFT),
        *(Prediction(_order(name), Interval.around(float(p), 0.1), "derived") for name, p in ORDER.items()),
        *(Prediction(_order(name), Interval.around(float(p), 0.2), "derived") for name, p in DRIFT.items()),
        Prediction(FIXED, Interval.around(0.0, 0.1), "derived"),
        Prediction(RATIO, Interval(10.0, float("inf")), "chosen"),
    ),
)
GRID = ("method", "halvings", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Exponents in depth and orders in h."""
    found: dict[str, Number | None] = {}
    for name in (*ORDER, *DRIFT):
        found[_depth(name)] = exponent(rows, name)
    orders = {column: LAWS.exponents(rows, column) for column in COLUMNS}
    found |= {_order(name): orders["spread"].get(name) for name in ORDER}
    found |= {_order(name): orders["drift"].get(name) for name in DRIFT}
    found[FIXED] = orders["energy"].get(STORMER_VERLET.name)
    last, some = last_depth(rows), deep(rows, STORMER_VERLET.name)
    found[RATIO] = geometric_mean(some[f"H_{last}"] / some[f"K_{last}"]) if last and len(some) else None
    merits = {f"{name}: change of K over all {last:,} layers": value(rows, name, last) for name in (*ORDER, *DRIFT)}
    return judged(STATEMENT, found, known(merits))


def table(rows: "DataFrame") -> "DataFrame":
    """For each method the change of K at each depth, its exponent, and the orders in h."""
    import pandas

    lines = []
    orders = {column: LAWS.exponents(rows, column) for column in ("spread", "drift")}
    for name in dict.fromkeys(rows.method):
        line: dict[str, Any] = {"method": name}
        line |= {f"K, {n:,} layers": each.value if (each := value(rows, name, n)) else "" for n in depths(rows)}
        line |= cells("exponent in depth", exponent(rows, name))
        which = "spread" if name in ORDER else "drift"
        lines.append(line | cells("order in h", orders[which].get(name)) | {"of": COLUMNS[which]})
    return pandas.DataFrame(lines)
