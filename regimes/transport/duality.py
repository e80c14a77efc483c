"""Kantorovich duality: c-transforms, feasible potentials, and the certificate that proves an optimum.

Weak duality: potentials with u_i + v_j ≤ ‖x_i − y_j‖^p for all pairs give Σ a u + Σ b v ≤ cost of every plan. An equal
primal and dual value proves nothing without that feasibility. Everything here is computed from coordinate differences,
block by block, independently of the solver.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_matrix

from regimes.checks import finite, fraction, given, real, shapes
from regimes.transport.cost import Matrix, Others, Points, as_pair, cost_matrix, edge_cost

PAIRS = 2_000_000  # costs held at a time


def _check(caller: str, points: Matrix, **potential: Any) -> None:
    """One finite number a point."""
    shaped: dict[str, Any] = {name: (values, str(len(points))) for name, values in potential.items()}
    given(caller, **potential)
    real(caller, numpy=True, **potential)
    shapes(caller, **shaped)
    finite(caller, **potential)


class Certificate(NamedTuple):
    """What a plan and a pair of potentials prove together.

    `max_violation` = max_ij u_i + v_j − ‖x_i − y_j‖^p (0 or less: feasible). `dual_value` is the value of the
    potentials after each u_i is lowered by its row's violation: a lower bound of the optimum. `slackness` is the
    largest ‖x_i − y_j‖^p − u_i − v_j on the plan's support, in absolute value. `optimal` says that
    primal − dual_value ≤ tolerance · primal.
    """

    primal: float
    dual_value: float
    max_violation: float
    slackness: float
    optimal: bool


def _row_blocks(x: Matrix, y: Float[np.ndarray, "m d"], p: float) -> Iterator[tuple[slice, np.ndarray]]:
    step = max(1, PAIRS // len(y))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        yield part, cost_matrix(x[part], y, p)


def c_transform(x: Points, y: Others, v: Float[np.ndarray, "m"], *, p: float = 2.0) -> Float[np.ndarray, "n"]:
    """u_i = min_j ‖x_i − y_j‖^p − v_j: the largest u that is feasible with v."""
    x_array, y_array = as_pair("c_transform", p, x=x, y=y)
    _check("c_transform", y_array, v=v)
    v = np.asarray(v, np.float64)
    u = np.empty(len(x_array))
    for part, cost in _row_blocks(x_array, y_array, p):
        u[part] = (cost - v).min(1)
    return u


def feasible(
    x: Points, y: Others, u: Float[np.ndarray, "n"], *, p: float = 2.0
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]:
    """Feasible potentials from any u: v = c-transform of u, then u = c-transform of v; the dual value only grows."""
    x_array, _ = as_pair("feasible", p, x=x, y=y)
    _check("feasible", x_array, u=u)
    v = c_transform(y, x, u, p=p)
    return c_transform(x, y, v, p=p), v


def certify(
    x: Points,
    y: Others,
    u: Float[np.ndarray, "n"],
    v: Float[np.ndarray, "m"],
    plan: coo_matrix,
    *,
    p: float = 2.0,
    tolerance: float = 1e-9,
) -> Certificate:
    """Check a plan against potentials over all n·m pairs; its marginals serve as the weights of both clouds."""
    x_array, y_array = as_pair("certify", p, x=x, y=y)
    _check("certify", x_array, u=u)
    _check("certify", y_array, v=v)
    u, v = np.asarray(u, np.float64), np.asarray(v, np.float64)
    fraction("certify", "tolerance", tolerance)
    if not isinstance(plan, coo_matrix) or plan.shape != (len(x_array), len(y_array)):
        kind = type(plan).__name__
        raise ValueError(
            f"certify needs the plan as a coo_matrix ({len(x_array)}, {len(y_array)}); got {kind} "
            f"{getattr(plan, 'shape', '')}."
        )
    finite("certify", plan=plan.data)
    if plan.data.min(initial=0.0) < 0 or plan.data.sum() <= 0:
        raise ValueError(
            "certify needs a plan of masses, not negative and not all zero; got a least mass of "
            f"{plan.data.min(initial=0.0):g} and a sum of {plan.data.sum():g}. Pass the plan of exact_transport."
        )
    excess = np.empty(len(x_array))
    for part, cost in _row_blocks(x_array, y_array, p):
        excess[part] = (u[part, None] + v - cost).max(1)
    a, b = (np.asarray(plan.sum(axis)).ravel() for axis in (1, 0))
    cost = edge_cost(x_array, y_array, plan.row, plan.col, p)
    total = math.fsum(plan.data)
    primal = math.fsum(plan.data * cost) / total
    dual = math.fsum(np.concatenate([a * (u - np.maximum(excess, 0)), b * v])) / total
    support = plan.data > 0
    slack = np.abs(cost - u[plan.row] - v[plan.col])[support].max(initial=0.0)
    return Certificate(primal, dual, float(excess.max()), float(slack), primal - dual <= tolerance * primal)
