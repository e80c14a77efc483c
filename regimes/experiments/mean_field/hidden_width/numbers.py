"""Exponents that the rows of hidden_width have."""

from typing import TYPE_CHECKING, Any

from regimes.lab.numbers import Number, geometric_mean, mean, slope

if TYPE_CHECKING:
    from pandas import DataFrame

AXES = {"layers": "L", "width": "M", "inputs": "D"}


def exponents(rows: "DataFrame", column: str) -> dict[str, Number | None]:
    """The exponents of L, M and D in a column of the box: least squares by seed, then means over the seeds."""
    import numpy as np

    fits = []
    for _, some in rows.groupby("seed"):
        logs = np.column_stack([np.ones(len(some)), *(np.log(some[axis]) for axis in AXES)])
        if np.linalg.matrix_rank(logs) == logs.shape[1]:  # not a run cut short
            fits.append(np.linalg.lstsq(logs, np.log(some[column]), rcond=None)[0][1:])
    return {axis: mean([fit[place] for fit in fits]) for place, axis in enumerate(AXES)}


def rates(rows: "DataFrame", shapes: str, part: str) -> Number | None:
    """The exponent of L of the distance to the limit."""
    some = rows.query("shapes == @shapes")
    if not len(some):
        return None
    return slope(some.layers, some[f"{part}_error"], some.seed, some[f"{part}_accuracy"])


def usual(values: Any) -> float | str:
    """The geometric mean, or nothing where there is none."""
    found = geometric_mean(values)
    return "" if found is None else found.value
