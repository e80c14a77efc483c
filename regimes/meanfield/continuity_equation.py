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

_SIGN = 1 + 1e-12  # of step·rate: 1, but for rounding

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
    of ρ and of two Euler steps. The mass is kept to round-off. A step is courant/(2 max|v|/h + 2 temperature/h²), and
    half as long, as often as needed, where it would be above 1/(2 max|v|/h + 2 temperature/h²) of the second Euler
    step: so no Euler step, hence no step, makes a density negative that was not. How fast v answers to ρ is not seen in
    max|v|. With `longest` a step is at most that long; where v answers at the rate r, steps above 2/r are unstable.
    Without it a step is halved until what the change of v adds to ρ is, in the mean over the cells, at most that of ρ
    over the square of their number. Error in the mean over the cells where ρ is smooth: O(h²), or O(h² + longest²);
    near an unstable equilibrium it grows as distances from it do. Source: [vanLeer1977], [ShuOsher1988].
    """
    shapes("continuity_flow", density=(density, "runs cells"))
    real("continuity_flow", density=density)
    finite("continuity_flow", density=density)
    function("continuity_flow", velocity=velocity)
    positive("continuity_flow", "length", length, single=True)
    not_negative("continuity_flow", "temperature", temperature, single=True)
    positive("continuity_flow", "longest", longest, infinite=True, single=True)
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
    grid = _Grid(length / density.shape[1], temperature, periodic, fine=longest == inf)
    now, steps, allowed, density = 0.0, 0, inf, density.clone()
    for moment in moments:
        while now < moment:
            speed = _velocity(velocity, density)
            rate = grid.rate(speed, now)
            if steps >= max_steps:
                raise RunFailed(f"continuity_flow has used all {max_steps} steps at time {now:.6g}; raise max_steps.")
            left = moment - now
            step = min(courant / rate if rate > 0 else inf, longest, left, allowed)
            # The last two steps before a requested time share what is left, so that none is tiny.
            step = left / 2 if step < left < 2 * step else step
            slope = grid.change(density, speed)
            while (after := _heun(velocity, grid, density, speed, slope, step, now)) is None:
                step = allowed = step / 2
                if step <= 1e-15 * moment:
                    raise RunFailed(
                        f"continuity_flow: at time {now:.6g} no step is short enough; is the velocity smooth?"
                    )
            density, steps, allowed = after, steps + 1, 2 * allowed
            now = moment if step == left else now + step
        yield Density(moment, density.clone(), steps)


def centres(cells: int, length: float) -> Float[Tensor, " cells"]:
    """The middles of the cells."""
    _require_cells("centres", cells, length)
    return (torch.arange(cells, dtype=torch.float64) + 0.5) * (length / cells)


def right_edges(cells: int, length: float) -> Float[Tensor, " cells"]:
    """Where the velocity is asked for: the right edge of each cell."""
    _require_cells("right_edges", cells, length)
    return (torch.arange(cells, dtype=torch.float64) + 1) * (length / cells)


def _require_cells(caller: str, cells: int, length: float) -> None:
    count(caller, "cells", cells)
    positive(caller, "length", length, single=True)


def _ascending(times: Sequence[float]) -> list[float]:
    try:
        moments = [] if isinstance(times, str | bytes) else [float(time + 0) for time in times]
    except (TypeError, ValueError, RuntimeError):
        moments = []
    if not moments:
        raise ValueError(f"continuity_flow needs times as a sequence of numbers; got {times!r}. Pass [1.0, 2.0].")
    if any(not 0 <= time < inf for time in moments) or moments != sorted(moments):
        raise ValueError(f"continuity_flow needs finite times that ascend from 0 on; got {moments}. Sort them.")
    return moments


class _Grid(NamedTuple):
    """What a step knows of the cells and of the law; fine: it looks at how the velocity answers the density."""

    h: float
    temperature: float
    periodic: bool
    fine: bool

    def rate(self, speed: Tensor, time: float) -> float:
        """How fast a cell is emptied at most; Euler steps up to its inverse keep every sign."""
        rate = 2 * float(speed.abs().max()) / self.h + 2 * self.temperature / self.h**2
        if not rate < inf:
            raise RunFailed(f"continuity_flow: the velocity at time {time:.6g} is not finite.")
        return rate

    def change(self, density: Tensor, speed: Tensor) -> Tensor:
        return _change(density, speed, self.h, self.temperature, self.periodic)


def _heun(
    velocity: Field, grid: _Grid, density: Tensor, speed: Tensor, slope: Tensor, step: float, time: float
) -> Tensor | None:
    """The density after a step; None if the velocity at its end, which follows the density, asks for a shorter one."""
    one = density + step * slope
    ahead = _velocity(velocity, one)
    if step * grid.rate(ahead, time) > _SIGN:
        return None
    change = grid.change(one, ahead)
    if grid.fine:
        answer = step / 2 * (change - grid.change(one, speed)).abs().mean(1)
        if not bool((answer <= density.mean(1) / density.shape[1] ** 2).all()):
            return None
    two = one + step * change
    return (density + two) / 2


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
