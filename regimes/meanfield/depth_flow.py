"""Gradient flows of a mean-field ResNet's risk: at every depth, particles move and their masses grow or shrink.

Wasserstein part: θ' = −∇_θ δE/δρ(θ, t). Fisher-Rao part, at rate `growth`: μ' = −growth μ (δE/δρ(θ, t) − its mean over
the cell), which keeps the mass of every cell. Together
    dE/dt = −(1/L) Σ_lj μ_lj (|∇_θ δE/δρ|² + growth (δE/δρ − mean)²) <= 0.
Plain gradient descent with step η on the net of equal masses 1/M is the Euler step η/(L M) of the first part. The state
of each run is integrated with its own adaptive steps. Source: [Lu2020].
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regimes.checks import kind, not_negative, shapes
from regimes.meanfield.course import follow
from regimes.meanfield.depth import DepthMeasure, DepthRisk, require_masses


class Moment(NamedTuple):
    """The measure at one requested time; the time each run has reached, less only where it has stopped."""

    time: Float[Tensor, " runs"]
    measure: DepthMeasure
    stopped: Bool[Tensor, " runs"]


def velocity(risk: DepthRisk, measure: DepthMeasure, *, growth: float = 0.0) -> tuple[Tensor, DepthMeasure]:
    """E, and the velocities of all particles and masses."""
    value, gradient = risk.risk_and_gradient(measure)
    mass = measure.mass
    if growth == 0:
        still = torch.zeros_like(mass)
    else:
        mean = (mass * gradient.mass).sum(2, keepdim=True) / mass.sum(2, keepdim=True)
        still = -growth * mass * (gradient.mass - mean)
    return value, DepthMeasure(-gradient.output, -gradient.input, -gradient.bias, still)


def depth_flow(
    risk: DepthRisk,
    measure: DepthMeasure,
    times: Sequence[float | int] | Float[Tensor, " times"],
    *,
    growth: float = 0.0,
    risk_below: float | Float[Tensor, " runs"] | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 100_000,
) -> Iterator[Moment]:
    """The flow from `measure`, a Moment at each of `times`; a run stops where E is at or below `risk_below`.

    Errors are those of control.adaptive.integrate: proportional to the tolerances. ValueError: masses below 0, or a
    cell without mass.
    """
    kind("depth_flow", "risk", risk, DepthRisk, "a DepthRisk")
    require_masses("depth_flow", measure)
    not_negative("depth_flow", "growth", growth, single=True)
    runs = len(risk.x)
    if risk_below is not None:
        not_negative("depth_flow", "risk_below", risk_below)
        if isinstance(risk_below, Tensor) and risk_below.dim():
            shapes("depth_flow", risk_below=(risk_below, f"{runs}"))
    threshold = (
        None
        if risk_below is None
        else torch.as_tensor(risk_below, dtype=risk.x.dtype, device=risk.x.device).expand(runs)
    )
    found = follow(
        partial(velocity, risk, growth=growth),
        measure,
        times,
        part=lambda chosen: partial(velocity, risk.select(chosen), growth=growth),
        threshold=threshold,
        rtol=rtol,
        atol=atol,
        smallest=0.0,
        max_steps=max_steps,
    )
    for solution in found:
        yield Moment(solution.time, solution.state, solution.stopped)
