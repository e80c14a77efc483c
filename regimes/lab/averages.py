"""Numbers of tables, made of all values or of none: where one is NaN they are NaN. pandas would leave it out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from regimes.lab.numbers import means


def average(values: ArrayLike) -> float:
    """The arithmetic mean; NaN of no values, too."""
    return _of(np.mean, values)


def middle(values: ArrayLike) -> float:
    """The median; NaN of no values, too."""
    return _of(np.median, values)


def most(values: ArrayLike) -> float:
    """The largest one; NaN of no values, too."""
    return _of(np.max, values)


def least(values: ArrayLike) -> float:
    """The smallest one; NaN of no values, too."""
    return _of(np.min, values)


def averages(rows: Any, by: Sequence[str], columns: Sequence[str]) -> Any:
    """A frame of the means of the columns over each group of rows, in the order in which the groups come."""
    groups = rows.groupby(list(by) if by else [0] * len(rows), sort=False)
    return means(groups[list(columns)]).reset_index(drop=not by)


def _of(number: Any, values: ArrayLike) -> float:
    array = np.asarray(values, dtype=float)
    return float(number(array)) if array.size else float("nan")
