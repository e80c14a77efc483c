"""Spikes to find, places to start from, and the spikes that a measure of many particles has found."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, not_negative
from regimes.errors import RunFailed
from regimes.meanfield.measures import Measure

TRIES = 100_000


def random_spikes(
    number: int, dim: int, *, separation: float, signed: bool, generators: Sequence[torch.Generator]
) -> Measure:
    """Spikes drawn on the torus, a run for each generator: masses of size U(½, 3/2), of random sign where signed.

    Positions are uniform among those with all distances, the larger one of both coordinates, at least `separation`.
    """
    count("random_spikes", "number", number)
    count("random_spikes", "dim", dim)
    not_negative("random_spikes", "separation", separation, single=True)
    positions, masses = [], []
    for generator in generators:
        for _ in range(TRIES):
            position = torch.rand(number, dim, generator=generator, dtype=torch.float64)
            if float(_distances(position).fill_diagonal_(1).min()) >= separation:
                break
        else:
            raise RunFailed(f"random_spikes: {number} spikes {separation} apart were not met in {TRIES} draws.")
        sizes = 0.5 + torch.rand(number, generator=generator, dtype=torch.float64)
        signs = torch.rand(number, generator=generator, dtype=torch.float64) < 0.5
        positions.append(position)
        masses.append(torch.where(signs, -sizes, sizes) if signed else sizes)
    return Measure(torch.stack(positions), torch.stack(masses))


def evenly_spaced(m: int, dim: int) -> Float[Tensor, "m {dim}"]:
    """m points on the torus that all see the same picture around them: i/m, or in two dimensions i(1, a)/m modulo 1.

    a is the whole number for which the points are furthest apart.
    """
    count("evenly_spaced", "m", m)
    steps = torch.arange(m, dtype=torch.float64)
    if dim == 1:
        return (steps / m)[:, None]
    if dim != 2:
        raise ValueError(f"evenly_spaced needs dim 1 or 2; got {dim}. Change dim.")
    multiples = torch.arange(max(1, m), dtype=torch.float64)
    across, along = steps[1:, None] / m, (steps[1:, None] * multiples) % m / m
    apart = torch.hypot(torch.minimum(across, 1 - across), torch.minimum(along, 1 - along))
    best = int(apart.amin(0).argmax()) if m > 1 else 0
    return torch.stack((steps / m, (steps * best) % m / m), 1)


def merged(position: Float[Tensor, "m d"], mass: Float[Tensor, " m"], *, within: float, least: float = 0.0) -> Measure:
    """The spikes of one measure: particles of one sign are one spike where a chain of steps below `within` joins them.

    A spike sits at the mean of its particles by mass and has their mass; those with no more than `least` are left out.
    """
    kept = mass != 0
    position, mass = position[kept], mass[kept]
    joined = (_distances(position) < within) & (mass[:, None] * mass > 0)
    for _ in range(len(mass).bit_length()):
        joined = (joined.double() @ joined.double()) > 0
    places, masses = [], []
    for first in range(len(mass)):
        group = joined[first].nonzero()[:, 0]
        total = mass[group].sum()
        if int(group[0]) == first and abs(float(total)) > least:
            offset = position[group] - position[first]
            share = (mass[group] / total)[:, None]
            place = position[first] + (share * (offset - offset.round())).sum(0)
            places.append(place - place.floor())
            masses.append(total)
    if not places:
        return Measure(position.new_zeros(1, 0, position.shape[1]), mass.new_zeros(1, 0))
    return Measure(torch.stack(places)[None], torch.stack(masses)[None])


def _distances(position: Float[Tensor, "m d"]) -> Float[Tensor, "m m"]:
    """Distances on the torus, the largest over the coordinates."""
    apart = position[:, None] - position
    return (apart - apart.round()).abs().amax(-1)
