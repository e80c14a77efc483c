"""Exact optimal transport between two point clouds, with a proof; the gap of a map's own pairing to it."""

import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix

from regimes import checks
from regimes.checks import count, fraction, time_limit
from regimes.transport.columns import generate
from regimes.transport.cost import (
    Matrix,
    Others,
    Points,
    Vector,
    Weights,
    as_pair,
    check_exponent,
    check_weights,
    cost_matrix,
    extent,
)
from regimes.transport.merging import Merged, merge, spread
from regimes.transport.restricted import by_assignment
from regimes.transport.showing import Said, Shown, saying
from regimes.transport.start import make_problem, masses, start
from regimes.transport.units import converted, finest_unit, fits, lost, no_room, unit_of

COPIES = 4  # of one point up to which an assignment stays one; with more the joint masses make an easier problem ...
RARE_COPIES = 24  # ... or, where few points have copies, up to this number
RARE = 0.9  # of the points that have to remain when equal ones are merged
CERTIFIED = 1e-9  # relative width of the bracket [dual, primal] below which the optimum counts as proved


class Transport(NamedTuple):
    """Outcome of an exact solve: the optimum lies in [dual_value, primal], whether or not it was reached.

    `cost` is the optimum, None unless certified. `plan` (n, m) is sparse, its mass sums to 1. `u`, `v` are potentials
    with u_i + v_j ≤ ‖x_i − y_j‖^p for ALL pairs and Σ a u + Σ b v = dual_value. `max_violation` is how far
    at most the solver's potentials broke an inequality before they were lowered to feasibility, in units of cost.
    `unit` is 1; where float64 cannot hold the costs it is another length, and costs and potentials are in unit^p.
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
    unit: float = 1.0


def exact_transport(
    x: Points,
    y: Others,
    *,
    p: float = 2.0,
    x_weights: Weights | None = None,
    y_weights: Weights | None = None,
    paired: bool = False,
    tolerance: float = 1e-10,
    rounds: int = 100,
    seconds: float = math.inf,
    device: torch.device | str = "cpu",
    progress: bool | Shown = False,
) -> Transport:
    """Least mean cost of moving one cloud onto the other, min Σ π_ij ‖x_i − y_j‖^p over plans π of total mass 1.

    Norm over features, no factor ½, no p-th root; weights are scaled to total 1 (None: uniform), sizes may differ.
    `paired` tells that x_i ↔ y_i is a plan worth starting from. Memory is O(n k): cost matrices of large clouds are
    never formed. Rounds of a sparse solver (OR-tools' for assignments where it is installed and no point weighs more
    than another, else POT's network simplex) are followed by a look at all pairs; the potentials, lowered where they
    break an inequality, give a true lower bound (weak duality). It stops once
    primal − dual ≤ tolerance · primal; `certified` means primal − dual ≤ 1e-9 · primal, up to the rounding of
    u_i + v_j − ‖x_i − y_j‖^p itself (about (d + 4)·1e-16 of its largest term). Beyond `rounds` or `seconds` the
    bracket [dual_value, primal] is what remains. No round is begun that would not end in time, going by the one before.
    `progress`: True shows it on stderr; a function is told the state (`Solving`) at each half of a round.
    """
    began = time.monotonic()
    fraction("exact_transport", "tolerance", tolerance)
    count("exact_transport", "rounds", rounds)
    time_limit("exact_transport", seconds)
    checks.device("exact_transport", device)
    p = check_exponent(p, "exact_transport")
    x_array, y_array = as_pair("exact_transport", p, any_size=True, x=x, y=y)
    if not isinstance(paired, bool | np.bool_):
        raise ValueError(f"exact_transport needs paired as True or False; got {paired!r}. Change paired.")
    if paired and len(x_array) != len(y_array):
        raise ValueError(
            f"exact_transport needs paired clouds of one size; got {len(x_array)} and {len(y_array)}: "
            "pass paired=False."
        )
    a = check_weights(x_weights, len(x_array), "x_weights", "exact_transport")
    b = check_weights(y_weights, len(y_array), "y_weights", "exact_transport")
    a = np.ones(len(x_array)) if a is None else a
    b = np.ones(len(y_array)) if b is None else b
    limits = {"tolerance": tolerance, "rounds": rounds, "deadline": began + seconds}
    with saying("exact_transport", progress, max(len(x_array), len(y_array))) as said:
        for unit in (unit_of(x_array, y_array, p), finest_unit(x_array, y_array, p)):
            near_x, near_y = x_array / unit, y_array / unit
            solved = _solve(near_x, near_y, p, a, b, paired, limits, device, said)
            if not lost(solved.primal, near_x[solved.plan.row], near_y[solved.plan.col]):
                return _in_units_of_the_points(solved._replace(unit=unit), extent(x_array, y_array), p)
    raise no_room("exact_transport", p)


def _in_units_of_the_points(solved: Transport, size: float, p: float) -> Transport:
    """The same outcome in user units, where these can hold the costs of clouds of extent 10^size."""
    if solved.unit == 1 or not fits(solved.unit, p, size, solved.primal, max(solved.dual_value, 0)):
        return solved
    costs = {name: getattr(solved, name) for name in ("cost", "primal", "dual_value", "max_violation", "u", "v")}
    back = {name: None if cost is None else converted(cost, solved.unit, p) for name, cost in costs.items()}
    return solved._replace(**back, unit=1.0)


def _solve(
    x: Matrix,
    y: Float[np.ndarray, "m d"],
    p: float,
    a: Vector,
    b: Float[np.ndarray, "m"],
    paired: bool,
    limits: dict[str, Any],
    device: torch.device | str,
    said: Said,
) -> Transport:
    kept_x, kept_y = np.flatnonzero(a), np.flatnonzero(b)
    a, b = masses(a[kept_x], b[kept_y])
    source, target = merge(x[kept_x], a), merge(y[kept_y], b)
    if by_assignment(a, b) and max(source.mass.max(), target.mass.max()) <= _most_copies(source, target):
        source, target = (Merged(z, mass, np.arange(len(z))) for z, mass in ((x[kept_x], a), (y[kept_y], b)))
    problem = make_problem(source.points, target.points, p, source.mass, target.mass, device=device)
    own = None
    if paired and len(kept_x) == len(x) == len(kept_y) and np.array_equal(a, b):
        own = (source.group, target.group, a)
    first = start(problem, own, deadline=limits["deadline"], said=said)
    outcome = generate(problem, *first[:4], slack=first.slack, expected=first.expected, said=said, **limits)
    if own is not None and problem.primal(*own) <= outcome.primal:
        rows, columns, mass = np.arange(len(a)), np.arange(len(a)), a
    else:
        entries = (outcome.rows, outcome.columns, outcome.mass)
        split = len(source.points) < len(a) or len(target.points) < len(b)
        rows, columns, mass = spread(*entries, source.group, target.group, a, b) if split else entries
    plan = coo_matrix((mass / a.sum(), (kept_x[rows], kept_y[columns])), shape=(len(x), len(y)))
    u, v = np.full(len(x), np.nan), np.full(len(y), np.nan)
    u[kept_x], v[kept_y] = outcome.u[source.group], outcome.v[target.group]
    _fill(x, y, p, u, v)
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


def _most_copies(*clouds: Merged) -> int:
    """How often a point may occur in an assignment."""
    return RARE_COPIES if min(len(cloud.points) / len(cloud.group) for cloud in clouds) >= RARE else COPIES


def _fill(x: Matrix, y: Float[np.ndarray, "m d"], p: float, u: Vector, v: Float[np.ndarray, "m"]) -> None:
    """Potentials of points without mass, nan so far: the largest feasible ones."""
    known = ~np.isnan(v)
    for i in np.flatnonzero(np.isnan(u)):
        u[i] = (cost_matrix(x[i : i + 1], y[known], p)[0] - v[known]).min()
    for j in np.flatnonzero(np.isnan(v)):
        v[j] = (cost_matrix(x, y[j : j + 1], p)[:, 0] - u).min()
