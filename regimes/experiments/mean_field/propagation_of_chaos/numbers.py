"""Numbers of the propagation of chaos, by problem and number of particles: what verdict, table and figure share."""

from typing import TYPE_CHECKING, Any

from regimes.lab.numbers import Number, each, extent, geometric_mean, slope

if TYPE_CHECKING:
    from pandas import DataFrame

WORDS = {
    "distance": "outputs, all times",
    "early": "outputs, t ≤ 1",
    "fresh": "outputs on an input that is held out",
    "displacement": "positions",
    "to_equation": "outputs against the finite volumes",
    "to_copies": "W2 to copies in the limit",
    "to_others": "W2 between two seeds",
    "to_law": "W2 to the limit",
}
ERRORS = {"to_equation": "equation_error"} | {
    name: f"{name}_error" for name in ("distance", "early", "displacement", "fresh")
}


def of(rows: "DataFrame", problem: str, kind: str = "run") -> Any:
    """The rows of one problem and kind."""
    return rows[(rows.problem == problem) & (rows.kind == kind)]


def exponent(rows: "DataFrame", problem: str, column: str) -> Number | None:
    """Exponent in m of a column: one a seed, with Student's interval over the seeds."""
    some = known(rows, problem, column)
    error = ERRORS.get(column)
    return slope(some.width, some[column], some.seed, None if error is None else some[error]) if len(some) else None


def along(rows: "DataFrame", problem: str, column: str) -> dict[Any, Number]:
    """Geometric means over the seeds by m."""
    some = known(rows, problem, column)
    return each(some, "width", lambda at: geometric_mean(at[column])) if len(some) else {}


def known(rows: "DataFrame", problem: str, column: str) -> Any:
    """Rows of the problem if it has the column; of a W2 those that have it, as it is measured for some seeds only."""
    some = of(rows, problem)
    if column not in rows or some[column].isna().all():
        return some[:0]
    return some[some[column].notna()] if WORDS.get(column, "").startswith("W2") else some


def spread(rows: "DataFrame", problem: str, column: str) -> Number | None:
    """From the smallest to the largest value: for what has to hold in every run."""
    return extent(known(rows, problem, column)[column])


def order(rows: "DataFrame", problem: str) -> Number | None:
    """Order in the width of the cells: the smallest to the largest over successive refinements."""
    import numpy

    some = of(rows, problem, "equation").sort_values("cells")
    if len(some) < 2:
        return None
    cells, off = some.cells.to_numpy(dtype=float), some.distance.to_numpy(dtype=float)
    return extent(-numpy.diff(numpy.log(off)) / numpy.diff(numpy.log(cells)))
