"""Cyclical monotonicity of a pairing x_i → t_i: does moving targets around a cycle save cost?

A pairing is optimal if and only if no cycle i → j → ... → i saves cost when each x_i takes the target of the next.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from regimes.checks import count
from regimes.transport.cost import (
    Matrix,
    Points,
    as_pairing,
    cost_matrix,
    paired_cost,
    power_difference,
    saving,
)
from regimes.transport.swaps import largest_swap_gain

Targets = Float[Tensor, "m *other"] | Float[np.ndarray, "m *other"]
MOST_POINTS = 1500  # all walks are followed: n³ sums a step


class Cycle(NamedTuple):
    """Points on a cycle, in order (each takes the target of the next), and the cost saved, summed over them.

    Length 0 and gain 0: no cycle saves anything.
    """

    length: int
    gain: float
    members: tuple[int, ...]


def cycle_gain(x: Points, t_of_x: Targets, members: tuple[int, ...], *, p: float = 2.0) -> float:
    """Σ over the cycle of ‖x_i − t_i‖^p − ‖x_i − t_next(i)‖^p."""
    x_array, t_array = as_pairing("cycle_gain", p, x=x, t_of_x=t_of_x)
    if (
        not isinstance(members, tuple | list)
        or not members
        or not all(0 <= count("cycle_gain", "every member", i, 0) < len(x_array) for i in members)
    ):
        raise ValueError(f"cycle_gain needs members from 0 to {len(x_array) - 1}, at least one; got {members}.")
    here, following = np.array(members), np.roll(members, -1)
    return math.fsum(saving(x_array[here], t_array[here], t_array[following], p))


def worst_swap(x: Points, t_of_x: Targets, *, p: float = 2.0) -> Cycle:
    """The two points whose swap of targets saves most, max_ij c_ii + c_jj − c_ij − c_ji over ALL pairs, O(n) memory.

    For p = 2 the saving is −2 ⟨x_i − x_j, t_i − t_j⟩. Matrix products bound all savings, with their rounding; what
    may be the largest is computed from differences.
    """
    x_array, t_array = as_pairing("worst_swap", p, x=x, t_of_x=t_of_x)
    gain, members = largest_swap_gain(x_array, t_array, p)
    return Cycle(2, gain, members) if gain > 0 else Cycle(0, 0.0, ())


def rearrangement_cycles(x: Points, t_of_x: Targets, plan: coo_matrix, *, p: float = 2.0) -> list[Cycle]:
    """Cycles of a permutation plan against the pairing i → i, points that stay left out; their gains sum to n · gap.

    With an optimal plan no cycle loses, and the list is empty if and only if the pairing is that plan.
    """
    x_array, t_array = as_pairing("rearrangement_cycles", p, x=x, t_of_x=t_of_x)
    if not isinstance(plan, coo_matrix) or plan.shape != (len(x_array), len(x_array)):
        raise ValueError(f"rearrangement_cycles needs the plan as a coo_matrix ({len(x_array)}, {len(x_array)}).")
    rows, target = plan.row[plan.data > 0], plan.col[plan.data > 0]
    target = target[np.argsort(rows)].astype(np.int64)
    if not all(np.array_equal(np.sort(side), np.arange(len(x_array))) for side in (rows, target)):
        raise ValueError(
            "rearrangement_cycles needs a permutation plan (one size, uniform weights); this one splits mass."
        )
    moved = np.flatnonzero(target != np.arange(len(target)))
    saved = saving(x_array[moved], t_array[moved], t_array[target[moved]], p)
    graph = coo_matrix((np.ones(len(moved)), (moved, target[moved])), shape=plan.shape)
    label = connected_components(graph, directed=False)[1][moved]
    names, group = np.unique(label, return_inverse=True)
    gains = np.bincount(group, weights=saved, minlength=len(names)) if len(names) else np.zeros(0)
    firsts = [moved[group == k][0] for k in np.flatnonzero(gains == gains.max(initial=0.0))] if len(names) else []
    walks = {int(first): _walk(int(first), target) for first in firsts}
    lengths = np.bincount(group, minlength=len(names)) if len(names) else np.zeros(0, int)
    worst = {int(group[np.searchsorted(moved, first)]): walk for first, walk in walks.items()}
    return [Cycle(int(lengths[k]), float(gains[k]), worst.get(k, ())) for k in range(len(names))]


def _walk(first: int, target: np.ndarray) -> tuple[int, ...]:
    members = [first]
    while int(target[members[-1]]) != first:
        members.append(int(target[members[-1]]))
    return tuple(members)


def worst_walks(x: Points, t_of_x: Targets, *, longest: int, p: float = 2.0) -> Float[np.ndarray, "longest"]:
    """Largest gain of a closed walk of 1, 2, ..., `longest` steps (the first is 0): exact, n³ sums a step.

    A closed walk that gains contains a cycle that does; walks of k steps include every cycle of length k.
    """
    count("worst_walks", "longest", longest)
    gain = _step_gains("worst_walks", *as_pairing("worst_walks", p, x=x, t_of_x=t_of_x), p)
    walk, worst = gain, [float(np.diagonal(gain).max())]
    for _ in range(longest - 1):
        walk = _extend(walk, gain)
        worst.append(float(np.diagonal(walk).max()))
    return np.array(worst)


def shortest_gaining_cycle(x: Points, t_of_x: Targets, *, p: float = 2.0, longest: int | None = None) -> Cycle:
    """The cycle of fewest points that saves cost, the best of that length; length 0 if and only if none does.

    With `longest` = n (the default) length 0 proves the pairing optimal. Gains within rounding (n · 1e-14 of the
    largest of a single step) count as 0. Exact and slow: n³ sums a step, so at most 1,500 points; memory is O(n²).
    """
    x_array, t_array = as_pairing("shortest_gaining_cycle", p, x=x, t_of_x=t_of_x)
    if longest is not None:
        count("shortest_gaining_cycle", "longest", longest)
    gain = _step_gains("shortest_gaining_cycle", x_array, t_array, p)
    noise = 1e-14 * len(gain) * float(np.abs(gain).max())
    walk = gain
    for length in range(2, (len(gain) if longest is None else longest) + 1):
        walk = _extend(walk, gain)
        start = int(np.argmax(np.diagonal(walk)))
        if walk[start, start] > noise:
            members = _retrace(gain, start, length)
            return Cycle(length, cycle_gain(x_array, t_array, members, p=p), members)
    return Cycle(0, 0.0, ())


def _step_gains(caller: str, x: Matrix, t: Matrix, p: float) -> Float[np.ndarray, "n n"]:
    if len(x) > MOST_POINTS:
        raise ValueError(
            f"{caller} needs at most {MOST_POINTS} points, {len(x)} take too long: use fewer, or the cycle of ot_gap."
        )
    difference = np.zeros((len(x), len(x)))
    for k in range(x.shape[1]):  # as `saving` has it, for all pairs
        before, after = x[:, k] - t[:, k], x[:, k, None] - t[None, :, k]
        difference += (t[None, :, k] - t[:, k, None]) * (before[:, None] + after)
    if p == 2:
        return difference
    own = np.broadcast_to(paired_cost(x, t, 2.0)[:, None], difference.shape)
    return power_difference(own, cost_matrix(x, t, 2.0), difference, p)


def _extend(walk: Float[np.ndarray, "n n"], gain: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Best gains of walks one step longer: max over the point in between."""
    longer = np.full_like(walk, -np.inf)
    for between in range(len(gain)):
        np.maximum(longer, walk[:, between, None] + gain[between], out=longer)
    return longer


def _retrace(gain: Float[np.ndarray, "n n"], start: int, length: int) -> tuple[int, ...]:
    """The best closed walk of that length from a point: the best walks from there are made once more, and kept."""
    best = [gain[start]]
    for _ in range(length - 2):
        best.append((best[-1][:, None] + gain).max(0))
    members, end = [], start
    for row in reversed(best):
        end = int(np.argmax(row + gain[:, end]))
        members.append(end)
    return (start, *reversed(members))
