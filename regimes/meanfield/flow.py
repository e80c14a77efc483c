"""Training a two-layer ensemble: the particle gradient flow in continuous time, and plain gradient descent."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regimes.checks import finite, function, given, kind, not_negative, positive
from regimes.meanfield.course import Pull, follow, march, pair_of, recorded
from regimes.meanfield.particles import Particles, require_particles, without_graph
from regimes.meanfield.two_layer import TwoLayerRisk


@runtime_checkable
class Risk(Protocol):
    """What a flow needs of a risk: value and gradient of all runs, and the risk of some of the runs."""

    alpha: float | Tensor

    def risk_and_gradient(self, particles: Particles, out: Particles | None = None) -> tuple[Tensor, Particles]: ...

    def select(self, runs: Tensor, *, of: int) -> "Risk": ...


@runtime_checkable
class Gradient(Protocol):
    """What descent needs: the plain gradient, which may be written to `out`."""

    def gradient(self, particles: Particles, out: Particles | None = None) -> Particles: ...


class Moment(NamedTuple):
    """The particles at one requested time.

    time: the time each run has reached, less than requested only where the run has stopped;
    steps, rejected: attempts so far; stopped: the run met its stopping rule and is frozen; forced: steps at `smallest`
    whose error was above the tolerance.
    """

    time: Float[Tensor, " runs"]
    particles: Particles
    steps: Int[Tensor, " runs"]
    rejected: Int[Tensor, " runs"]
    stopped: Bool[Tensor, " runs"]
    forced: Int[Tensor, " runs"]


def gradient_flow(
    risk: Risk,
    particles: Particles,
    times: Sequence[float | int] | Float[Tensor, " times"],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    until: Callable[[Particles], Tensor] | None = None,
    risk_below: float | Float[Tensor, " runs"] | None = None,
    smallest: float = 0.0,
    max_steps: int = 100_000,
) -> Iterator[Moment]:
    """Particle flow w' = −m ∇F_α(w), adaptive, with one step size a run; a Moment at each of `times`.

    risk_below: a run stops at the first step with R(f) at or below it; this costs nothing, and finished runs leave the
    batch. until: any other event, asked of the particles of all runs; then finished runs stay in the batch, masked.
    rtol, atol: the error of a step in α a and α b, in root mean square over the neurons, is at most atol + rtol·|a| and
    atol + rtol·|b| (at α < 1 without the factor α): the outputs αh are then as accurate for large α as for small.
    smallest: for ReLU, whose velocity jumps where a neuron crosses a sample, and slides where it is held there: without
    a smallest step a sliding run needs about 1/rtol steps a unit of time; 0.1 is a good one for weights of order 1.
    Errors: see control.adaptive.integrate; measure them with control.adaptive.measured_error.
    """
    if until is not None and risk_below is not None:
        raise ValueError("gradient_flow needs at most one stopping rule; got until and risk_below. Pass one of them.")
    require_particles("gradient_flow", particles)
    if not isinstance(risk, Risk):
        raise ValueError(f"gradient_flow needs a risk such as TwoLayerRisk; got {type(risk).__name__}.")
    for name, tolerance in {"rtol": rtol, "atol": atol}.items():
        require_by_run("gradient_flow", name, tolerance, particles.runs)
    not_negative("gradient_flow", "rtol", rtol)
    positive("gradient_flow", "atol", atol)
    if risk_below is not None:
        require_by_run("gradient_flow", "risk_below", risk_below, particles.runs)
        not_negative("gradient_flow", "risk_below", risk_below)
    particles = without_graph(particles)
    runs, device = particles.runs, particles.output.device
    alpha = torch.as_tensor(risk.alpha, dtype=torch.float64, device=device).flatten()
    if len(alpha) not in (1, runs):
        raise ValueError(
            f"gradient_flow needs one alpha, or one a run; got {len(alpha)} for {runs} runs. Change alpha."
        )
    threshold = None if risk_below is None else by_run(risk_below, particles)
    finer = alpha.clamp_min(1).expand(runs)

    solutions = follow(
        _pull(risk),
        particles,
        times,
        part=lambda chosen: _pull(risk.select(chosen, of=runs)),
        threshold=threshold,
        until=until,
        rtol=rtol / finer,
        atol=atol / finer,
        smallest=smallest,
        max_steps=max_steps,
    )
    for time, state, *counts, _ in solutions:
        yield Moment(time, state, *counts)


def require_by_run(caller: str, name: str, value: object, runs: int) -> None:
    """Refuse a tensor that is not one number, or one for each run."""
    if isinstance(value, np.ndarray):
        raise ValueError(f"{caller} needs {name} as a number or a tensor; got an array. Use torch.as_tensor.")
    if isinstance(value, Tensor) and tuple(value.shape) not in ((), (runs,)):
        raise ValueError(
            f"{caller} needs {name} as one number or one for each of the {runs} runs; got shape {tuple(value.shape)}."
        )


def by_run(value: float | Tensor, particles: Particles) -> Float[Tensor, " runs"]:
    """One number for each run; of one for all in the precision of the particles."""
    if not isinstance(value, Tensor):
        value = torch.tensor(value, dtype=particles.output.dtype)
    return value.to(particles.output.device).expand(particles.runs)


def _pull(risk: Risk) -> Pull[Particles]:
    """Risk and velocity of one set of runs: −∇F'[μ] of equal masses 1/m, which is −m ∇F_α."""

    def pull(particles: Particles) -> tuple[Tensor, Particles]:
        value, gradient = risk.risk_and_gradient(particles)
        return value.detach(), Particles(*(weights.detach().mul_(-particles.width) for weights in gradient))

    return pull


def descend(
    risk: Gradient | Callable[[Particles], Particles],
    particles: Particles,
    *,
    step: float | Float[Tensor, " runs"] | tuple[float | Tensor, float | Tensor],
    iterations: int,
    record: Collection[int],
    batches: Callable[[int], tuple[Tensor, Tensor]] | None = None,
) -> Iterator[tuple[int, Particles]]:
    """Gradient descent w ← w − step·∇F_α(w) in place; yields (iteration, copy of the particles) where recorded.

    Iteration 0 is the start. step: one number, one a run, or a pair of those for output and input weights. It
    multiplies the plain gradient, so step = η m is an explicit Euler step η of the particle flow.
    risk: anything with a gradient, or a function from particles to one. batches: called with 1, 2, ..., gives inputs
    and targets of that iteration (stochastic gradient descent, on fresh or resampled data), for a TwoLayerRisk.
    """
    require_particles("descend", particles)
    finite("descend", **particles._asdict())
    wanted = recorded("descend", record, iterations)
    given("descend", risk=risk)
    if not isinstance(risk, Gradient):
        function("descend", risk=risk)
    function("descend", batches=batches)
    pair = step if isinstance(step, tuple) else (step, step)
    if len(pair) != 2:
        raise ValueError(f"descend needs step as one or as a pair, of both layers; got {len(pair)}. Pass (0.1, 0.1).")
    for each in pair:
        require_by_run("descend", "step", each, particles.runs)
        not_negative("descend", "step", each)  # 0: this layer stays
    factors = [
        -torch.as_tensor(each, dtype=weights.dtype, device=weights.device).reshape(-1, 1, 1)
        for each, weights in zip(pair, particles, strict=True)
    ]
    particles = without_graph(particles).clone()
    shape = [part.shape for part in particles]
    gradient_at = _gradients(risk, Particles(*map(torch.empty_like, particles)), batches)

    def change(iteration: int, now: Particles) -> Particles:
        gradient = gradient_at(iteration, now)
        kind("descend", "the gradient", gradient, tuple, "Particles")
        if [getattr(part, "shape", None) for part in gradient] != shape:
            got = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in gradient]
            raise ValueError(
                f"descend needs a gradient of the shapes of the particles, {list(map(tuple, shape))}; got {got}."
            )
        return gradient

    for iteration, now in march(change, particles, factors, iterations, wanted):
        yield iteration, now.clone()


def _gradients(
    risk: Gradient | Callable[[Particles], Particles],
    memory: Particles,
    batches: Callable[[int], tuple[Tensor, Tensor]] | None,
) -> Callable[[int, Particles], Particles]:
    """The gradient as a function of the iteration and the particles."""
    if batches is None:
        if isinstance(risk, Gradient):
            return lambda _, particles: risk.gradient(particles, memory)
        return lambda _, particles: risk(particles)
    if isinstance(risk, TwoLayerRisk):
        return lambda i, particles: risk.replace(*pair_of("descend", batches(i), "x, y")).gradient(particles, memory)
    raise ValueError(f"descend needs a TwoLayerRisk to put batches into; got {type(risk).__name__}. Leave batches out.")
