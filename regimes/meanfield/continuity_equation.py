"""The equation that a measure on a line or a circle obeys while its particles flow, solved by finite volumes.

    ∂ρ/∂t + ∂(ρ v[ρ])/∂θ = temperature · ∂²ρ/∂θ²,   with v = −∂F'[ρ]/∂θ for a gradient flow.
It is the m → ∞ limit of m particles θ' = v(θ), with noise √(2 temperature) dW, found without any particle.
"""

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, finite, function, not_negative, positive, real, shapes
from regimes.errors import RunFailed

Field = Callable[[Float[Tensor, "runs cells"]], Float[Tensor, "runs cells"]]


class Density(NamedTuple):
    """Cell averages of ρ at one time, and how many time steps each run has taken."""

    time: float
    density: Float[Tensor, "runs cells"]
    steps: int


def continuity_flow(
    velocity: Field,
    density: Float[Tensor, "runs cells"],
    times: Sequence[float],
    *,
    length: float,
    temperature: float = 0.0,
    periodic: bool = True,
    courant: float = 0.5,
    longest: float = inf,
    max_steps: int = 1_000_000,
) -> Iterator[Density]:
    """The density at each of `times`, which ascend from 0 on and are hit exactly; one time step for all runs.

    The interval [0, length] has equal cells of width h; `density` holds averages over them. velocity(density) gives v
    at the right edge of each cell. Without `periodic` the ends are walls: no mass crosses them, whatever v is there.
    Fluxes are upwind, from straight lines in each cell with monotonized central slopes; time steps are Heun's, the mean
    of ρ and of two Euler steps. The mass is kept to round-off. A step is courant/(2 max|v|/h + 2 temperature/h²): for
    courant ≤ 1 no Euler step, hence no step, makes a density negative that was not. It is never above `longest`: where
    v depends on ρ and answers at the rate r, steps above 2/r are unstable however small v is. Error O(h² + longest²)
    in the mean over the cells where ρ is smooth; without `longest`, O(h²). Source: [vanLeer1977], [ShuOsher1988].
    """
    shapes("continuity_flow", density=(density, "runs cells"))
    real("continuity_flow", density=density)
    finite("continuity_flow", density=density)
    function("continuity_flow", velocity=velocity)
    positive("continuity_flow", "length", length)
    not_negative("continuity_flow", "temperature", temperature)
    positive("continuity_flow", "longest", longest, infinite=True)
    count("continuity_flow", "max_steps", max_steps)
    if not (isinstance(courant, int | float) and 0 < courant <= 1):
        raise ValueError(f"continuity_flow needs courant above 0 and at most 1; got {courant!r}. Pass 0.5.")
    if density.shape[1] < 3:
        raise ValueError(f"continuity_flow needs at least 3 cells; got {density.shape[1]}. Refine the density.")
    if bool((density < 0).any()):
        raise ValueError(
            "continuity_flow needs a density that is nowhere negative; got negative cells. Mend the start."
        )
    moments = _ascending(times)
    h = length / density.shape[1]
    now, steps, density = 0.0, 0, density.clone()
    for moment in moments:
        while now < moment:
            speed = _velocity(velocity, density)
            rate = 2 * float(speed.abs().max()) / h + 2 * temperature / h**2
            if not rate < inf:
                raise RunFailed(f"continuity_flow: the velocity at time {now:.6g} is not finite.")
            if steps >= max_steps:
                raise RunFailed(f"continuity_flow has used all {max_steps} steps at time {now:.6g}; raise max_steps.")
            left = moment - now
            step = min(courant / rate if rate > 0 else inf, longest, left)
            # The last two steps before a requested time share what is left, so that none is tiny.
            step = left / 2 if step < left < 2 * step else step
            one = density + step * _change(density, speed, h, temperature, periodic)
            two = one + step * _change(one, _velocity(velocity, one), h, temperature, periodic)
            density, steps = (density + two) / 2, steps + 1
            now = moment if step == left else now + step
        yield Density(moment, density.clone(), steps)


def centres(cells: int, length: float) -> Float[Tensor, " cells"]:
    """The middles of the cells."""
    return (torch.arange(cells, dtype=torch.float64) + 0.5) * (length / cells)


def right_edges(cells: int, length: float) -> Float[Tensor, " cells"]:
    """Where the velocity is asked for: the right edge of each cell."""
    return (torch.arange(cells, dtype=torch.float64) + 1) * (length / cells)


def _ascending(times: Sequence[float]) -> list[float]:
    moments = [float(time) for time in times]
    if any(not 0 <= time < inf for time in moments) or moments != sorted(moments):
        raise ValueError(f"continuity_flow needs finite times that ascend from 0 on; got {moments}. Sort them.")
    return moments


def _velocity(velocity: Field, density: Tensor) -> Tensor:
    speed = velocity(density)
    shapes("continuity_flow", density=(density, "runs cells"), velocity=(speed, "runs cells"))
    return speed


def _change(density: Tensor, speed: Tensor, h: float, temperature: float, periodic: bool) -> Tensor:
    """−(flux through the right edge − flux through the left edge)/h."""
    after, before = density.roll(-1, 1) - density, density - density.roll(1, 1)
    if not periodic:
        # Cells at a wall have a neighbour on one side only, and no slope.
        after = torch.cat([after[:, :-1], torch.zeros_like(after[:, :1])], 1)
        before = torch.cat([torch.zeros_like(before[:, :1]), before[:, 1:]], 1)
    half = _slopes(before, after) / 2
    flux = speed.clamp_min(0) * (density + half) + speed.clamp_max(0) * (density - half).roll(-1, 1)
    flux = flux - temperature / h * after
    if not periodic:
        flux = torch.cat([flux[:, :-1], torch.zeros_like(flux[:, :1])], 1)
    return (flux.roll(1, 1) - flux) / h


def _slopes(before: Tensor, after: Tensor) -> Tensor:
    """Monotonized central slopes times h: the least of |before + after|/2, 2|before|, 2|after|, 0 at an extremum."""
    size = torch.minimum((before + after).abs() / 2, 2 * torch.minimum(before.abs(), after.abs()))
    return torch.where(before * after > 0, size * before.sign(), torch.zeros_like(size))
