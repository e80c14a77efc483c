"""Searches for the point where F'[μ] is most negative, for certificates: some prove that there is none lower.

A search is a function of a `Field`. `candidates` and `multistart` find low points and prove nothing; `boxes` bounds
min F' over a box from below, given a bound on how fast F' or its slope changes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, count, finite, function, kind, not_negative, positive, real, shapes
from regimes.meanfield.forces import Functional, slopes_of
from regimes.meanfield.measures import Measure
from regimes.meanfield.positions import (
    Position,
    each,
    leaves,
    points_of,
    rebuild,
    require_position,
    spread,
    square_norms,
)

_BLOCK = 8192  # points at which F' is asked together


class Found(NamedTuple):
    """The lowest point found (runs, 1, *feature), F' there, and a bound of min F' from below; None: nothing proved."""

    position: Any
    value: Float[Tensor, " runs"]
    bound: Float[Tensor, " runs"] | None = None


class Field:
    """θ ↦ F'[μ](θ) of a measure; sign −1: along mass that is taken away, for signed measures."""

    def __init__(self, functional: Functional, measure: Measure, *, sign: float = 1.0) -> None:
        self.functional, self.measure, self.sign = functional, measure, sign
        self._options: dict[str, Any] = {} if sign == 1 else {"sign": sign}
        fixed = getattr(functional, "fixed", None)
        self._at: Callable[..., Tensor] = partial(functional.variation, measure) if fixed is None else fixed(measure)

    def __call__(self, at: Position) -> Float[Tensor, "runs points"]:
        """F' at points (runs, points, *feature), a block at a time."""
        blocks = []
        for first in range(0, points_of(at)[1], _BLOCK):
            some = each(lambda part, first=first: part[:, first : first + _BLOCK], at)
            blocks.append(self._variation(some))
        return torch.cat(blocks, 1)

    def with_slopes(self, at: Position) -> tuple[Float[Tensor, "runs points"], Any]:
        """F' and ∇F' at points."""
        known = getattr(self.functional, "forces_at", None)
        if known is not None:
            return known(self.measure, at, **self._options)
        parts = [part.detach().requires_grad_() for part in leaves(at)]
        with torch.enable_grad():
            values = self._variation(rebuild(at, parts))
            total = values.sum()
        if not values.requires_grad:
            raise ValueError(
                "a search by slopes needs a variation that torch can differentiate in `at`, or a method "
                "forces_at(measure, at); got neither. Search among candidates."
            )
        return values.detach(), slopes_of(total, parts, at)

    def _variation(self, at: Position) -> Tensor:
        try:
            return self._at(at, **self._options)
        except TypeError as error:
            if "sign" in str(error):
                raise ValueError(
                    "certify needs a functional whose variation takes sign= where measures are signed; "
                    f"{type(self.functional).__name__} does not. Leave signed out."
                ) from None
            raise


Search = Callable[[Field], Found]


def candidates(position: Position) -> Search:
    """The given points, for one run or for each, and the particles of the measure. Proves nothing."""
    require_position("candidates", "position", position)

    def search(field: Field) -> Found:
        points = _with_own("candidates", position, field)
        with torch.no_grad():
            return _best(points, field(points))

    return search


def multistart(position: Position, *, iterations: int = 200, step: float = 0.1, sphere: bool = False) -> Search:
    """Descent of F' from the given points and from the particles of the measure. Proves nothing, however many.

    Each point has a step of its own: it moves that far along −∇F', further next time after a descent, half as far
    after none. sphere: points are kept on the unit sphere of all their entries together, where 2-homogeneous features
    are compared. step: the first one, in the units of the positions.
    """
    require_position("multistart", "position", position)
    count("multistart", "iterations", iterations, at_least=0)
    positive("multistart", "step", step, single=True)
    kind("multistart", "sphere", sphere, bool, "True or False")

    def search(field: Field) -> Found:
        points = _with_own("multistart", position, field)
        points = _on_sphere(points) if sphere else points
        values, slopes = field.with_slopes(points)
        sizes = torch.full_like(values, step)
        for _ in range(iterations):
            lengths = square_norms(slopes).sqrt()
            factor = sizes / lengths.masked_fill(lengths == 0, 1)
            tried = each(lambda part, slope, factor=factor: part - _wide(factor, part) * slope, points, slopes)
            tried = _on_sphere(tried) if sphere else tried
            found, ahead = field.with_slopes(tried)
            better = found < values
            points, slopes = (
                each(lambda new, old, better=better: torch.where(_wide(better, new), new, old), *pair)
                for pair in ((tried, points), (ahead, slopes))
            )
            values = torch.where(better, found, values)
            sizes = torch.where(better, 1.5 * sizes, sizes / 2)
        return _best(points, values)

    return search


def boxes(
    low: Float[Tensor, " d"],
    high: Float[Tensor, " d"],
    *,
    lipschitz: float | Callable[[Field], Tensor] | None = None,
    curvature: float | Callable[[Field], Tensor] | None = None,
    tolerance: float = 1e-10,
    cells: int = 8,
    most: int = 100_000,
) -> Search:
    """Branch and bound over the box low ≤ θ ≤ high, for positions (runs, m, d): proves min F' up to `tolerance`.

    lipschitz: a bound of |∇F'|, or curvature: a bound of |∇²F'| (spectral norm); a number, or a function of the Field
    that gives one a run. In a cell of centre c, half sides h and radius |h|, F' is at least F'(c) − lipschitz·|h|, or
    F'(c) − Σ|∂_i F'(c)|h_i − ½ curvature·|h|². Cells that may be lower than the best point by more than the tolerance
    are cut in 2^d. It begins with `cells` a side, and ends where more than `most` cells would be left: then the bound
    is what those cells have. Particles outside of the box are no part of the comparison.
    """
    shapes("boxes", low=(low, "d"), high=(high, "d"), cure="Corners are (d,): torch.tensor([-1.0])")
    real("boxes", low=low, high=high)
    alike("boxes", low=low, high=high)
    finite("boxes", low=low, high=high)
    if not bool((low < high).all()):
        raise ValueError(f"boxes needs corners low < high; got {low.tolist()} and {high.tolist()}. Exchange them.")
    box = torch.stack([low, high])
    if (lipschitz is None) == (curvature is None):
        raise ValueError("boxes needs lipschitz or curvature, one of them, to prove a bound. Pass curvature=.")
    speed = curvature if lipschitz is None else lipschitz
    if callable(speed):
        function("boxes", speed=speed)
    else:
        not_negative("boxes", "lipschitz or curvature", speed, single=True)
    positive("boxes", "tolerance", tolerance, single=True)
    cells, most = count("boxes", "cells", cells), count("boxes", "most", most)
    if cells ** len(low) > most:
        raise ValueError(
            f"boxes needs at most {most} cells to begin with; got {cells}**{len(low)}. Pass fewer, or a larger most."
        )
    return lambda field: _branch(field, box, speed, lipschitz is None, tolerance, cells, most)


def _branch(field: Field, box: Tensor, speed: Any, second: bool, tolerance: float, cells: int, most: int) -> Found:
    own = field.measure.position
    d = box.shape[1]
    if not isinstance(own, Tensor) or own.ndim != 3 or own.shape[2] != d:
        raise ValueError(f"boxes needs positions as one tensor (runs, m, {d}), as its corners; got others.")
    box = box.to(own)
    runs = field.measure.runs
    fastest = _speed(speed(field) if callable(speed) else speed, own)[:, None]
    half = (box[1] - box[0]) / (2 * cells)
    ticks = [box[0, i] + half[i] * (2 * torch.arange(cells).to(own) + 1) for i in range(d)]
    centres = torch.cartesian_prod(*ticks).reshape(-1, d)
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5]).to(own)] * d).reshape(-1, d)
    best = Found(own[:, :1], torch.full((runs,), torch.inf).to(own))
    bound = torch.full_like(best.value, torch.inf)
    known: Tensor | None = None  # what the cells before their cut are not below
    while True:
        at = spread(centres[None], runs)
        radius = half.norm()
        with torch.no_grad():
            values, slopes = _in_blocks(field, at) if second else (field(at), None)
        if known is not None:
            _require_above(values, known)
        if slopes is None:
            lowest = values - fastest * radius
        else:
            lowest = values - (slopes.abs() * half).sum(2) - fastest * radius.square() / 2
        found = _best(at, values)
        better = found.value < best.value
        position = torch.where(better[:, None, None], found.position, best.position)
        best = Found(position, torch.where(better, found.value, best.value))
        left = (lowest < best.value[:, None] - tolerance).any(0)
        # What is left out now is known: it is not lower than this.
        if not bool(left.all()):
            bound = torch.minimum(bound, lowest[:, ~left].amin(1))
        if not bool(left.any()):
            return best._replace(bound=bound)
        if int(left.sum()) * 2**d > most:
            return best._replace(bound=torch.minimum(bound, lowest[:, left].amin(1)))
        known = lowest[:, left].repeat_interleave(2**d, 1)
        centres = (centres[left][:, None] + corners * half).flatten(0, 1)
        half = half / 2


def _speed(given: Any, own: Tensor) -> Float[Tensor, " runs"]:
    """The bound of each run."""
    not_negative("boxes", "lipschitz or curvature", given)
    fastest = torch.as_tensor(given, dtype=own.dtype, device=own.device).detach()
    if tuple(fastest.shape) not in ((), (len(own),)):
        raise ValueError(
            f"boxes needs lipschitz or curvature as one number, or one for each of the {len(own)} runs; "
            f"got shape {tuple(fastest.shape)}. Reduce over the other axes."
        )
    return fastest.expand(len(own))


def _require_above(values: Tensor, known: Tensor) -> None:
    """Refuse a bound of the slope that F' is seen to break."""
    allowed = torch.finfo(values.dtype).eps ** 0.75 * (values.abs() + known.abs())
    if bool((values < known - allowed).any()):
        raise ValueError(
            "boxes needs a bound on how fast F' or its slope changes that is true; F' is lower in a part of a cell "
            "than this one allows. Nothing would be proved: pass a larger lipschitz or curvature."
        )


def _in_blocks(field: Field, at: Tensor) -> tuple[Tensor, Tensor]:
    pairs = [field.with_slopes(block) for block in at.split(_BLOCK, 1)]
    values, slopes = zip(*pairs, strict=True)
    return torch.cat(values, 1), torch.cat(slopes, 1)


def _with_own(caller: str, position: Position, field: Field) -> Any:
    """The points for every run, and the particles of the measure."""
    own, runs = field.measure.position, field.measure.runs
    if points_of(position)[0] == 1:
        position = spread(position, runs)
    require_position(caller, "position", position, like=own, runs=runs)
    return each(lambda mine, other: torch.cat([mine.detach(), other.detach()], 1), own, position)


def _best(points: Position, values: Tensor) -> Found:
    lowest = values.argmin(1)
    rows = torch.arange(len(values), device=values.device)
    return Found(each(lambda part: part[rows, lowest][:, None], points), values[rows, lowest])


def _on_sphere(points: Position) -> Any:
    lengths = square_norms(points).sqrt()
    return each(lambda part: part / _wide(lengths.masked_fill(lengths == 0, 1), part), points)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(*values.shape, *[1] * (like.ndim - 2))
