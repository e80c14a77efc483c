"""How particles move and how their masses change: Wasserstein, Fisher-Rao, both together, and the cone.

All are gradient flows of F, with F' = F'[μ](θ_j) and s_j the sign of mass_j, which never changes:
    θ_j'      = −transport · s_j ∇F'
    |mass_j|' = −growth · |mass_j| (s_j F' − mean),  mean = 0, or where balanced Σ|mass| s F' / Σ|mass|.
So dF/dt = −transport ∫|∇F'|² d|μ| − growth ∫(s F' − mean)² d|μ| ≤ 0, and the mass law is
    d/dt Σ|mass_j| = −growth ∫ F' dμ, or where balanced 0.
Coordinates of mass: its logarithm relative to the start, |mass| = |mass_0| e^l, or its square root r, |mass| = r². In
both it keeps its sign, whatever the step. A balanced flow divides by Σ|mass_0| e^l: Σ|mass| stays to rounding.
Sources: [ChizatBach2018] (Wasserstein), [Chizat2022] (cone), [LieroMielkeSavare2018] (Wasserstein-Fisher-Rao).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import not_negative, positive
from regimes.meanfield.forces import Functional, signs_of
from regimes.meanfield.measures import Measure
from regimes.meanfield.positions import leaves, rebuild

State = tuple[Tensor, ...]


class Velocity(NamedTuple):
    """The law above. Made by `wasserstein`, `fisher_rao`, `wasserstein_fisher_rao` or `conic`.

    root: the coordinate of mass is its square root, otherwise its logarithm relative to the start.
    """

    transport: float
    growth: float
    balanced: bool = False
    root: bool = False


def wasserstein(transport: float = 1.0) -> Velocity:
    """θ' = −transport ∇F'[μ](θ); masses stay. With m equal masses 1/m it is θ_j' = −m ∂F/∂θ_j."""
    positive("wasserstein", "transport", transport, single=True)
    return Velocity(float(transport), 0.0)


def fisher_rao(growth: float = 1.0, *, balanced: bool = True) -> Velocity:
    """Masses only: |mass|' = −growth |mass| (s F' − mean); positions stay. Unbalanced: without the mean.

    Balanced, Σ|mass| stays. In fixed steps it is mirror descent: |mass| ← |mass| e^{−step·growth (s F' − mean)}, where
    balanced divided by the sum.
    """
    positive("fisher_rao", "growth", growth, single=True)
    return Velocity(0.0, float(growth), bool(balanced))


def wasserstein_fisher_rao(transport: float = 1.0, growth: float = 1.0, *, balanced: bool = False) -> Velocity:
    """θ' = −transport s ∇F' and |mass|' = −growth |mass| (s F' − mean).

    The mean is there only where balanced: then Σ|mass| stays.
    """
    not_negative("wasserstein_fisher_rao", "transport", transport, single=True)
    not_negative("wasserstein_fisher_rao", "growth", growth, single=True)
    positive("wasserstein_fisher_rao", "transport + growth", transport + growth)
    return Velocity(float(transport), float(growth), bool(balanced))


def conic(transport: float = 1.0, growth: float = 4.0) -> Velocity:
    """The same flow as the unbalanced one, in the coordinate r of |mass| = r²: r' = −(growth/2) r s F'.

    With growth = 4·transport it is the gradient flow in the metric of the cone, which for 2-homogeneous features is
    the Wasserstein flow of the particles r θ with |θ| = 1. In fixed steps r may change its sign, |mass| = r² does not.
    """
    not_negative("conic", "transport", transport, single=True)
    positive("conic", "growth", growth, single=True)
    return Velocity(float(transport), float(growth), root=True)


class Coordinates:
    """A measure under a velocity as a state (tensors with a leading runs axis), and the change of the state."""

    def __init__(self, velocity: Velocity, start: Measure) -> None:
        self.law, self.start = velocity, start
        self.signs = signs_of(start.mass)
        self.moving = len(leaves(start.position)) if velocity.transport else 0
        self._logarithms = None
        if velocity.growth and not velocity.root:
            sizes = start.mass.abs()  # of a run without mass, whose shares are of nothing, any will do
            self._logarithms = sizes.masked_fill(~(sizes > 0).any(1, keepdim=True), 1).log()

    def state(self) -> State:
        """That of the start: the positions where they move, then the coordinate of mass where it changes."""
        parts = [part.clone() for part in leaves(self.start.position)] if self.moving else []
        if self.law.growth:
            mass = self.start.mass
            parts.append(mass.abs().sqrt() if self.law.root else torch.zeros_like(mass))
        return tuple(parts)

    def measure(self, state: State) -> Measure:
        """The measure of a state; it shares the positions with it."""
        position = rebuild(self.start.position, state[: self.moving]) if self.moving else self.start.position
        return Measure(position, self._mass(state[-1]) if self.law.growth else self.start.mass)

    def value_and_velocity(self, functional: Functional, state: State) -> tuple[Float[Tensor, " runs"], State]:
        """F, and the velocity of every tensor of the state."""
        measure = self.measure(state)
        value, variation, gradient = functional.value_and_forces(measure)
        slopes = []
        for part in leaves(gradient) if self.moving else []:
            signs = self.signs.reshape(*self.signs.shape, *[1] * (part.ndim - 2))
            slopes.append(part * (-self.law.transport * signs))
        if self.law.growth:
            slopes.append(self._growth(measure.mass, variation, state[-1]))
        return value, tuple(slopes)

    def select(self, runs: Int[Tensor, " chosen"]) -> "Coordinates":
        """Those of some runs."""
        return Coordinates(self.law, self.start.select(runs))

    def _mass(self, coordinate: Tensor) -> Tensor:
        if self._logarithms is None:
            return self.signs * coordinate.square()
        if not self.law.balanced:
            return self.start.mass * coordinate.exp()
        total = self.start.mass.abs().sum(1, keepdim=True)
        return self.signs * total * torch.softmax(self._logarithms + coordinate, 1)

    def _growth(self, mass: Tensor, variation: Tensor, coordinate: Tensor) -> Tensor:
        along = self.signs * variation
        if self.law.root:
            return coordinate * along * (-self.law.growth / 2)
        if self.law.balanced:
            share = mass.abs()
            total = share.sum(1, keepdim=True)
            along = along - (share * along).sum(1, keepdim=True) / total.masked_fill(total == 0, 1)
        return along * -self.law.growth


def require_velocity(caller: str, velocity: Any) -> None:
    """Refuse what is no Velocity, such as its name, or the function that makes one."""
    if not isinstance(velocity, Velocity):
        raise ValueError(
            f"{caller} needs a velocity such as wasserstein() or conic(); got {velocity!r}. "
            "Call one of regimes.meanfield.velocities."
        )
