"""How an ensemble is led along a velocity: in continuous time by the adaptive integrator, or by fixed steps.

Flows of weights, of their displacements and of measures are cases: each says what its state is, and gives the value
that it descends together with the velocity.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from regimes.checks import count
from regimes.control.adaptive import Solution, Tolerance, integrate
from regimes.control.state import IntegratorState

S = TypeVar("S", bound=tuple[Tensor, ...])
Pull = Callable[[S], tuple[Tensor, S]]  # value (runs) and velocity of a state


class Descent(Generic[S]):
    """Velocity of one set of runs, and the event that its value is at or below a threshold."""

    def __init__(self, pull: Pull[S], threshold: Tensor | None) -> None:
        self.pull = pull
        # The last velocity of a step is the one at its end, so the value there is already known.
        self.event = None if threshold is None else (lambda _: self.latest <= threshold)

    def velocity(self, state: S) -> S:
        self.latest, slopes = self.pull(state)
        return slopes


def follow(
    pull: Pull[S],
    state: S,
    times: Sequence[float | int] | Tensor,
    *,
    part: Callable[[Tensor], Pull[S]] | None,
    threshold: Tensor | None = None,
    until: Callable[[S], Tensor] | None = None,
    rtol: Tolerance,
    atol: Tolerance,
    smallest: float,
    max_steps: int,
    after: IntegratorState | None = None,
) -> Iterator[Solution[S]]:
    """Integrate the velocity; a run stops where its value is at or below its threshold, or at `until`.

    part: given the indices of some runs, their value and velocity alone, so that finished runs leave the batch; with
    `until`, which is asked of all runs, and without `part` they stay in it, masked.
    """
    whole = Descent(pull, threshold)

    def select(chosen: Tensor) -> tuple[Callable[[S], S], Callable[[S], Tensor] | None]:
        assert part is not None
        some = Descent(part(chosen), None if threshold is None else threshold[chosen])
        return some.velocity, some.event

    return integrate(
        whole.velocity,
        state,
        times,
        rtol=rtol,
        atol=atol,
        until=until or whole.event,
        select=None if until or part is None else select,
        smallest=smallest,
        max_steps=max_steps,
        after=after,
    )


def march(
    change: Callable[[int, Any], Sequence[Tensor]],
    state: Any,
    factors: Sequence[Tensor],
    iterations: int,
    record: set[int],
    *,
    shake: Callable[[Any], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """So many steps state ← state + factor·change(iteration, state), in place on `state`; yields it where recorded.

    change is called with 1, 2, ...; iteration 0 is the start. shake: what is done to the state after each step. What
    is yielded changes with the next step.
    """
    if 0 in record:
        yield 0, state
    for iteration in range(1, iterations + 1):
        slopes = change(iteration, state)
        with torch.no_grad():  # not around the yield, where it would reach the caller
            for part, slope, factor in zip(state, slopes, factors, strict=True):
                part.addcmul_(slope, factor)
            if shake is not None:
                shake(state)
        if iteration in record:
            yield iteration, state


def pair_of(caller: str, batch: Any, names: str) -> tuple[Any, Any]:
    """What batches returned, if it is a pair."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        got = f"{len(batch)} of them" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(f"{caller} needs batches to return a pair ({names}) at each iteration; got {got}.")
    return batch[0], batch[1]


def recorded(caller: str, record: Any, iterations: Any) -> set[int]:
    """The iterations to record, from 0 to the last; all else is refused."""
    last = count(caller, "iterations", iterations, at_least=0)
    try:
        wanted = {count(caller, "every iteration to record", iteration, at_least=0) for iteration in record}
    except TypeError:
        raise ValueError(f"{caller} needs record as iterations, such as [0, 10]; got {record!r}.") from None
    if wanted and max(wanted) > last:
        raise ValueError(
            f"{caller} needs records between 0 and iterations; got {sorted(wanted)} and {iterations}. Change one."
        )
    return wanted
