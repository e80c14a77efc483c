"""Adaptive integration of ODEs for an ensemble of independent runs, each with its own step size."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regimes.checks import count, function, given, kind, not_negative, shapes
from regimes.control.arithmetic import choose, finite_runs
from regimes.control.controller import Controller
from regimes.control.start import require_course, require_event, require_start, require_velocity
from regimes.control.state import IntegratorState
from regimes.control.stepper import Field, error, step
from regimes.control.tableau import BOGACKI_SHAMPINE, Tableau
from regimes.errors import RunFailed

State = tuple[Tensor, ...]
S = TypeVar("S", bound=State)
T = TypeVar("T")
Velocity = Callable[[S], S] | Callable[[Tensor, S], S]
Event = Callable[[S], Tensor]
Tolerance = float | Float[Tensor, " runs"]
Select = Callable[[Tensor], tuple[Velocity, Event | None]]

# Below this share of runs still under way the finished ones leave the working batch.
_COMPACT = 0.75


class Solution(NamedTuple, Generic[S]):
    """State of all runs at one requested time.

    time: the time each run has reached, less than requested only where the run has stopped;
    steps, rejected: attempts so far; stopped: the run met its event and is frozen;
    forced: the accepted steps among `steps` whose error was above the tolerance, as they could not be made smaller;
    course: all that the next step depends on, for `integrate(..., after=course)`.
    """

    time: Float[Tensor, " runs"]
    state: S
    steps: Int[Tensor, " runs"]
    rejected: Int[Tensor, " runs"]
    stopped: Bool[Tensor, " runs"]
    forced: Int[Tensor, " runs"]
    course: IntegratorState


def integrate(
    velocity: Velocity[S],
    state: S,
    times: Sequence[float | int] | Float[Tensor, " times"],
    *,
    rtol: Tolerance = 1e-6,
    atol: Tolerance = 1e-9,
    until: Event[S] | None = None,
    select: Select | None = None,
    smallest: float = 0.0,
    max_steps: int = 100_000,
    after: IntegratorState | None = None,
    tableau: Tableau = BOGACKI_SHAMPINE,
    timed: bool = False,
) -> Iterator[Solution[S]]:
    """Solve z' = velocity(z) from time 0; yield the solution at each of `times`, which are hit exactly.

    Every tensor of the state has a leading runs axis, and run r of the velocity depends on run r of the state only.
    timed: the velocity is velocity(t, z), t the times (runs) of the runs.
    Method: `tableau`, with an embedded solution; the default has orders 3(2). Each run has its own step, chosen so that
    in every tensor z of its state the error of the step is at most atol + rtol·|z|, |·| the root mean square over the
    entries of the run. So no run depends on its neighbours, and small entries need not be more accurate than large
    ones. Tolerances: one, or one a run.
    until: after each accepted step, runs where it is true stop and stay frozen.
    select: given the ascending indices of the runs still under way, returns velocity and event of those alone; with it
    finished runs cost nothing. Without it every evaluation is of the whole ensemble, and finished runs are masked.
    smallest: steps are not cut below it, and such steps are accepted and counted whatever their error. It is for
    velocities that jump: a run can slide along a jump, where error control alone takes steps of the size of the
    tolerance. With it the error of sliding is of first order in `smallest`; stability must allow that step.
    after: go on from the course of a solution yielded before, with the same velocity, tolerances and later times: the
    solutions are those of the integration that was not interrupted, bit for bit on a CPU. `state` gives the form only.
    Error: proportional to the tolerance on stable problems; measure it with `measured_error`.
    RuntimeError names a run that needs more than max_steps attempts, or whose steps shrink to nothing.
    Source: [BogackiShampine1989].
    """
    if isinstance(times, Tensor):
        shapes("integrate", times=(times, "times"))
    moments = _moments(times)
    given("integrate", velocity=velocity)
    function("integrate", velocity=velocity, until=until, select=select)
    if not moments or not 0 <= moments[0] <= moments[-1] < inf or not all(a < b for a, b in pairwise(moments)):
        raise ValueError(f"integrate needs finite, ascending times, the first at least 0; got {moments}. Sort them.")
    require_start(state, rtol, atol)
    not_negative("integrate", "smallest", smallest, single=True)
    count("integrate", "max_steps", max_steps)
    if after is not None:
        require_course(after, state)
    if after is not None and moments[0] < float(after.time.max()):
        reached = float(after.time.max())
        raise ValueError(
            f"integrate goes on after time {reached:.6g}; got {moments[0]:.6g} as next. Drop earlier times."
        )
    kind("integrate", "tableau", tableau, Tableau, "a Tableau such as BOGACKI_SHAMPINE")
    if tableau.b_hat is None or not tableau.explicit:
        raise ValueError(
            f"integrate needs an explicit tableau with an embedded solution b_hat; got {tableau.name}. "
            "Pass BOGACKI_SHAMPINE or DORMAND_PRINCE."
        )
    method = _Method(tableau, timed, smallest, max_steps)
    return _Integration(method, velocity, state, rtol, atol, until, select, after).run(moments)


def _moments(times: Any) -> list[float]:
    try:
        return [float(time + 0) for time in times]  # which no string passes
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"integrate needs times as a sequence of numbers; got {times!r}. Pass [1.0, 2.0].") from None


def measured_error(
    solve: Callable[[float, float], Iterator[T]],
    observe: Callable[[T], Float[Tensor, "runs *shape"]],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    coarser: float = 10.0,
) -> Iterator[tuple[T, Float[Tensor, " runs"]]]:
    """What solve(rtol, atol) yields, each with its measured global integration error in an observable.

    The error of a run is the largest |observable − observable of solve(coarser·rtol, coarser·atol)| over the entries.
    As the global error is proportional to the tolerance, this is close to the error of the coarser solution: an honest
    estimate for it, and `coarser` − 1 times too large, so on the safe side, for the solution that is returned.
    A run with an event stops at slightly different times in the two: the difference then includes that of the times.
    """
    given("measured_error", solve=solve, observe=observe)
    function("measured_error", solve=solve, observe=observe)
    if not (isinstance(coarser, int | float) and 1 < coarser < inf):
        raise ValueError(f"measured_error needs a coarser tolerance, a factor above 1; got {coarser}. Pass 10.")
    pairs = zip(solve(rtol, atol), solve(coarser * rtol, coarser * atol), strict=True)
    for fine, coarse in pairs:
        difference = (observe(fine) - observe(coarse)).abs()
        yield fine, difference.reshape(len(difference), -1).amax(1)


class _Method(NamedTuple):
    """How steps are taken, and which are too small or too many."""

    tableau: Tableau
    timed: bool
    smallest: float
    max_steps: int

    def field(self, velocity: Velocity[S], make: Callable[..., S]) -> Field:
        """The velocity as a function of time and of plain tuples."""
        if self.timed:
            return lambda time, parts: tuple(velocity(time, make(parts)))  # pyright: ignore
        return lambda time, parts: tuple(velocity(make(parts)))  # pyright: ignore


class _Integration(Generic[S]):
    def __init__(
        self,
        method: _Method,
        velocity: Velocity[S],
        state: S,
        rtol: Tolerance,
        atol: Tolerance,
        until: Event[S] | None,
        select: Select | None,
        after: IntegratorState | None,
    ) -> None:
        self.method, self.until, self.select = method, until, select
        self.make = getattr(type(state), "_make", type(state))  # named tuples stay what they are
        runs, device = len(state[0]), state[0].device
        self.runs = torch.arange(runs, device=device)
        self.field = method.field(velocity, self.make)
        low, least = (torch.as_tensor(each, dtype=torch.float64, device=device).expand(runs) for each in (rtol, atol))
        self.controller = Controller(low, least, method.tableau.order_hat + 1)
        if after is not None:
            self.all = after.clone()
            return
        zero = torch.zeros(runs, dtype=torch.float64, device=device)
        # as it is returned, so that what is no tuple is seen
        first = velocity(zero, state) if method.timed else velocity(state)  # pyright: ignore[reportCallIssue]
        require_velocity(first, state)
        parts, slopes = (tuple(part.clone() for part in each) for each in (state, first))
        stopped = torch.zeros(runs, dtype=torch.bool, device=device)
        if until is not None:
            stopped = require_event(until(state), runs).clone()
        none = torch.zeros_like(self.runs)
        self.all = IntegratorState(
            zero.clone(), zero.clone(), zero + 1, none, none.clone(), stopped, none.clone(), parts, slopes
        )
        self._refuse(~finite_runs(slopes), self.all, self.runs, "has a velocity that is not finite; check the start")
        self.all.step.copy_(self.controller.first(self.field, parts, slopes, self.runs).clamp_min(method.smallest))

    def run(self, moments: Sequence[float]) -> Iterator[Solution[S]]:
        for moment in moments:
            self._advance(moment)
            now = self.all
            state = self.make([part.clone() for part in now.parts])
            steps, rejected, stopped, forced = (
                field.clone() for field in (now.steps, now.rejected, now.stopped, now.forced)
            )
            yield Solution(now.time.clone(), state, steps, rejected, stopped, forced, now.clone())

    def _advance(self, moment: float) -> None:
        """Bring every run that has not stopped to the given time."""
        runs, batch, field, until = self.runs, self.all, self.field, self.until
        while True:
            under_way = ~batch.stopped & (batch.time < moment)
            count = int(under_way.sum())
            if count == len(runs) or (count and self.select is None) or count >= _COMPACT * len(runs) > 0:
                batch = self._step(batch, runs, under_way, moment, field, until)
                continue
            if runs is self.runs:
                self.all = batch
            else:
                self.all.put(runs, batch)
            if count == 0 or self.select is None:
                return
            runs = runs[under_way]
            batch = self.all.take(runs)
            velocity, until = self.select(runs)
            field = self.method.field(velocity, self.make)

    def _step(
        self,
        batch: IntegratorState,
        runs: Tensor,
        under_way: Tensor,
        moment: float,
        field: Field,
        until: Event[S] | None,
    ) -> IntegratorState:
        """One attempt of every run under way; the others stay as they are."""
        left = moment - batch.time
        # The last two steps before a requested time share what is left, so that none is tiny.
        size = torch.where(batch.step >= left, left, torch.where(2 * batch.step > left, left / 2, batch.step))
        size = torch.where(under_way, size, 0)
        tableau = self.method.tableau
        parts, slopes = step(field, tableau, batch.time, batch.parts, size, first=batch.slopes)
        final = slopes[-1] if tableau.first_is_last else field(batch.time + size, parts)
        wrong = self.controller.norm(error(tableau, size, slopes), (batch.parts, parts), runs)

        good = wrong <= 1
        forced = under_way & ~good & wrong.isfinite() & (size <= self.method.smallest)
        accepted = under_way & (good | forced)
        refused = under_way & ~accepted
        cut = size < batch.step
        relative = wrong.nan_to_num(nan=torch.inf).clamp_min(1e-10)
        wanted = self.controller.after_success(size, relative, batch.last)
        ahead = torch.where(accepted, torch.where(cut, torch.maximum(batch.step, wanted), wanted), batch.step)
        ahead = torch.where(refused, self.controller.after_refusal(size, relative), ahead)
        ahead = ahead.clamp_min(self.method.smallest)
        last = torch.where(accepted & ~cut, relative.clamp_min(1e-4), batch.last)
        # Arrival is exact: the requested time itself, not a sum of steps.
        time = torch.where(accepted, torch.where(size == left, moment, batch.time + size), batch.time)
        parts = tuple(choose(accepted, new, old) for new, old in zip(parts, batch.parts, strict=True))
        final = tuple(choose(accepted, new, old) for new, old in zip(final, batch.slopes, strict=True))
        stopped = batch.stopped if until is None else batch.stopped | (accepted & until(self.make(parts)))
        steps, rejected = batch.steps + accepted, batch.rejected + refused
        after = IntegratorState(time, ahead, last, steps, rejected, stopped, batch.forced + forced, parts, final)

        under_way = ~stopped & (time < moment)
        worn = under_way & (steps + rejected >= self.method.max_steps)
        advice = f"has used all {self.method.max_steps} steps; loosen rtol, shorten the time or raise max_steps"
        self._refuse(worn, after, runs, advice)
        stuck = under_way & (ahead <= 4 * torch.finfo(torch.float64).eps * time.clamp_min(1e-30))
        self._refuse(
            stuck, after, runs, "needs steps below rounding; the solution blows up or is not smooth: stop earlier"
        )
        return after

    def _refuse(self, failed: Tensor, batch: IntegratorState, runs: Tensor, reason: str) -> None:
        if bool(failed.any()):
            first = int(failed.nonzero()[0])
            raise RunFailed(f"integrate: run {int(runs[first])} at time {float(batch.time[first]):.6g} {reason}.")
