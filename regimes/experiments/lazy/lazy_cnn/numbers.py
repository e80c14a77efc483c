"""What is compared between output scales α, by seed: verdict, table and figure share these numbers."""

from typing import TYPE_CHECKING, Any

from regimes.lab.intervals import CORRELATION, SHARE
from regimes.lab.numbers import Number, at_lowest, each, geometric_mean, mean

if TYPE_CHECKING:
    from pandas import DataFrame


USUAL, LIMIT = 1.0, 1e7  # the smallest α, usual training, and the largest one that predictions are about


def finished(rows: "DataFrame") -> Any:
    """The rows of the seeds that have all scales and number formats."""
    return rows[rows.groupby("seed").alpha.transform("size") == rows.groupby("seed").size().max()]


def of(rows: "DataFrame", precision: str) -> Any:
    """The rows of one number format, by seed."""
    some: Any = rows[rows.precision == precision]
    return some.set_index("seed").sort_index()


def from_usual(rows: "DataFrame") -> Any:
    """The rows if usual training is among them: without it, nothing is compared with it."""
    some = of(rows, "float64")
    return rows if len(at_lowest(some, "alpha", USUAL)) else rows[:0]


def gained(rows: "DataFrame", precision: str, column: str, sign: int = 1) -> dict[float, Number]:
    """A column at each α less that at the smallest one, paired by seed; with sign −1 what it loses.

    A diverged run gives NaN.
    """
    some = of(rows, precision)
    first = some[column][some.alpha == some.alpha.min()]
    others = some[some.alpha > some.alpha.min()]
    return each(others, "alpha", lambda at: mean(sign * (at[column] - first), within=CORRELATION))


def lost(rows: "DataFrame", precision: str, column: str) -> dict[float, Number]:
    """A column at the smallest α less that at each other one, paired by seed."""
    return gained(rows, precision, column, -1)


def stability(rows: "DataFrame", precision: str) -> dict[float, Number]:
    """Stability of activations by α, means over seeds."""
    return each(of(rows, precision), "alpha", lambda at: mean(at.stability, within=SHARE))


def distance(rows: "DataFrame", precision: str) -> dict[float, Number]:
    """Distance to the tangent model by α, geometric means over seeds."""
    return each(of(rows, precision), "alpha", lambda at: geometric_mean(at.distance))


def last(found: dict[float, Number]) -> Number | None:
    """The number at the largest α; None where that is smaller than the limit that is meant."""
    return found[max(found)] if found and max(found) >= LIMIT else None
