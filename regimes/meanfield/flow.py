"""Training a two-layer ensemble: the particle gradient flow in continuous time, and plain gradient descent."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.adaptive import Event, Solution, integrate
from regimes.meanfield.particles import Particles
from regimes.meanfield.two_layer import TwoLayerRisk


class Risk(Protocol):
    """What a flow needs of a risk: value and gradient of all runs, and the risk of a part of the runs."""

    def risk_and_gradient(self, particles: Particles, out: Particles | None = None) -> tuple[Tensor, Particles]: ...

    def select(self, runs: Tensor, *, of: int) -> "Risk": ...


def gradient_flow(
    risk: Risk,
    particles: Particles,
    times: Sequence[float] | Float[Tensor, " times"],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    until: Callable[[Particles], Tensor] | None = None,
    risk_below: float | Float[Tensor, " runs"] | None = None,
    max_steps: int = 100_000,
) -> Iterator[Solution[Particles]]:
    """Particle flow w' = −m ∇F_α(w), adaptive and with one step size a run; a Solution at each of `times`.

    risk_below: a run stops at the first step with R(f) at or below it; this costs nothing, and finished runs leave the
    batch. until: any other event on the particles of all runs; then finished runs stay in the batch, masked.
    The flow stops by no more than one of the two. Errors: see control.adaptive.integrate and measured_error.
    """
    if until is not None and risk_below is not None:
        raise ValueError("gradient_flow needs one stopping rule; got both until and risk_below. Pass one of them.")
    runs, device = particles.runs, particles.output.device
    threshold = None if risk_below is None else torch.as_tensor(risk_below, device=device).expand(runs)

    def system(chosen: Tensor | None) -> tuple[Callable[[Particles], Particles], Event | None]:
        part = risk if chosen is None else risk.select(chosen, of=runs)
        level = threshold if chosen is None or threshold is None else threshold[chosen]
        latest: list[Tensor] = []

        def velocity(state: Particles) -> Particles:
            latest[:], gradient = _single(part.risk_and_gradient(state))
            return Particles(*(weights.mul_(-state.width) for weights in gradient))

        # The last velocity of a step is that at its end, so the risk there is already known.
        event = None if level is None else (lambda _: latest[0] <= level)
        return velocity, event

    velocity, event = system(None)
    yield from integrate(
        velocity,
        particles,
        times,
        rtol=rtol,
        atol=atol,
        until=until or event,
        select=None if until else system,
        max_steps=max_steps,
    )


def _single(pair: tuple[Tensor, Particles]) -> tuple[list[Tensor], Particles]:
    return [pair[0]], pair[1]


def descend(
    risk: TwoLayerRisk | Risk | Callable[[Particles], Particles],
    particles: Particles,
    *,
    step: float | Float[Tensor, " runs"] | tuple[float | Tensor, float | Tensor],
    iterations: int,
    record: Collection[int],
    batches: Callable[[int], tuple[Tensor, Tensor]] | None = None,
) -> Iterator[tuple[int, Particles]]:
    """Gradient descent w ← w − step·∇F_α(w), memory-lean; yields (iteration, copy of the particles) where recorded.

    Iteration 0 is the start. step: one number, one a run, or a pair of those for output and input weights; it multiplies
    the plain gradient, so step = η m is an explicit Euler step η of the particle flow. risk: a risk, or any function from
    particles to a gradient. batches: called with 1, 2, ... gives the inputs and targets of that iteration (stochastic
    gradient descent on fresh or resampled data); the risk then needs `replace`.
    """
    if iterations < 0:
        raise ValueError(f"descend needs iterations >= 0; got {iterations}.")
    wanted = set(record)
    if wanted and not (min(wanted) >= 0 and max(wanted) <= iterations):
        raise ValueError(
            f"descend records iterations 0 to {iterations}; got {min(wanted)} to {max(wanted)}. Change record or iterations."
        )
    if batches is not None and not isinstance(risk, TwoLayerRisk):
        raise ValueError(f"descend needs a TwoLayerRisk to draw batches for; got {type(risk).__name__}.")
    pair = step if isinstance(step, tuple) else (step, step)
    factors = [
        -torch.as_tensor(each, dtype=weights.dtype, device=weights.device).reshape(-1, 1, 1)
        for each, weights in zip(pair, particles, strict=True)
    ]
    particles = particles.clone()
    gradient = Particles(*map(torch.empty_like, particles))
    if 0 in wanted:
        yield 0, particles.clone()
    for iteration in range(1, iterations + 1):
        if batches is not None and isinstance(risk, TwoLayerRisk):
            risk.replace(*batches(iteration)).risk_and_gradient(particles, gradient)
        elif callable(risk):
            gradient = risk(particles)
        else:
            risk.risk_and_gradient(particles, gradient)
        for weights, change, factor in zip(particles, gradient, factors, strict=True):
            weights.addcmul_(change, factor)
        if iteration in wanted:
            yield iteration, particles.clone()
