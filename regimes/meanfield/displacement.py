"""Particle flow in the magnified displacement v = α(w − w_0), which stays O(1) however lazy the net is."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regimes.activations import Activation, require_activation
from regimes.checks import count, finite, kind, not_negative, positive, real, shapes
from regimes.control.state import IntegratorState
from regimes.meanfield.course import Pull, follow
from regimes.meanfield.flow import by_run, require_by_run
from regimes.meanfield.particles import Particles, require_particles, without_graph
from regimes.meanfield.two_layer import TwoLayerRisk, require_alpha


class Displacement(NamedTuple):
    """The magnified displacement v = α(w − w_0) at one requested time.

    time: the time each run has reached, less than requested only where the run has stopped;
    steps: those accepted so far; stopped: the run met its risk and is frozen; forced: steps at `smallest` whose error
    was above the tolerance; course: for `displacement_flow(..., after=course)`.
    """

    time: Float[Tensor, " runs"]
    moved: Particles
    steps: Int[Tensor, " runs"]
    stopped: Bool[Tensor, " runs"]
    forced: Int[Tensor, " runs"]
    course: IntegratorState


def displaced(start: Particles, moved: Particles, alpha: float | Float[Tensor, "runs *ones"]) -> Particles:
    """The weights w_0 + v/α; one scale for all runs, or one a run."""
    if not isinstance(alpha, Tensor):
        require_alpha("displaced", alpha)
    positive("displaced", "alpha", alpha)
    for each in (start, moved):
        kind("displaced", "start and displacement", each, Particles, "Particles")
        for part in each:
            kind("displaced", "start and displacement", part, Tensor, "Particles of tensors")
        shapes("displaced", output=(each.output, "runs m k"), input=(each.input, "runs m d"))
    if (start.output.shape, start.input.shape) != (moved.output.shape, moved.input.shape):
        raise ValueError(
            "displaced needs start and displacement of the same shapes; got "
            f"{[tuple(part.shape) for part in start]} and {[tuple(part.shape) for part in moved]}."
        )
    if isinstance(alpha, Tensor) and alpha.numel() not in (1, start.runs):
        raise ValueError(f"displaced needs one alpha, or one a run; got {alpha.numel()} for {start.runs} runs.")
    return _displaced(start, moved, alpha)


def _displaced(start: Particles, moved: Particles, alpha: float | Tensor) -> Particles:
    factor = _column(alpha)
    return Particles(start.output + moved.output / factor, start.input + moved.input / factor)


def displacement_flow(
    risk: TwoLayerRisk,
    start: Particles,
    times: Sequence[float | int] | Float[Tensor, " times"],
    *,
    rtol: float = 1e-8,
    atol: float = 1e-8,
    risk_below: float | Float[Tensor, " runs"] | None = None,
    unit: float | Float[Tensor, " runs"] | None = None,
    smallest: float = 0.0,
    max_steps: int = 100_000,
    after: IntegratorState | None = None,
) -> Iterator[Displacement]:
    """Particle flow w' = −m ∇F_α(w), solved for v = α(w − w_0): v' = −α m ∇F_α(w_0 + v/α), v(0) = 0.

    The tolerances are on v, so on w they are α times finer: what separates the net
    from its tangent model is O(1/α) in v, and would be O(1/α²) in w. A run stops where R(f) is at or below
    `risk_below`, but R(f) cannot come below about (tolerance·‖v‖)². unit: the flow time that counts as 1, run by run.
    smallest: a smallest step, for ReLU, as in meanfield.flow.gradient_flow; in units of `unit`.
    after: go on from the course of a displacement yielded before, as in `integrate`.
    """
    require_particles("displacement_flow", start)
    finite("displacement_flow", **start._asdict())
    start = without_graph(start)
    kind("displacement_flow", "risk", risk, TwoLayerRisk, "a TwoLayerRisk")
    for name, value in {"risk_below": risk_below, "unit": unit}.items():
        if value is not None:
            require_by_run("displacement_flow", name, value, start.runs)
            (positive if name == "unit" else not_negative)("displacement_flow", name, value)
    risk_below, unit = (None if value is None else by_run(value, start) for value in (risk_below, unit))

    def part(chosen: Tensor) -> Pull[Particles]:
        clock = None if unit is None else unit[chosen]
        return _magnified(risk.select(chosen, of=start.runs), start.select(chosen), clock)

    solutions = follow(
        _magnified(risk, start, unit),
        Particles(*map(torch.zeros_like, start)),
        times,
        part=part,
        threshold=risk_below,
        rtol=rtol,
        atol=atol,
        smallest=smallest,
        max_steps=max_steps,
        after=after,
    )
    for at in solutions:
        yield Displacement(at.time, at.state, at.steps, at.stopped, at.forced, at.course)


def _magnified(risk: TwoLayerRisk, start: Particles, unit: Tensor | None) -> Pull[Particles]:
    """Risk and velocity of v = α(w − w_0), of one set of runs."""
    factor = _column(risk.alpha) * (1.0 if unit is None else _column(unit))

    def pull(moved: Particles) -> tuple[Tensor, Particles]:
        value, flow = risk.risk_and_velocity(_displaced(start, moved, risk.alpha))
        return value, Particles(flow.output.mul_(factor), flow.input.mul_(factor))

    return pull


def tangent_features(
    particles: Particles, x: Float[Tensor, "groups n d"], activation: Activation
) -> Float[Tensor, "runs weights n"]:
    """m ∂h(x_i)/∂(a, b) of h = (1/m) Σ_j a_j σ(b_j·x), one output: rows σ(b_j·x_i) first, then a_j σ'(b_j·x_i) x_i.

    With these features φ the tangent kernel of the particle flow is Θ = φᵀφ/m, and the weights of the tangent model
    move by α(w̄(t) − w_0) = −φ Θ⁻¹ (1 − e^{−Θt/n}) (f_0 − y), which is GradientFlow.test (tangent.regression) with φ
    for k_test_train.
    """
    kind("tangent_features", "particles", particles, Particles, "Particles")
    shapes("tangent_features", x=(x, "groups n d"), input=(particles.input, "_ _ d"), cure="Inputs are (groups, n, d)")
    require_particles("tangent_features", particles, like=x)
    finite("tangent_features", x=x, **particles._asdict())  # σ may map inf to a plausible number
    require_activation(activation, "tangent_features")
    runs, _, outputs = particles.output.shape
    if outputs != 1:
        raise ValueError(f"tangent_features needs nets of one output; got {outputs}. Take the outputs one by one.")
    if runs % len(x):
        raise ValueError(f"tangent_features needs equally many runs in each group; got {runs} runs, {len(x)} groups.")
    inputs = x.repeat_interleave(runs // len(x), dim=0)
    before = particles.input @ inputs.transpose(1, 2)
    slopes = particles.output * activation.derivative(before)
    directions = (slopes[:, :, None, :] * inputs.transpose(1, 2)[:, None]).reshape(runs, -1, inputs.shape[1])
    return torch.cat([activation.value(before), directions], dim=1)


def flatten_particles(particles: Particles) -> Float[Tensor, "runs weights"]:
    """All weights of a run in one row: the output weights neuron by neuron, then the input weights."""
    require_particles("flatten_particles", particles)
    return torch.cat([particles.output.flatten(1), particles.input.flatten(1)], dim=1)


def unflatten_particles(weights: Float[Tensor, "runs weights"], width: int) -> Particles:
    """The particles of nets with one output, from rows as flatten_particles makes them."""
    count("unflatten_particles", "width", width)
    kind("unflatten_particles", "weights", weights, Tensor, "a tensor")
    columns = shapes("unflatten_particles", weights=(weights, "runs columns"))["columns"]
    if columns % width or columns == width:
        raise ValueError(
            f"unflatten_particles needs rows of width·(1 + d) weights; got {columns} for width {width}. Check width."
        )
    return Particles(weights[:, :width, None], weights[:, width:].unflatten(1, (width, -1)))


def motion(moved: Float[Tensor, "runs weights"], width: int) -> Float[Tensor, " runs"]:
    """Root mean square motion √(1/m Σ_j ‖(a_j, b_j)‖²): the norm in which particle flow is a gradient flow."""
    count("motion", "width", width)
    shapes("motion", moved=(moved, "runs weights"))
    real("motion", moved=moved)
    return moved.norm(dim=1) / width**0.5


def _column(alpha: float | Tensor) -> float | Tensor:
    return alpha.reshape(-1, 1, 1) if isinstance(alpha, Tensor) else alpha
