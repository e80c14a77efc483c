"""Column generation: solve on few pairs, price all pairs, add what is violated; once nothing is, that is a proof."""

import math
import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from regimes.transport.cost import Matrix, Vector, edge_cost
from regimes.transport.pricing import Priced, Pricer
from regimes.transport.restricted import Flow, by_assignment, solve_restricted
from regimes.transport.showing import Said, silent
from regimes.transport.stabilisation import stabilise

NEW = 24  # violated pairs added to a row in one round; with 8 it takes many more rounds
KEPT = 40  # pairs kept a row, the least reduced costs first; more when forgetting costs progress
COMPLETE = 150_000  # pairs up to which none is forgotten
NOISE = 16  # a pair counts as violated from tolerance/NOISE of the optimum on
AT_REST = 4  # times what rounding may hide in the dual value: a bracket of this width is as good as closed
PATIENCE = 3  # rounds without a violated pair and without progress before rounding is taken to be the limit


Plan = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, columns, mass


class Problem(NamedTuple):
    """Clouds and exponent, masses (a and b have one total; integers where the weights are uniform), and the pricer."""

    x: Matrix
    y: Float[np.ndarray, "m d"]
    p: float
    a: Vector
    b: Float[np.ndarray, "m"]
    pricer: Pricer

    def cost(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return edge_cost(self.x, self.y, rows, columns, self.p)

    def primal(self, rows: np.ndarray, columns: np.ndarray, mass: np.ndarray) -> float:
        """Mean cost of a plan: Σ mass·cost / Σ a, correctly rounded sum."""
        return math.fsum(mass * self.cost(rows, columns)) / math.fsum(self.a)

    def dual(self, u: Vector, v: np.ndarray, primal: float) -> float:
        """Mean dual value (Σ a u + Σ b v) / Σ a, less what rounding may have hidden in u_i + v_j ≤ cost.

        On pairs that bind, the rounding is at most half of what `rounding` says.
        """
        value = math.fsum(np.concatenate([self.a * u, self.b * v])) / math.fsum(self.a)
        return value - self.rounding(u, v, primal)

    def rounding(self, u: Vector, v: np.ndarray, primal: float) -> float:
        """Mean of ε (|u_i| + |v_j| + (d + 4) p' cost), ε = 2.2e-16, p' = p/2 or 1 if that is more."""
        potentials = (self.a @ np.abs(u) + self.b @ np.abs(v)) / self.a.sum()
        return float(np.finfo(float).eps * (potentials + (self.x.shape[1] + 4) * max(1, self.p / 2) * primal))


class Outcome(NamedTuple):
    """The best plan met and the best feasible potentials met: they bracket the optimum, whatever happened."""

    rows: Int[np.ndarray, "s"]
    columns: Int[np.ndarray, "s"]
    mass: Float[np.ndarray, "s"]
    primal: float
    u: Float[np.ndarray, "n"]
    v: Float[np.ndarray, "m"]
    dual: float
    violation: float
    rounds: int
    seconds: float = 0.0  # that the last round took


def generate(
    problem: Problem,
    u: Vector,
    v: Float[np.ndarray, "m"],
    pairs: Int[np.ndarray, "e"],
    incumbent: Plan,
    *,
    tolerance: float,
    rounds: int,
    deadline: float = math.inf,
    slack: float = 0.0,
    expected: float = 0.0,
    said: Said = silent,
) -> Outcome:
    """Close the bracket [dual, primal] to `tolerance` · primal, or until rounds or the clock run out.

    `pairs` are i·m + j, among them the support of the feasible plan `incumbent`; u and v are feasible for all pairs.
    Each round lowers the duals of violated rows until they are feasible for ALL pairs, which makes the dual value a
    true lower bound: optimality is proved by weak duality, not by the solver's word. No round is begun that would end
    after the deadline, going by the last one (the first by `expected`). `said` is told of each half of a round.
    """
    m, points = len(problem.y), max(len(problem.x), len(problem.y))
    # Costs are not negative, so zero potentials are feasible: the bracket is [0, incumbent] before any work.
    best = Outcome(*incumbent, problem.primal(*incumbent), np.zeros_like(u), np.zeros_like(v), 0.0, 0.0, 0, expected)
    best = _better_potentials(problem, best, u, np.zeros_like(u), v)
    cap, idle, limit = None, 0, max(COMPLETE, KEPT * max(len(u), m))
    whole = by_assignment(problem.a, problem.b)
    for count in range(1, rounds + 1):
        began = time.monotonic()
        if closed(best, tolerance) or idle == PATIENCE or began + best.seconds >= deadline:
            break
        i, j = np.divmod(pairs, m)
        reduced = problem.cost(i, j) - u[i] - v[j]
        # The simplex wants costs that are not negative: its artificial ones follow the largest.
        lift = np.zeros_like(u)
        np.minimum.at(lift, i, reduced)
        u, reduced = u + lift, reduced - lift[i]
        pairs, i, j, reduced = _keep_least(pairs, i, j, reduced, best, m, limit)
        cap = (math.inf if whole else _first_cap(reduced)) if cap is None else cap
        said(points, count, f"solving on {len(pairs):,} pairs", best.primal, best.dual, best.seconds)
        precision = max(tolerance * best.primal / 64, 1e-4 * (best.primal - best.dual))
        flow = solve_restricted(i, j, reduced, problem.a, problem.b, cap=cap, precision=precision)
        flow = stabilise(flow, i, j, reduced, v)
        u, v = u + flow.u, v + flow.v
        width, dual = best.primal - best.dual, best.dual
        best = _better_plan(problem, best, flow)._replace(rounds=count)
        said(points, count, "looking at all pairs", best.primal, best.dual, best.seconds)
        noise = tolerance * best.primal / NOISE
        priced = problem.pricer.price(u, v, level=-noise, most=NEW)
        best = _better_potentials(problem, best, u, np.minimum(priced.row_least, 0), v)
        violation = float(-priced.row_least.min())
        # Nothing left to add and still a gap: rounding in the simplex. Solve again in the scale of what remains. Where
        # the gap itself is of the size of rounding, the pairs left to add are made of it.
        left = best.primal - best.dual
        over = len(priced.rows) == 0 or left <= AT_REST * problem.rounding(best.u, best.v, best.primal)
        idle = idle + 1 if over and left > width / 2 else 0
        limit = limit if best.dual > dual else int(1.5 * limit)
        cap = 1000 * max(violation, best.primal - best.dual)
        if closed(best, tolerance):
            break
        best = best._replace(seconds=time.monotonic() - began)
        pairs = distinct(pairs, priced.rows * m + priced.columns, *_around(problem, u, v, priced, slack))
    return best


def closed(best: Outcome, tolerance: float) -> bool:
    """Whether the bracket is as narrow as was asked for."""
    return best.primal - best.dual <= tolerance * best.primal


def _first_cap(reduced: Float[np.ndarray, "e"]) -> float:
    """Well above the reduced costs that matter, well below those between far parts of the clouds."""
    typical = np.quantile(reduced, 0.1)
    return 10_000 * float(typical if typical > 0 else reduced.mean()) or math.inf


def distinct(*keys: Int[np.ndarray, "_"]) -> Int[np.ndarray, "e"]:
    """All keys, sorted, each once; by sorting, which is several times faster here than the hashing of np.unique."""
    ordered = np.sort(np.concatenate(keys))
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _keep_least(
    pairs: np.ndarray, i: np.ndarray, j: np.ndarray, reduced: np.ndarray, best: Outcome, m: int, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Forget pairs of large reduced cost, so that memory stays O(n k); the support of the best plan stays."""
    if len(pairs) <= limit:
        return pairs, i, j, reduced
    keep = reduced <= np.partition(reduced, limit)[limit]
    keep |= np.isin(pairs, best.rows * m + best.columns)
    return pairs[keep], i[keep], j[keep], reduced[keep]


def _better_plan(problem: Problem, best: Outcome, flow: Flow) -> Outcome:
    primal = problem.primal(flow.rows, flow.columns, flow.mass)
    if primal >= best.primal:
        return best
    return best._replace(rows=flow.rows, columns=flow.columns, mass=flow.mass, primal=primal)


def _better_potentials(problem: Problem, best: Outcome, u: Vector, lift: Vector, v: np.ndarray) -> Outcome:
    dual = problem.dual(u + lift, v, best.primal)
    if dual <= best.dual:
        return best
    return best._replace(u=u + lift, v=v, dual=dual, violation=float(-lift.min()))


def _around(problem: Problem, u: Vector, v: np.ndarray, priced: Priced, slack: float) -> list[np.ndarray]:
    """When few rows are violated, all good pairs of these rows and columns: degenerate duals settle in fewer rounds."""
    rows, columns = distinct(priced.rows), distinct(priced.columns)
    m = len(problem.y)
    if slack <= 0 or max(len(rows), len(columns)) > 0.2 * m:
        return []
    level = max(slack, float(-priced.row_least.min()))
    by_row = problem.pricer.price(u, v, level=level, most=NEW, chosen=rows)
    by_column = problem.pricer.transposed().price(v, u, level=level, most=NEW, chosen=columns)
    return [by_row.rows * m + by_row.columns, by_column.columns * m + by_column.rows]
