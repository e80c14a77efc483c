"""Assignments on a sparse set of pairs, with duals: OR-tools' cost scaling on integers, shortest paths, refinement.

The solver takes integers of a limited size and returns no duals. Those are lengths of shortest paths in the graph of
the assignment; what the integers have rounded off is solved again, as a problem in the scale of what remains.
"""

from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix

from regimes.errors import RunFailed

SOLVER = "ortools.graph.python.linear_sum_assignment"
ROOM = 2.0**60  # the solver refuses costs above about 2^61 / (n + 1)², for its prices could overflow
EXACT = 2.0**51  # sums of n costs, as lengths of paths are, must be integers of float64
LEAST = 2.0**-1022  # a unit below would be 0, or have lost digits
REFINEMENTS = 8  # at most; each gains six decimals or more
SHARPER = 16.0  # times the largest slack of the assignment: the next cap
SWEEPS = 32  # of Bellman-Ford, after which the lengths of all paths found so far are computed anew
MANY = 64  # ... or sooner, where more than one in so many rows has become shorter to reach


class Assigned(NamedTuple):
    """Column of each row, and potentials with u_i + v_j ≤ cost on all listed pairs, up to rounding."""

    mate: Int[np.ndarray, "n"]
    u: Float[np.ndarray, "n"]
    v: Float[np.ndarray, "n"]


@cache
def available() -> bool:
    """Whether OR-tools can be imported (`pip install "regimes[transport]"`): an old or a broken one counts as none."""
    try:
        import_module(SOLVER)
    except (ImportError, OSError):
        return False
    return True


def assign(
    rows: Int[np.ndarray, "e"],
    columns: Int[np.ndarray, "e"],
    cost: Float[np.ndarray, "e"],
    n: int,
    *,
    cap: float = np.inf,
    precision: float = 0.0,
) -> Assigned | None:
    """Least Σ cost over permutations of n rows and columns on the listed pairs; None if these admit none.

    Costs are not negative. Those above `cap` are lowered to it, which leaves digits to the others; it is raised where
    the assignment uses a lowered pair. Σ cost − Σ u − Σ v ≤ n · precision, or as near as rounding allows.
    """
    keys = rows * n + columns
    if not (np.diff(keys) > 0).all():
        order = np.lexsort((cost, keys))
        order = order[np.diff(keys[order], prepend=-1) > 0]
        rows, columns, cost = rows[order], columns[order], cost[order]
    u, v, rest, before = np.zeros(n), np.zeros(n), np.maximum(cost, 0), np.inf
    mate = np.arange(n)
    for _ in range(REFINEMENTS):
        solved = integer_assignment(rows, columns, rest, n, cap)
        if solved is None:
            return None
        mate, matched, whole, unit = solved
        shift = shortest_paths(rows, columns, whole, mate, whole[matched])
        u += unit * shift
        v[mate] += unit * (whole[matched] - shift)
        rest = cost - u[rows] - v[columns]
        slack = rest[matched]
        gap = float(np.abs(slack).mean())
        if gap <= precision or gap > before / 4 or slack.max() <= 0:
            break
        before, cap, rest = gap, SHARPER * float(slack.max()), np.maximum(rest, 0)
    return Assigned(mate, u, v)


def integer_assignment(
    rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, n: int, cap: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """Column of each row, the places of these pairs in the list, costs as integers (rounded down), and their unit."""
    largest = float(cost.max())
    while True:
        cap = min(cap, largest) if cap > 0 else largest
        unit = max(cap / min(ROOM / (n + 1) ** 2, EXACT / (n + 1)), LEAST) if cap > 0 else 1.0
        while True:
            whole = np.floor(np.minimum(cost, cap) / unit)
            mate = _solve(rows, columns, whole.astype(np.int64), n)
            if not isinstance(mate, str):
                break
            if mate == "INFEASIBLE":
                return None
            unit *= 2
        matched = np.flatnonzero(columns == mate[rows])
        if cap >= largest or (cost[matched] <= cap).all():
            return mate, matched, whole, unit
        cap *= 100


def _solve(rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, n: int) -> np.ndarray | str:
    """Column of each row, or the name of the status that is not OPTIMAL."""
    from ortools.graph.python.linear_sum_assignment import SimpleLinearSumAssignment

    solver: Any = SimpleLinearSumAssignment()
    solver.add_arcs_with_cost(rows.astype(np.int32), columns.astype(np.int32), cost)
    status = solver.solve()
    if status != SimpleLinearSumAssignment.OPTIMAL:
        return status.name
    return np.fromiter(map(solver.right_mate, range(n)), np.int64, n)


def shortest_paths(
    rows: Int[np.ndarray, "e"],
    columns: Int[np.ndarray, "e"],
    cost: Float[np.ndarray, "e"],
    mate: Int[np.ndarray, "n"],
    own: Float[np.ndarray, "n"],
) -> Float[np.ndarray, "n"]:
    """The largest u ≤ 0 with u_i − u_k ≤ cost_ij − own_k wherever row k has the column j of a listed pair (i, j).

    With v_j = own_k − u_k these are optimal duals of an optimal assignment. Bellman-Ford, in which only rows whose u
    has changed are looked at again. Where these are many, or after SWEEPS looks, all of u is set to the lengths of the
    paths found so far: what has changed at the start of a long path need not walk along it. Exact for integers.
    RunFailed if the assignment is not optimal: then u has no end.
    """
    n = len(mate)
    owner = np.empty(n, np.int64)
    owner[mate] = np.arange(n)
    before = owner[columns]
    graph = coo_matrix((cost - own[before], (before, rows)), shape=(n, n)).tocsr()
    heads, lengths, starts = graph.indices, graph.data, graph.indptr
    tails, degree = np.repeat(np.arange(n), np.diff(starts)), np.diff(starts)
    u, changed, active = np.zeros(n), np.zeros(n, bool), np.arange(n)
    last = np.full(n, -1)  # arc of the shortest path met that ends in a row; none: the path is empty
    sweeps = 0
    while len(active):
        count = degree[active]
        first = np.cumsum(count) - count
        arcs = np.repeat(starts[active] - first, count) + np.arange(count.sum())
        reached, through = heads[arcs], np.repeat(u[active], count) + lengths[arcs]
        shorter = np.flatnonzero(through < u[reached])
        reached, through, arcs = reached[shorter], through[shorter], arcs[shorter]
        np.minimum.at(u, reached, through)
        least = through == u[reached]
        last[reached[least]] = arcs[least]
        changed[reached] = True
        sweeps += 1
        if len(reached) and (sweeps == SWEEPS or MANY * len(reached) > n):
            whole = _path_lengths(last, tails, lengths)
            changed |= whole < u
            u, sweeps = whole, 0
        active = np.flatnonzero(changed)
        changed[active] = False
    return u


def _path_lengths(
    last: Int[np.ndarray, "n"], tails: Int[np.ndarray, "e"], lengths: Float[np.ndarray, "e"]
) -> Float[np.ndarray, "n"]:
    """Length of the path to each row, given its last arc (−1: an empty path), by doubling; RunFailed for a circle.

    A circle of last arcs is one of negative length: going round it once more is always shorter.
    """
    n = len(last)
    before, total = np.where(last < 0, np.arange(n), tails[last]), np.where(last < 0, 0.0, lengths[last])
    for _ in range(n.bit_length() + 1):
        further = before[before]
        if np.array_equal(further, before):
            return total
        total += total[before]
        before = further
    raise RunFailed(f"the solver of assignments gave one of {n} points that is not optimal: report the clouds.")
