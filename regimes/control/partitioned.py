"""One step of a separable Hamiltonian system  q' = ∂T/∂p(t, p),  p' = −∂V/∂q(t, q),  H = T + V.

A pair of methods steps q by its first and p by its second; both see the times of the first, because in the extended
phase space time is a position: with its momentum p_t' = −∂H/∂t, K = H + p_t does not change along the equations, and a
symplectic pair is symplectic there too. A single method steps both halves. Source: [HairerLubichWanner2006] VI.3.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from regimes.control.arithmetic import combine
from regimes.control.stepper import Parts, Size, stages, step
from regimes.control.tableau import Pair, Tableau

Half = Callable[[Size, Tensor], Tensor]


class Stage(NamedTuple):
    """Where the velocities of a stage are taken."""

    time: Size
    q: Tensor
    p: Tensor


class Change(NamedTuple):
    """What a step adds to both halves, and its stages."""

    q: Tensor
    p: Tensor
    stages: list[Stage]


def change(
    velocity: Half,
    force: Half,
    method: Pair | Tableau,
    time: Size,
    q: Tensor,
    p: Tensor,
    size: Size,
    *,
    frozen: bool = False,
) -> Change:
    """The change of (q, p) by a step of q' = velocity(t, p), p' = force(t, q).

    frozen: neither depends on time within the step, so that none is asked twice in one place.
    ValueError: a pair that is implicit even for separable systems. RunFailed: an implicit method's step is too long.
    """
    if isinstance(method, Tableau):
        return _by_one(velocity, force, method, time, q, p, size)
    if method.sequence is None:
        raise ValueError(
            f"a step of a pair needs stages that follow from one another; those of {method.name} do not. Take one "
            "method for both halves, such as IMPLICIT_MIDPOINT, or STORMER_VERLET."
        )
    found: dict[tuple[int, int], Tensor] = {}
    places: dict[tuple[int, int], Tensor] = {}
    seen: dict[tuple[object, ...], tuple[int, int]] = {}
    halves = ((method.first, q, force), (method.second, p, velocity))  # where a velocity is taken, and which
    for half, stage in method.sequence:
        tableau, start, slope = halves[1 - half]
        row, share = tableau.a[stage], method.first.c[stage]
        same = seen.setdefault((half, row, None if frozen else share), (half, stage))
        if same in found:
            found[half, stage], places[half, stage] = found[same], places[same]
            continue
        known = [(found[1 - half, place],) for place, weight in enumerate(row) if weight]
        weights = [weight for weight in row if weight]
        place = combine((start,), size, known, weights)[0] if known else start
        places[half, stage], found[half, stage] = place, slope(time + share * size, place)
    numbers = range(method.first.stages)
    added = [
        combine(None, size, [(found[half, stage],) for stage in numbers], tableau.b)[0]
        for half, tableau in enumerate((method.first, method.second))
    ]
    made = [Stage(time + method.first.c[stage] * size, places[1, stage], places[0, stage]) for stage in numbers]
    return Change(added[0], added[1], made)


def change_back(
    velocity: Half,
    force: Half,
    method: Pair | Tableau,
    time: Size,
    q: Tensor,
    p: Tensor,
    size: Size,
    *,
    frozen: bool = False,
) -> Change:
    """The change that undoes the step which began at `time` and has ended in (q, p): exact, but for rounding.

    It is a step of −h by the adjoint method. Those of explicit symplectic pairs are explicit; that of an explicit
    single method is implicit, and is iterated.
    """
    return change(velocity, force, method.adjoint, time + size, q, p, -size, frozen=frozen)


def _by_one(velocity: Half, force: Half, tableau: Tableau, time: Size, q: Tensor, p: Tensor, size: Size) -> Change:
    def field(now: Size, parts: Parts) -> Parts:
        return velocity(now, parts[1]), force(now, parts[0])

    slopes = step(field, tableau, time, (q, p), size).slopes
    added = combine(None, size, slopes, tableau.b)
    places = zip(tableau.c, stages(tableau, (q, p), size, slopes), strict=True)
    return Change(added[0], added[1], [Stage(time + share * size, *parts) for share, parts in places])
