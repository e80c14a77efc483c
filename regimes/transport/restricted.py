"""Exact OT on a sparse set of pairs: the network simplex of POT on reduced, capped costs."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix

from regimes.errors import RunFailed
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


def solve_restricted(
    rows: Int[np.ndarray, "e"],
    columns: Int[np.ndarray, "e"],
    cost: Float[np.ndarray, "e"],
    a: Vector,
    b: Float[np.ndarray, "m"],
    *,
    cap: float = np.inf,
) -> Flow:
    """Minimum of Σ cost·mass over plans with marginals a and b on the listed pairs.

    Costs above `cap` are lowered to it, so that the simplex computes with numbers of one size: its artificial arcs
    cost n times the largest. That relaxes the problem; potentials feasible for it are feasible for the true costs,
    and if no mass lies on a lowered pair the plan is the true optimum. Otherwise the cap is raised, 100-fold.
    RuntimeError if the pairs admit no plan.
    """
    largest = float(np.abs(cost).max())
    while True:
        capped = np.minimum(cost, cap)
        size = float(np.abs(capped).max())
        # The simplex adds 1 to the largest cost: make that 1 negligible. Powers of two change no digit.
        scale = 2.0 ** (20 - np.ceil(np.log2(size))) if size > 0 else 1.0
        flow = _simplex(rows, columns, capped * scale, a, b)
        flow = flow._replace(u=flow.u / scale, v=flow.v / scale)
        if cap >= largest or not _uses_lowered(flow, rows, columns, cost, cap, len(b)):
            return flow
        cap *= 100


def _simplex(rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, a: Vector, b: np.ndarray) -> Flow:
    graph = coo_matrix((cost, (rows, columns)), shape=(len(a), len(b)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the outcome is read from result_code
        plan, log = pot().emd(a, b, graph, numItermax=UNLIMITED, log=True, center_dual=False)
    if log["result_code"] != OPTIMAL:
        raise RunFailed(
            f"the network simplex ended without an optimum ({log['warning']}) on {len(a)} x {len(b)} points, "
            f"{len(cost)} pairs: check that the weights are of similar size, or report the clouds."
        )
    shift = np.median(log["v"])
    return Flow(plan.row.astype(np.int64), plan.col.astype(np.int64), plan.data, log["u"] + shift, log["v"] - shift)


def _uses_lowered(flow: Flow, rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, cap: float, width: int) -> bool:
    lowered = rows[cost > cap] * width + columns[cost > cap]
    return bool(np.isin(flow.rows * width + flow.columns, lowered).any())
