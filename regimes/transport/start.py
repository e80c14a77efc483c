"""Where column generation starts: potentials from a coarser problem, and the pairs that look good under them."""

import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from regimes.transport.columns import COMPLETE, Plan, Problem, distinct, generate
from regimes.transport.cost import Matrix, Vector, cost_matrix
from regimes.transport.merging import overlap
from regimes.transport.partition import thin
from regimes.transport.pricing import Pricer
from regimes.transport.showing import Said, silent

NEIGHBOURS = 24  # pairs of least reduced cost a row, and a column, to begin with; with 12 it takes more rounds
COARSER = 4  # points for one point of the coarser problem
WIDER = 10  # times that the level is raised fourfold for rows that have found few pairs
NEAREST = 0.9  # of the cost of the own pairing: when a pairing is near enough to start from it
ROUNDING = 1e-12  # of the cost by which potentials are lowered in any case: at p = 1 most pairs of a line bind
SAMPLE = 64  # rows that tell what reduced cost its best NEIGHBOURS pairs have


def staircase(x: Matrix, y: Float[np.ndarray, "m d"], a: Vector, b: Float[np.ndarray, "m"]) -> Plan:
    """A feasible plan with at most n + m − 1 pairs: the monotone coupling along the clouds' longest direction.

    Exact for integer masses. In one dimension it is the optimal plan of every cost ‖x − y‖^p, p ≥ 1.
    """
    pooled = np.concatenate([x, y])
    direction = pooled.std(0) if x.shape[1] > 1 else np.ones(1)
    axis = int(np.argmax(direction))
    rows, columns = np.argsort(x[:, axis], kind="stable"), np.argsort(y[:, axis], kind="stable")
    i, j, mass = overlap(a[rows], b[columns])
    return rows[i], columns[j], mass


def connect(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The staircase's pairs and both that join neighbouring steps: a connected graph, so potentials are determined."""
    return np.concatenate([rows, rows[:-1], rows[1:]]), np.concatenate([columns, columns[1:], columns[:-1]])


def potentials_on_a_line(
    problem: Problem, rows: Int[np.ndarray, "s"], columns: Int[np.ndarray, "s"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]:
    """Optimal potentials for points on a line, from the steps of the staircase; feasible up to rounding.

    From one pair (i, j) of the staircase to the next (k, l), v_l − v_j may be c_kl − c_kj at least and c_il − c_ij at
    most, here the mean of both; c is convex, so that what holds for neighbours holds for all pairs. The solvers walk
    along such chains and take quadratic time.
    """
    own, back = problem.cost(rows, columns), problem.cost(rows[1:], columns[:-1])
    ahead = problem.cost(rows[:-1], columns[1:])
    along = np.cumsum(np.concatenate([[0.0], ((own[1:] - back) + (ahead - own[:-1])) / 2]))
    along -= np.median(along)
    u, v = np.empty(len(problem.x)), np.empty(len(problem.y))
    u[rows], v[columns] = own - along, along
    return u, v


class Start(NamedTuple):
    """Feasible potentials, pairs i·m + j to solve on, a feasible plan among them, and the slack of good pairs.

    `pricing` are the seconds that finding the pairs took, `expected` those that a round may take.
    """

    u: Float[np.ndarray, "n"]
    v: Float[np.ndarray, "m"]
    pairs: Int[np.ndarray, "e"]
    plan: Plan
    slack: float
    pricing: float = 0.0
    expected: float = 0.0


class Potentials(NamedTuple):
    """Potentials extended from a coarser problem, and the seconds that a round may take here, going by its rounds."""

    u: Float[np.ndarray, "n"]
    v: Float[np.ndarray, "m"]
    expected: float


def start(
    problem: Problem,
    own: Plan | None = None,
    *,
    ratio: int = COARSER,
    neighbours: int = NEIGHBOURS,
    deadline: float = math.inf,
    said: Said = silent,
) -> Start:
    """First potentials and pairs; `own` is a plan at hand, to be beaten or confirmed.

    Where the time up to the deadline is too short, potentials of 0 and the pairs of a plan are all.
    """
    x, y, p, a, b, pricer = problem
    n, m = len(x), len(y)
    stairs = staircase(x, y, a, b)
    plan = min((own or stairs, stairs), key=lambda candidate: problem.primal(*candidate))
    rows, columns = connect(*stairs[:2])
    if x.shape[1] == 1:
        pairs = distinct(rows * m + columns, plan[0] * m + plan[1])
        if time.monotonic() >= deadline:
            return Start(np.zeros(n), np.zeros(m), pairs, plan, 0.0)
        u, v = potentials_on_a_line(problem, *stairs[:2])
        broken = pricer.price(u, v, level=-ROUNDING * problem.primal(*plan), most=1).row_least
        return Start(u + np.minimum(broken, 0), v, pairs, plan, 0.0)
    if n * m <= COMPLETE:
        cost = cost_matrix(x, y, p)
        u = cost.min(1)
        return Start(u, (cost - u[:, None]).min(0), np.arange(n * m), plan, 0.0)
    known = distinct(rows * m + columns, *(rows * m + columns for rows, columns, _ in (own or stairs, plan)))
    nothing = Start(np.zeros(n), np.zeros(m), known, plan, 0.0)
    if time.monotonic() >= deadline:
        return nothing
    if own and _matched(own, n) and _mostly_nearest(problem):
        first = Potentials(problem.cost(own[0], own[1]), np.zeros(m), 0.0)
    else:
        first = _coarse_potentials(problem, own, ratio, deadline, said)
    if first is None:
        return nothing
    u, v, expected = first
    best = problem.primal(*plan)
    said(max(n, m), 0, "looking for good pairs", best, 0.0, expected)
    began, slack = time.monotonic(), _typical_slack(problem, u, v, neighbours)
    row_least, i, j = _good_pairs(problem.pricer, u, v, slack, neighbours)
    _, back, there = _good_pairs(problem.pricer.transposed(), v, u, slack, neighbours)
    pairs = distinct(i * m + j, there * m + back, known)
    return Start(u + row_least, v, pairs, plan, slack, time.monotonic() - began, expected)


def _good_pairs(
    pricer: Pricer, u: Vector, v: Float[np.ndarray, "m"], slack: float, most: int
) -> tuple[Float[np.ndarray, "n"], np.ndarray, np.ndarray]:
    """The `most` pairs of least reduced cost of each row, and by how much all its pairs are at least above u + v.

    Where points are sparse few are below `slack`: there the level is raised. Without these pairs the outskirts of the
    clouds have no partners at first, and their potentials drag those of all others along.
    """
    first = pricer.price(u, v, level=slack, most=most)
    rows, columns, level = [first.rows], [first.columns], slack
    found = np.bincount(first.rows, minlength=len(u))
    for _ in range(WIDER):
        few = np.flatnonzero(found < min(most, len(v)) // 2)
        if len(few) == 0:
            break
        level *= 4
        more = pricer.price(u, v, level=level, most=most, chosen=few)
        found = np.maximum(found, np.bincount(more.rows, minlength=len(u)))
        rows.append(more.rows)
        columns.append(more.columns)
    return first.row_least, np.concatenate(rows), np.concatenate(columns)


def _coarse_potentials(
    problem: Problem, own: Plan | None, ratio: int, deadline: float, said: Said
) -> Potentials | None:
    """Solve for every `ratio`-th point, then extend the potentials to all points by the c-transform.

    None if there is no time to do so and look at all pairs afterwards. The coarser problem gets half of the time.
    """
    half = time.monotonic() + (deadline - time.monotonic()) / 2
    x, y, p, a, b, pricer = problem
    some_x = thin(x, max(1, len(x) // ratio))
    matched = _matched(own, len(x))
    some_y = some_x if matched else thin(y, max(1, len(y) // ratio))
    coarse = make_problem(x[some_x], y[some_y], p, *masses(a[some_x], b[some_y]), device=pricer.device)
    identity = (np.arange(len(some_x)), np.arange(len(some_x)), coarse.a)
    own = identity if matched and np.array_equal(coarse.a, coarse.b) else None
    first = start(coarse, own, ratio=ratio, deadline=half, said=said)
    limits: dict[str, Any] = {"tolerance": 1e-6, "rounds": 12, "deadline": half, "expected": first.expected}
    outcome = generate(coarse, *first[:4], slack=first.slack, said=said, **limits)
    if time.monotonic() + ratio**2 * first.pricing >= deadline:
        return None
    v = _sane(Pricer(y, x[some_x], p, device=pricer.device).least(outcome.u))
    u = _sane(Pricer(x, y[some_y], p, device=pricer.device).least(v[some_y]))
    return Potentials(u, v, ratio**1.5 * outcome.seconds)


def _matched(own: Plan | None, points: int) -> bool:
    """Whether the plan at hand pairs x_i with y_i."""
    return own is not None and all(np.array_equal(side, np.arange(points)) for side in own[:2])


def _mostly_nearest(problem: Problem) -> bool:
    """Whether most points are near their partner, nearer than to others: then u_i = ‖x_i − y_i‖^p, v = 0 do well.

    Judged on some rows: the mean distance cost to the nearest is at least NEAREST of that to the partner.
    """
    rows = _some_rows(len(problem.x))
    cost = cost_matrix(problem.x[rows], problem.y, problem.p)
    return bool(cost.min(1).mean() >= NEAREST * cost[np.arange(len(rows)), rows].mean())


def _some_rows(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, SAMPLE).astype(int))


def _sane(potential: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Starting values without the huge ones that an outlier gets whose partner the coarser problem left out."""
    low, middle, high = np.quantile(potential, [0.1, 0.5, 0.9])
    return np.clip(potential, middle - 100 * (high - low), middle + 100 * (high - low))


def masses(a: Vector, b: Float[np.ndarray, "m"]) -> tuple[np.ndarray, np.ndarray]:
    """Masses with one total: integers if each side is uniform, else of mean 1 on the side of x."""
    if (a == a[0]).all() and (b == b[0]).all():
        common = math.gcd(len(a), len(b))
        return np.full(len(a), float(len(b) // common)), np.full(len(b), float(len(a) // common))
    a = a / a.mean() if a.sum() > 0 else np.ones(len(a))
    b = b / b.sum() if b.sum() > 0 else np.full(len(b), 1 / len(b))
    return a, b * a.sum()


def make_problem(
    x: Matrix,
    y: Float[np.ndarray, "m d"],
    p: float,
    a: Vector,
    b: Float[np.ndarray, "m"],
    *,
    device: torch.device | str = "cpu",
) -> Problem:
    """The problem of two clouds and the masses of their points, of one total."""
    return Problem(x, y, p, a, b, Pricer(x, y, p, device=device))


def _typical_slack(problem: Problem, u: Vector, v: np.ndarray, neighbours: int) -> float:
    """Median over some rows of the reduced cost of their `neighbours`-th best pair, above 0."""
    rows = _some_rows(len(u))
    reduced = cost_matrix(problem.x[rows], problem.y, problem.p) - u[rows, None] - v
    kth = min(neighbours, len(v)) - 1
    return max(float(np.median(np.partition(reduced, kth)[:, kth])), 1e-9 * float(np.abs(reduced).mean()))
