"""Measures carried by particles: Σ_j mass_j δ(position_j), one for each of several runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, finite, kind, not_negative, positive, real, shapes
from regimes.meanfield.positions import Position, each, leaves, points_of, require_position


class Measure(NamedTuple):
    """Σ_j mass_j δ(position_j) for each run.

    position: a tensor (runs, m, *feature), or a tuple, named tuple or dict of such (Particles is one).
    mass: (runs, m), of either sign; a probability measure has masses ≥ 0 of sum 1.
    """

    position: Any
    mass: Float[Tensor, "runs m"]

    @property
    def runs(self) -> int:
        return self.mass.shape[0]

    @property
    def size(self) -> int:
        """Number m of particles of each run."""
        return self.mass.shape[1]

    def total(self) -> Float[Tensor, " runs"]:
        """Σ_j mass_j, signs included."""
        return self.mass.sum(1)

    def total_variation(self) -> Float[Tensor, " runs"]:
        """|μ| = Σ_j |mass_j|; where particles of opposite sign coincide it is more than that of their sum."""
        return self.mass.abs().sum(1)

    def integral(self, values: Float[Tensor, "runs m *shape"]) -> Float[Tensor, "runs *shape"]:
        """Σ_j mass_j values_j."""
        return torch.einsum("rm,rm...->r...", self.mass, values)

    def select(self, runs: Tensor | slice | Sequence[int]) -> "Measure":
        """The measures of some runs, in the order given."""
        return Measure(each(lambda part: part[runs], self.position), self.mass[runs])

    def join(self, other: "Measure") -> "Measure":
        """Sum of the measures: the particles of both, run by run."""
        require_measure("Measure.join", other, like=self)
        position = each(lambda one, two: torch.cat([one, two], 1), self.position, other.position)
        return Measure(position, torch.cat([self.mass, other.mass], 1))

    def clone(self) -> "Measure":
        return Measure(each(torch.clone, self.position), self.mass.clone())

    def detach(self) -> "Measure":
        """A copy that knows no graph of autograd."""
        return Measure(each(lambda part: part.detach().clone(), self.position), self.mass.detach().clone())

    def to(self, target: torch.device | torch.dtype | str) -> "Measure":
        """The same measure on another device or in another precision."""
        return Measure(each(lambda part: part.to(target), self.position), self.mass.to(target))


def uniform(position: Position, total: float | Float[Tensor, " runs"] = 1.0) -> Measure:
    """Equal masses total/m; one total for all runs, or one a run."""
    require_position("uniform", "position", position)
    runs, m = points_of(position)
    positive("uniform", "total", total)
    if isinstance(total, Tensor) and tuple(total.shape) not in ((), (runs,)):
        raise ValueError(
            f"uniform needs one total, or one for each of the {runs} runs; got shape {tuple(total.shape)}."
        )
    first = leaves(position)[0]
    share = torch.as_tensor(total, dtype=first.dtype, device=first.device).expand(runs) / m
    return Measure(position, share[:, None].expand(runs, m).clone())


def mixture(one: Measure, other: Measure, share: float | Float[Tensor, " runs"]) -> Measure:
    """(1 − share)·one + share·other: the particles of both, with scaled masses; a straight line in measures."""
    require_measure("mixture", one)
    require_measure("mixture", other, like=one)
    not_negative("mixture", "share", share)
    column = torch.as_tensor(share, dtype=one.mass.dtype, device=one.mass.device).reshape(-1, 1)
    if len(column) not in (1, one.runs) or bool((column > 1).any()):
        raise ValueError(f"mixture needs a share from 0 to 1, or one for each run; got {share}. Pass 0.5, for example.")
    return one._replace(mass=(1 - column) * one.mass).join(other._replace(mass=column * other.mass))


def require_measure(caller: str, measure: Any, *, like: Measure | None = None, signed: bool = True) -> None:
    """Refuse what is no Measure, NaN, shapes that do not agree, and masses below 0 unless `signed`.

    like: another measure, of which it has to have the runs, the structure and features, the precision and the device.
    """
    kind(caller, "the measure", measure, Measure, "a Measure(position, mass)")
    origin = None if like is None else like.position
    sizes = require_position(
        caller, "position", measure.position, like=origin, runs=None if like is None else like.runs
    )
    runs, m = sizes["runs"], sizes["m"]
    shapes(caller, mass=(measure.mass, f"{runs} {m}"), cure="Masses are (runs, m), one for each particle")
    real(caller, mass=measure.mass)
    alike(caller, position=leaves(measure.position)[0], mass=measure.mass)
    finite(caller, mass=measure.mass)
    if not signed and bool((measure.mass < 0).any()):
        raise ValueError(
            f"{caller} needs masses of at least 0; {int((measure.mass < 0).sum())} of "
            f"{measure.mass.numel()} are below. "
            "Pass a measure without them, or say signed=True where that can be said."
        )
