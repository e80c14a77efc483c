"""Functionals of measures, their first variation F'[μ](θ) and its gradient in θ, for many runs at once.

F'[μ](θ) is the derivative of F along mass that is added at θ: F(μ + ε δ_θ) = F(μ) + ε F'[μ](θ) + o(ε). At a particle
of the measure F' = ∂F/∂mass_j, and ∇F' = (1/mass_j) ∂F/∂position_j. With a penalty on |μ| it is that of the sign of
mass_j; where mass_j = 0, and at other points, it is that of positive mass.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.meanfield.measures import Measure
from regimes.meanfield.positions import rebuild


class Forces(NamedTuple):
    """F(μ), and F' and ∇F' at the particles of μ."""

    value: Float[Tensor, " runs"]
    variation: Float[Tensor, "runs m"]
    gradient: Any  # a position: like those of the measure


@runtime_checkable
class Functional(Protocol):
    """What flows and certificates need of F; every run depends on its own measure only.

    `variation` at other points can be differentiated in them by autograd, or the functional has a method
    `forces_at(measure, at)` that returns F' and ∇F' there. `select` returns the functional of some of the `of` runs, or
    None where it cannot be told: then finished runs stay in the batch, masked. A method `fixed(measure)`, which returns
    `variation` as a function of `at`, saves searches from looking at the measure again for every point.
    """

    def value(self, measure: Measure) -> Tensor: ...

    def variation(self, measure: Measure, at: Any = None) -> Tensor: ...

    def value_and_forces(self, measure: Measure) -> tuple[Tensor, Tensor, Any]: ...

    def select(self, runs: Tensor, *, of: int) -> "Functional | None": ...


def signs_of(mass: Float[Tensor, "runs m"]) -> Float[Tensor, "runs m"]:
    """−1 where the mass is below 0, else 1."""
    return torch.ones_like(mass).masked_fill(mass < 0, -1)


def vanishes(mass: Float[Tensor, "runs m"]) -> bool:
    """Whether a mass is 0, or so small that what is divided by it has lost its digits."""
    return bool((mass.abs() < torch.finfo(mass.dtype).tiny).any())


def slopes_of(total: Tensor, parts: list[Tensor], form: Any) -> Any:
    """∂total/∂parts, in the form of a position; 0 where it does not depend on a part."""
    return rebuild(form, torch.autograd.grad(total, parts, materialize_grads=True))
