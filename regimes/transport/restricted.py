"""Exact OT on a sparse set of pairs: OR-tools' assignment solver where it can, else the network simplex of POT."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix

from regimes.errors import RunFailed
from regimes.transport.assignment import assign, available
from regimes.transport.cost import Vector
from regimes.transport.pot import pot

UNLIMITED = 2**40  # pivots; POT's default of 1e5 stops early on 2,000 points
OPTIMAL = 1


class Flow(NamedTuple):
    """Optimal plan of a restricted problem on its pairs, and dual potentials feasible on all of them."""

    rows: Int[np.ndarray, "s"]
    columns: Int[np.ndarray, "s"]
    mass: Float[np.ndarray, "s"]
    u: Float[np.ndarray, "n"]
    v: Float[np.ndarray, "m"]


def by_assignment(a: Vector, b: Float[np.ndarray, "m"]) -> bool:
    """Whether all points weigh 1, as many on each side, and the solver of assignments is installed."""
    return len(a) == len(b) and bool((a == 1).all() and (b == 1).all()) and available()


def solve_restricted(
    rows: Int[np.ndarray, "e"],
    columns: Int[np.ndarray, "e"],
    cost: Float[np.ndarray, "e"],
    a: Vector,
    b: Float[np.ndarray, "m"],
    *,
    cap: float = np.inf,
    precision: float = 0.0,
) -> Flow:
    """Minimum of Σ cost·mass over plans with marginals a and b on the listed pairs; costs of an assignment are ≥ 0.

    An assignment is solved until primal − dual ≤ `precision` · Σ a, or to rounding; the simplex takes no precision.
    Costs above `cap` are lowered to it, so that the solver computes with numbers of one size: the artificial arcs of
    the simplex cost n times the largest. That relaxes the problem; potentials feasible for it are feasible for the true
    costs, and if no mass lies on a lowered pair the plan is the true optimum. Otherwise the cap is raised, 100-fold.
    RuntimeError if the pairs admit no plan.
    """
    if by_assignment(a, b):
        return _assignment(rows, columns, cost, len(a), cap, precision)
    largest = float(np.abs(cost).max())
    while True:
        capped = np.minimum(cost, cap)
        size = float(np.abs(capped).max())
        # The simplex adds 1 to the largest cost: make that 1 negligible. Powers of two change no digit.
        scale = 2.0 ** min(20 - np.ceil(np.log2(size)), 1000) if size > 0 else 1.0
        flow = _simplex(rows, columns, capped * scale, a, b)
        flow = flow._replace(u=flow.u / scale, v=flow.v / scale)
        if cap >= largest or not _uses_lowered(flow, rows, columns, cost, cap, len(b)):
            return flow
        cap *= 100


def _assignment(rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, n: int, cap: float, precision: float) -> Flow:
    found = assign(rows, columns, cost, n, cap=cap, precision=precision)
    if found is None:
        raise _no_plan("INFEASIBLE", n, n, len(cost))
    shift = np.median(found.v)
    return Flow(np.arange(n), found.mate, np.ones(n), found.u + shift, found.v - shift)


def _no_plan(reason: str, n: int, m: int, pairs: int) -> RunFailed:
    return RunFailed(
        f"the exact solver ended without an optimum ({reason}) on {n} x {m} points, "
        f"{pairs} pairs: check that the weights are of similar size, or report the clouds."
    )


def _simplex(rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, a: Vector, b: np.ndarray) -> Flow:
    graph = coo_matrix((cost, (rows, columns)), shape=(len(a), len(b)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the outcome is read from result_code
        plan, log = pot().emd(a, b, graph, numItermax=UNLIMITED, log=True, center_dual=False)
    if log["result_code"] != OPTIMAL:
        raise _no_plan(log["warning"], len(a), len(b), len(cost))
    shift = np.median(log["v"])
    return Flow(plan.row.astype(np.int64), plan.col.astype(np.int64), plan.data, log["u"] + shift, log["v"] - shift)


def _uses_lowered(flow: Flow, rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, cap: float, width: int) -> bool:
    lowered = rows[cost > cap] * width + columns[cost > cap]
    return bool(np.isin(flow.rows * width + flow.columns, lowered).any())
