"""Exact optimal transport between two point clouds, with a proof; the gap of a map's own pairing to it."""

import math
import time
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix

from regimes.checks import count, not_negative, positive
from regimes.transport.columns import generate
from regimes.transport.cost import (
    Matrix,
    Points,
    Vector,
    Weights,
    as_pair,
    check_exponent,
    check_weights,
    cost_matrix,
)
from regimes.transport.merging import merge, spread
from regimes.transport.start import make_problem, masses, start

CERTIFIED = 1e-9  # relative width of the bracket [dual, primal] below which the optimum counts as proved


class Transport(NamedTuple):
    """Outcome of an exact solve: the optimum lies in [dual_value, primal], whether or not it was reached.

    `cost` is the optimum, None unless certified. `plan` (n, m) is sparse, its mass sums to 1. `u`, `v` are potentials
    with u_i + v_j ≤ ‖x_i − y_j‖^p for ALL pairs and Σ a u + Σ b v = dual_value. `max_violation` is how far
    at most the solver's potentials broke an inequality before they were lowered to feasibility, in units of cost.
    """

    cost: float | None
    primal: float
    dual_value: float
    max_violation: float
    certified: bool
    rounds: int
    plan: coo_matrix
    u: Float[np.ndarray, "n"]
    v: Float[np.ndarray, "m"]


def exact_transport(
    x: Points,
    y: Float[torch.Tensor, "m *other"] | Float[np.ndarray, "m *other"],
    *,
    p: float = 2.0,
    x_weights: Weights | None = None,
    y_weights: Weights | None = None,
    paired: bool = False,
    tolerance: float = 1e-10,
    rounds: int = 100,
    seconds: float = math.inf,
    device: torch.device | str = "cpu",
) -> Transport:
    """Least mean cost of moving one cloud onto the other, min Σ π_ij ‖x_i − y_j‖^p over plans π of total mass 1.

    Norm over features, no factor ½, no p-th root; weights are scaled to total 1 (None: uniform), sizes may differ.
    `paired` tells that x_i ↔ y_i is a plan worth starting from. Memory is O(n k): cost matrices of large clouds are
    never formed. Rounds of a sparse network simplex are followed by a look at all pairs; the potentials, lowered
    where they break an inequality, give a true lower bound (weak duality). It stops once
    primal − dual ≤ tolerance · primal; `certified` means primal − dual ≤ 1e-9 · primal, up to the rounding of
    u_i + v_j − ‖x_i − y_j‖^p itself (about (d + 4)·1e-16 of its largest term). Beyond `rounds` or `seconds` (looked
    at between rounds) the bracket [dual_value, primal] is what remains.
    """
    positive("exact_transport", "tolerance", tolerance)
    count("exact_transport", "rounds", rounds)
    not_negative("exact_transport", "seconds", seconds, infinite=True)
    deadline = time.monotonic() + seconds
    p = check_exponent(p, "exact_transport")
    x_array, y_array = as_pair("exact_transport", p, x=x, y=y)
    if paired and len(x_array) != len(y_array):
        raise ValueError(
            f"exact_transport needs paired clouds of one size; got {len(x_array)} and {len(y_array)}: "
            "pass paired=False."
        )
    a = check_weights(x_weights, len(x_array), "x_weights", "exact_transport")
    b = check_weights(y_weights, len(y_array), "y_weights", "exact_transport")
    a = np.ones(len(x_array)) if a is None else a
    b = np.ones(len(y_array)) if b is None else b
    kept_x, kept_y = np.flatnonzero(a), np.flatnonzero(b)
    a, b = masses(a[kept_x], b[kept_y])
    source, target = merge(x_array[kept_x], a), merge(y_array[kept_y], b)
    problem = make_problem(source.points, target.points, p, source.mass, target.mass, device=device)
    own = None
    if paired and len(kept_x) == len(x_array) == len(kept_y) and np.array_equal(a, b):
        own = (source.group, target.group, a)
    first = start(problem, own)
    outcome = generate(problem, *first[:4], tolerance=tolerance, rounds=rounds, deadline=deadline, slack=first.slack)
    if own is not None and problem.primal(*own) <= outcome.primal:
        rows, columns, mass = np.arange(len(a)), np.arange(len(a)), a
    else:
        entries = (outcome.rows, outcome.columns, outcome.mass)
        split = len(source.points) < len(a) or len(target.points) < len(b)
        rows, columns, mass = spread(*entries, source.group, target.group, a, b) if split else entries
    plan = coo_matrix((mass / a.sum(), (kept_x[rows], kept_y[columns])), shape=(len(x_array), len(y_array)))
    u, v = np.full(len(x_array), np.nan), np.full(len(y_array), np.nan)
    u[kept_x], v[kept_y] = outcome.u[source.group], outcome.v[target.group]
    _fill(x_array, y_array, p, u, v)
    certified = outcome.primal - outcome.dual <= CERTIFIED * outcome.primal
    return Transport(
        outcome.primal if certified else None,
        outcome.primal,
        outcome.dual,
        outcome.violation,
        certified,
        outcome.rounds,
        plan,
        u,
        v,
    )


def _fill(x: Matrix, y: Float[np.ndarray, "m d"], p: float, u: Vector, v: Float[np.ndarray, "m"]) -> None:
    """Potentials of points without mass, nan so far: the largest feasible ones."""
    known = ~np.isnan(v)
    for i in np.flatnonzero(np.isnan(u)):
        u[i] = (cost_matrix(x[i : i + 1], y[known], p)[0] - v[known]).min()
    for j in np.flatnonzero(np.isnan(v)):
        v[j] = (cost_matrix(x, y[j : j + 1], p)[:, 0] - u).min()
