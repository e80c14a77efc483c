"""Particles (θ, τ) of a deep measure: each carries its place in depth, which is trained as its parameters are.

L particles, each a residual block of M neurons θ = (u, v, c) with a time τ. Sorted by τ, particle l is ρ(·, t) for t in
(τ^{l−1}, τ^l], so that the state moves by ε (τ^l − τ^{l−1}) (1/M) Σ_j f(X, θ_lj): a `DepthMeasure` of L cells with
masses L (τ^l − τ^{l−1})/M. Where two particles change places the later one has weight 0, and the whole gap passes from
the one to the other: net and risk jump there. The weights are those of the trainer's timed blocks. Source: [Lu2020]
Algorithm 1.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import alike, count, finite, kind, not_negative, real, shapes
from regimes.control.times import gap_weights, pull_back_gaps, uniform_times
from regimes.meanfield.depth import DepthMeasure, DepthRisk, require_masses

WORSE = 100.0  # a run whose risk has grown by this factor has diverged
Coordinate = Literal["fixed", "times", "weights"]


class TimedMeasure(NamedTuple):
    """L particles in the order in which they were made, each with its time, or its weight where those are trained."""

    output: Float[Tensor, "runs L M d"]
    input: Float[Tensor, "runs L M d"]
    bias: Float[Tensor, "runs L M"]
    time: Float[Tensor, "runs L"]

    def order(self) -> Int[Tensor, "runs L"]:
        """The particles in the order of their times; equal times keep their places."""
        return torch.sort(self.time, dim=1, stable=True).indices

    def in_depth(self) -> DepthMeasure:
        """ρ: the particles in the order of their times, their masses the gaps."""
        order = self.order()
        parts = [_taken(part, order) for part in self]
        return _measure(TimedMeasure(*parts), gap_weights(parts[3]))


def timed_measure(rho: DepthMeasure) -> TimedMeasure:
    """The particles of cells of equal masses 1/M, at the times l/L."""
    require_masses("timed_measure", rho, probability=True)
    if not bool((rho.mass == rho.mass[:1, :1, :1]).all()):
        raise ValueError("timed_measure needs a measure of equal masses. A time says how long a particle acts.")
    time = uniform_times(rho.depth).to(rho.mass).expand(len(rho.mass), -1)
    return TimedMeasure(rho.output, rho.input, rho.bias, time.clone())


def risk_and_gradient(risk: DepthRisk, particles: TimedMeasure) -> tuple[Float[Tensor, " runs"], TimedMeasure]:
    """E, and its plain gradient in all parameters and times."""
    _fits("depth_times.risk_and_gradient", risk, particles)
    return _sorted(risk, particles)


def _sorted(risk: DepthRisk, particles: TimedMeasure) -> tuple[Tensor, TimedMeasure]:
    order = particles.order()
    value, gradient = _in_order(risk, TimedMeasure(*(_taken(part, order) for part in particles)), times=True)
    back = torch.argsort(order, dim=1)
    return value, TimedMeasure(*(_taken(part, back) for part in gradient))


def descend(
    risk: DepthRisk,
    particles: TimedMeasure,
    *,
    step: float | Float[Tensor, " runs"],
    steps: int,
    coordinate: Coordinate = "times",
    relative: float | Float[Tensor, " runs"] = 1.0,
) -> Iterator[tuple[Float[Tensor, " runs"], TimedMeasure]]:
    """Gradient descent: the risk and the particles before each step and at the end; the risk is ∞ after a divergence.

    One step is an Euler step of the flow: step·L·M times the plain gradient in θ, and relative·step·L times
    that in τ, which are sorted anew before each. coordinate: "fixed" keeps the times; "weights" takes `time` for the
    weight L(τ^l − τ^{l−1}) of each block and trains that instead, in the order of construction: the control without
    depth, of as many numbers. A run whose risk has grown by the factor WORSE stays where it is.
    """
    count("depth_times.descend", "steps", steps)
    not_negative("depth_times.descend", "step", step)
    not_negative("depth_times.descend", "relative", relative)
    _fits("depth_times.descend", risk, particles)
    layers, width = particles.bias.shape[1:]
    runs = len(particles.time)
    rate = torch.as_tensor(step, dtype=particles.time.dtype, device=particles.time.device).expand(runs)
    time_rate = torch.as_tensor(relative, dtype=rate.dtype, device=rate.device) * rate * layers
    rate = rate * layers * width
    start = lost = None
    for done in range(steps + 1):
        if coordinate == "weights":
            value, gradient = _in_order(risk, particles, times=False)
        else:
            value, gradient = _sorted(risk, particles)
        start = value if start is None else start
        now = ~(value <= WORSE * start)
        lost = now if lost is None else lost | now
        own = TimedMeasure(*(part.clone() for part in particles))  # what is yielded is the user's to write into
        yield torch.where(lost, torch.inf, value), own
        if done == steps:
            return
        going = (~lost).to(rate)
        theta, tau = rate * going, (torch.zeros_like(rate) if coordinate == "fixed" else time_rate * going)
        factors = [theta[:, None, None, None], theta[:, None, None, None], theta[:, None, None], tau[:, None]]
        particles = TimedMeasure(
            *(part - factor * change for part, factor, change in zip(particles, factors, gradient, strict=True))
        )


def _in_order(risk: DepthRisk, ordered: TimedMeasure, *, times: bool) -> tuple[Tensor, TimedMeasure]:
    """E and its gradient for particles in the order in which they act; `time` is the weight where `times` is false."""
    rho = _measure(ordered, gap_weights(ordered.time) if times else ordered.time)
    value, gradient = risk.risk_and_gradient(rho)
    layers, width = ordered.bias.shape[1:]
    share = rho.mass / layers
    of_weights = gradient.mass.sum(2) / (layers * width)
    of_time = pull_back_gaps(of_weights) if times else of_weights
    wide = share[..., None]
    return value, TimedMeasure(wide * gradient.output, wide * gradient.input, share * gradient.bias, of_time)


def _measure(ordered: TimedMeasure, weights: Float[Tensor, "runs L"]) -> DepthMeasure:
    mass = (weights / ordered.bias.shape[2])[..., None].expand_as(ordered.bias)
    return DepthMeasure(ordered.output, ordered.input, ordered.bias, mass)


def _taken(part: Tensor, order: Int[Tensor, "runs L"]) -> Tensor:
    """The particles of a part in an order."""
    return part.gather(1, order.reshape(order.shape + (1,) * (part.dim() - 2)).expand_as(part))


def _fits(caller: str, risk: DepthRisk, particles: TimedMeasure) -> None:
    """Refuse particles of other shapes than the data have, or that are no numbers."""
    kind(caller, "particles", particles, TimedMeasure, "a TimedMeasure")
    runs, d = risk.readout.shape
    wide, layers = f"{runs} L M", f"{runs} L"
    letters = {"output": f"{wide} {d}", "input": f"{wide} {d}", "bias": wide, "time": layers}
    sizes: dict[str, Any] = {name: (getattr(particles, name), letters[name]) for name in letters}
    shapes(caller, **sizes)
    real(caller, **particles._asdict())
    alike(caller, x=risk.x, **particles._asdict())
    finite(caller, **particles._asdict())
