"""What a two-layer net lacks beside its teacher: the risk over all inputs as a functional of measures.

A net is a signed measure μ over input weights, f = ∫ σ(θ·x) dμ(θ), and R = ½ E(f − y)². Mass added at θ changes R at
the rate h(θ) = E(f − y)(x) σ(θ·x). R is convex in μ, so R(ν) ≥ R(μ) + ∫ h d(ν − μ) for every ν: where h has the sign
that no mass can use, μ is a global minimum; elsewhere one neuron there lowers the risk.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.meanfield.forces import Forces, signs_of
from regimes.meanfield.measures import Measure
from regimes.meanfield.overlaps import Summed
from regimes.meanfield.particles import Particles
from regimes.meanfield.searches import Field, Found, Search

Points = Float[Tensor, "runs points d"]


class TaughtRisk:
    """F(μ) = ½ E(∫ σ(θ·x) dμ − y(x))² + penalty·|μ| for a teacher y = ∫ σ(θ·x) dμ* of each run, in closed form."""

    at_least = 0.0

    def __init__(self, teacher: Measure, overlap: Summed, penalty: float = 0.0) -> None:
        self.teacher, self.overlap, self.penalty = teacher, overlap, penalty

    def lack(self, measure: Measure) -> Measure:
        """μ − μ*: its net is f − y."""
        return measure.join(Measure(self.teacher.position, -self.teacher.mass))

    def value(self, measure: Measure) -> Float[Tensor, " runs"]:
        """F(μ)."""
        lack = self.lack(measure)
        risk = (lack.mass * self._field(lack, lack.position)[0]).sum(1) / 2
        return risk + self.penalty * measure.total_variation()

    def variation(
        self, measure: Measure, at: Points | None = None, *, sign: float = 1.0
    ) -> Float[Tensor, "runs points"]:
        """F' at points, sign −1: of mass that is taken away; or at the own particles, by the sign of their mass."""
        if at is not None:
            return self.forces_at(measure, at, sign=sign)[0]
        own = self._field(self.lack(measure), measure.position)[0]
        return own + self.penalty * signs_of(measure.mass)

    def forces_at(self, measure: Measure, at: Points, *, sign: float = 1.0) -> tuple[Tensor, Points]:
        """F' and ∇F' at points."""
        value, slope = self._field(self.lack(measure), at)
        return sign * value + self.penalty, sign * slope

    def value_and_forces(self, measure: Measure) -> Forces:
        """F(μ), and F' and ∇F' at the particles."""
        value, slope = self._field(self.lack(measure), measure.position)
        return Forces(self.value(measure), value + self.penalty * signs_of(measure.mass), slope)

    def mass_bound(self, value: Float[Tensor, " runs"]) -> Float[Tensor, " runs"] | None:
        """Every ν with F(ν) ≤ value has |ν| ≤ value/penalty; None without a penalty."""
        return value / self.penalty if self.penalty else None

    def select(self, runs: Tensor, *, of: int) -> "TaughtRisk":
        """The functional of some of the runs."""
        return TaughtRisk(self.teacher.select(runs), self.overlap, self.penalty)

    def _field(self, lack: Measure, at: Points) -> tuple[Tensor, Points]:
        return self.overlap.field(at, lack.position, lack.mass)


def as_measure(net: Particles, scale: float, *, homogeneous: bool) -> Measure:
    """scale·Σ_j a_j σ(b_j·x) as a measure; of homogeneous neurons, such as ReLU, the length of b_j becomes mass."""
    mass = scale * net.output[..., 0]
    if not homogeneous:
        return Measure(net.input, mass)
    lengths = net.input.norm(dim=2, keepdim=True)
    return Measure(net.input / lengths.masked_fill(lengths == 0, 1), mass * lengths[..., 0])


def circle(points: int) -> Float[Tensor, "points 2"]:
    """Equally spaced points of the unit circle, counter-clockwise from (1, 0)."""
    angles = 2 * math.pi * torch.arange(points, dtype=torch.float64) / points
    return torch.stack([angles.cos(), angles.sin()], 1)


def around(points: int) -> Search:
    """Search for the lowest F' of a TaughtRisk of ReLU on the unit circle: a grid, with a proved bound.

    The overlap of unit vectors at the angle φ is k = (sin φ + (π − φ) cos φ)/(2π), and 2π k'' = sin φ − (π − φ) cos φ
    lies between −π and π: so |F''| ≤ ½|μ − μ*| along the circle. At the minimum the slope is 0, and a point of the grid
    is at most half a step away: the minimum is at most ¼|μ − μ*|(π/points)² below that of the grid.
    """

    def search(field: Field) -> Found:
        risk: Any = field.functional
        grid, lack = circle(points), risk.lack(field.measure)
        one_by_one = [
            Field(risk.select(torch.tensor([run]), of=field.measure.runs), field.measure.select([run]), sign=field.sign)
            for run in range(field.measure.runs)
        ]
        values = torch.cat([each(grid[None]) for each in one_by_one])
        least, place = values.min(1)
        slack = lack.total_variation() * (math.pi / points) ** 2 / 4
        return Found(grid[place][:, None], least, least - slack)

    return search
