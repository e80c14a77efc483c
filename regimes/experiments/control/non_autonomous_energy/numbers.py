"""How the rows of the energies are grouped: orders in h by method, and changes of K by depth."""

from typing import TYPE_CHECKING, Any

from regimes.control.tableau import EULER, HEUN, IMPLICIT_MIDPOINT, KUTTA3, KUTTA4, PAIRS
from regimes.experiments.mean_field.powers import PowerLaws
from regimes.lab.numbers import Number, geometric_mean, slope

if TYPE_CHECKING:
    from pandas import DataFrame

ORDER = {each.name: each.order for each in (*PAIRS, IMPLICIT_MIDPOINT)}
# The first odd power of h that is at least the order.
DRIFT = {each.name: each.order + 1 - each.order % 2 for each in (EULER, HEUN, KUTTA3, KUTTA4)}
COLUMNS = {"spread": "change of K", "drift": "drift of K", "energy": "change of H"}
LAWS = PowerLaws(COLUMNS, ("h", "h"), ("method", "method"), "rounding")


def depths(rows: "DataFrame") -> list[int]:
    """Those over which K was followed."""
    return sorted(int(name[2:]) for name in rows.columns if name.startswith("K_"))


def last_depth(rows: "DataFrame") -> int:
    """The largest of them, 0 without any."""
    return max(depths(rows), default=0)


def deep(rows: "DataFrame", name: str) -> Any:
    """The rows of a method that have depths: those without halving."""
    return rows[(rows.method == name) & (rows.halvings == 0)]


def value(rows: "DataFrame", name: str, depth: int) -> Number | None:
    """The change of K over so many layers by a method."""
    some = deep(rows, name)
    return geometric_mean(some[f"K_{depth}"]) if depth and len(some) else None


def exponent(rows: "DataFrame", name: str) -> Number | None:
    """The exponent of the change of K in the depth."""
    some, at = deep(rows, name), depths(rows)
    if not at or not len(some):
        return None
    values = some[[f"K_{n}" for n in at]].to_numpy().ravel()
    return slope(at * len(some), values, [seed for seed in some.seed for _ in at])
