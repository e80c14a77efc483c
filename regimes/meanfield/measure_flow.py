"""Flows of measures: any functional, any of the velocities; in continuous time, or by fixed steps with noise or SGD."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regimes import checks
from regimes.checks import function, not_negative, positive
from regimes.control.adaptive import Tolerance
from regimes.control.state import IntegratorState
from regimes.errors import RunFailed
from regimes.meanfield.course import Pull, follow, march, recorded
from regimes.meanfield.forces import Functional
from regimes.meanfield.measures import Measure, require_measure
from regimes.meanfield.positions import leaves
from regimes.meanfield.velocities import Coordinates, State, Velocity, require_velocity, wasserstein


class MeasureMoment(NamedTuple):
    """The measure at one requested time, and F there.

    time: the time each run has reached, less than requested only where the run has stopped;
    steps, rejected: attempts so far; stopped: the run met its stopping rule and is frozen; forced: steps at `smallest`
    whose error was above the tolerance; course: for `measure_flow(..., after=course)`.
    """

    time: Float[Tensor, " runs"]
    measure: Measure
    value: Float[Tensor, " runs"]
    steps: Int[Tensor, " runs"]
    rejected: Int[Tensor, " runs"]
    stopped: Bool[Tensor, " runs"]
    forced: Int[Tensor, " runs"]
    course: IntegratorState


def measure_flow(
    functional: Functional,
    measure: Measure,
    times: Sequence[float | int] | Float[Tensor, " times"],
    velocity: Velocity | None = None,
    *,
    rtol: Tolerance = 1e-6,
    atol: Tolerance = 1e-9,
    value_below: float | Float[Tensor, " runs"] | None = None,
    until: Callable[[Measure], Tensor] | None = None,
    smallest: float = 0.0,
    max_steps: int = 100_000,
    after: IntegratorState | None = None,
) -> Iterator[MeasureMoment]:
    """The gradient flow of F from a measure, adaptive, with one step size a run; a MeasureMoment at each of `times`.

    velocity: `wasserstein()` unless given. value_below: a run stops at the first step with F at or below it. until: any
    other event, asked of the measures of all runs. rtol, atol: of the positions and of the coordinate of mass, in root
    mean square over the particles. smallest: for features whose slope jumps. after: go on from the course of a moment
    yielded before, with the same start. Errors: see control.adaptive.integrate.
    """
    caller = "measure_flow"
    velocity = wasserstein() if velocity is None else velocity
    require_velocity(caller, velocity)
    require_functional(caller, functional)
    require_measure(caller, measure)
    function(caller, until=until)
    if until is not None and value_below is not None:
        raise ValueError(f"{caller} needs at most one stopping rule; got until and value_below. Pass one of them.")
    threshold = None if value_below is None else _by_run(caller, "value_below", value_below, measure)
    start = measure.detach()
    coordinates = Coordinates(velocity, start)

    def part(runs: Tensor) -> Pull[State]:
        some = functional.select(runs, of=start.runs)
        assert some is not None
        return _pull(some, coordinates.select(runs))

    first = torch.zeros(1, dtype=torch.int64, device=measure.mass.device)
    solutions = follow(
        _pull(functional, coordinates),
        coordinates.state(),
        times,
        part=None if functional.select(first, of=start.runs) is None else part,
        threshold=threshold,
        until=None if until is None else (lambda state: until(coordinates.measure(state))),
        rtol=rtol,
        atol=atol,
        smallest=smallest,
        max_steps=max_steps,
        after=after,
    )
    for at in solutions:
        now = coordinates.measure(at.state).clone()  # what is yielded is the user's to write into
        value = functional.value(now)
        yield MeasureMoment(at.time, now, value, at.steps, at.rejected, at.stopped, at.forced, at.course)


def measure_steps(
    functional: Functional | Callable[[int], Functional],
    measure: Measure,
    velocity: Velocity | None = None,
    *,
    step: float | Float[Tensor, " runs"],
    iterations: int,
    record: Collection[int],
    temperature: float | Float[Tensor, " runs"] = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[int, Measure]]:
    """Fixed steps of the flow, explicit in positions and in the coordinate of mass; yields (iteration, measure).

    It yields where recorded; iteration 0 is the start. step: one number, or one a run, in units of flow time.
    functional: F, or a function that is called with 1, 2, ... and gives that of the iteration: stochastic gradient
    descent on fresh batches.
    temperature: T > 0 adds noise √(2·step·transport·T) N(0, I) to the positions, from the generator, where they move:
    Langevin steps, the flow of F + T·entropy of equal masses. Their stationary law is exp(−F'/T) up to O(step).
    """
    caller = "measure_steps"
    velocity = wasserstein() if velocity is None else velocity
    require_velocity(caller, velocity)
    require_measure(caller, measure)
    wanted = recorded(caller, record, iterations)
    size = _by_run(caller, "step", step, measure)
    positive(caller, "step", step)
    heat = _by_run(caller, "temperature", temperature, measure)
    not_negative(caller, "temperature", temperature)
    noisy = bool((heat > 0).any())
    if noisy:
        source = checks.generator(caller, generator)
        if source.device.type != measure.mass.device.type:
            raise ValueError(
                f"{caller} needs a generator on {measure.mass.device}, as the measure; got {source.device}. "
                "Use torch.Generator(device)."
            )
        if not velocity.transport:
            raise ValueError(f"{caller} needs a velocity that moves positions where there is noise; got {velocity}.")
    fixed = functional if isinstance(functional, Functional) else None
    if fixed is None:
        function(caller, functional=functional)
    else:
        require_functional(caller, fixed)
    coordinates = Coordinates(velocity, measure.detach())

    def change(iteration: int, state: State) -> State:
        now = fixed  # looked at once: that takes as long as a small step
        if now is None:
            now = functional(iteration)  # type: ignore[operator]
            require_functional(caller, now)
        return coordinates.value_and_velocity(now, state)[1]

    deviation = (2 * size * velocity.transport * heat).sqrt()

    def shake(state: State) -> None:
        for part in state[: coordinates.moving]:
            noise = torch.randn(part.shape, generator=generator, dtype=torch.float64, device=part.device).to(part)
            part.addcmul_(noise, _column(deviation, part))

    state = coordinates.state()
    factors = [_column(size, part) for part in state]
    for iteration, now in march(change, state, factors, iterations, wanted, shake=shake if noisy else None):
        at = coordinates.measure(now).clone()
        _require_finite(caller, at, iteration)
        yield iteration, at


def require_functional(caller: str, functional: Any) -> None:
    """Refuse what has not the methods of a Functional."""
    if isinstance(functional, type) or not isinstance(functional, Functional):
        raise ValueError(
            f"{caller} needs a functional with value, variation, value_and_forces and select; got {functional!r}. "
            "Use FeatureRisk, or general for a function of a Measure."
        )


def _require_finite(caller: str, measure: Measure, iteration: int) -> None:
    parts = [*leaves(measure.position), measure.mass]
    bad = torch.stack([~part.isfinite().flatten(1).all(1) for part in parts]).any(0)
    if bool(bad.any()):
        run = int(bad.nonzero()[0])
        raise RunFailed(f"{caller}: run {run} is not finite at iteration {iteration}; the step is too large for it.")


def _pull(functional: Functional, coordinates: Coordinates) -> Pull[State]:
    return lambda state: coordinates.value_and_velocity(functional, state)


def _by_run(caller: str, name: str, value: Any, measure: Measure) -> Float[Tensor, " runs"]:
    try:
        numbers = torch.as_tensor(value, dtype=measure.mass.dtype, device=measure.mass.device)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.full((), math.nan)
    if tuple(numbers.shape) not in ((), (measure.runs,)) or bool(numbers.isnan().any()):
        raise ValueError(
            f"{caller} needs {name} as one number, or one for each of the {measure.runs} runs; got {value!r}. "
            f"Change {name}."
        )
    return numbers.expand(measure.runs)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
