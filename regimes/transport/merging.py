"""Equal points become one point of their joint mass; a plan between merged clouds is spread over the points again.

Clouds with many equal points (a map that collapses, data on a grid) are degenerate for the simplex, and every violated
pair comes in as many copies as there are.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from regimes.transport.cost import Matrix, Vector


class Merged(NamedTuple):
    """Distinct points, their joint masses, and for each original point the index of its distinct one."""

    points: Matrix
    mass: Vector
    group: Int[np.ndarray, "points"]


def merge(points: Matrix, mass: Float[np.ndarray, "n"]) -> Merged:
    """The distinct rows of a cloud; as it is, order included, if no two are equal."""
    # Adding 0.0 turns −0.0 into 0.0: they are one coordinate, but not one bit pattern.
    distinct, group = np.unique(points + 0.0, axis=0, return_inverse=True)
    if len(distinct) == len(points):
        return Merged(points, mass, np.arange(len(points)))
    return Merged(distinct, np.bincount(group.ravel(), weights=mass, minlength=len(distinct)), group.ravel())


def overlap(first: Float[np.ndarray, "a"], second: Float[np.ndarray, "b"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two rows of masses laid along one line: which piece of one meets which of the other, and with what mass.

    At most a + b − 1 pieces; exact for integers. Totals that differ by rounding are laid flush at the end.
    """
    first_ends, second_ends = np.cumsum(first), np.cumsum(second)
    second_ends[-1] = first_ends[-1]
    ends = np.union1d(first_ends, second_ends)
    i = np.minimum(np.searchsorted(first_ends, ends, side="left"), len(first) - 1)
    j = np.minimum(np.searchsorted(second_ends, ends, side="left"), len(second) - 1)
    mass = np.diff(ends, prepend=0.0)
    return i[mass > 0], j[mass > 0], mass[mass > 0]


def spread(
    rows: Int[np.ndarray, "s"],
    columns: Int[np.ndarray, "s"],
    mass: Float[np.ndarray, "s"],
    x_group: Int[np.ndarray, "n"],
    y_group: Int[np.ndarray, "m"],
    a: Float[np.ndarray, "n"],
    b: Float[np.ndarray, "m"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A plan between the original points, with marginals a and b, that merges to the given one."""
    order = np.lexsort((columns, rows))
    rows, columns, mass = rows[order], columns[order], mass[order]
    x_order, y_order = np.argsort(x_group, kind="stable"), np.argsort(y_group, kind="stable")
    # Source points meet the entries in the order of rows, target points in the order of columns.
    source, _, piece = overlap(a[x_order], mass)
    by_column = np.lexsort((rows, columns))
    target, place, other = overlap(b[y_order], mass[by_column])
    other_entry = by_column[place]
    back = np.argsort(other_entry, kind="stable")
    # Both now follow the order of entries: lay them along one line once more.
    i, j, joint = overlap(piece, other[back])
    return x_order[source[i]], y_order[target[back][j]], joint
