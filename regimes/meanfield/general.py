"""Any function of a measure as a functional, by autograd."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import function, given
from regimes.meanfield.forces import Forces, signs_of, slopes_of, vanishes
from regimes.meanfield.measures import Measure, require_measure
from regimes.meanfield.positions import Position, each, leaves, points_of, rebuild, require_position


class General:
    """Any function of a measure as a functional: F' = ∂F/∂mass and ∇F' = (1/mass) ∂F/∂position, by autograd.

    value: a function Measure -> (runs,), each run for itself. It has to be a function of the measure: two particles at
    one place are as one with the sum of their masses. The first call tries that on a particle cut into two halves.
    At other points, and at particles without mass, F' is the derivative in the mass of a probe with hardly any mass,
    which is positive: so a penalty on |μ| counts there as that of positive mass.
    """

    def __init__(self, value: Callable[[Measure], Tensor]) -> None:
        given("general", value=value)
        function("general", value=value)
        self.function = value
        self._looked_at = False

    def value(self, measure: Measure) -> Float[Tensor, " runs"]:
        """F(μ)."""
        require_measure("general", measure)
        with torch.no_grad():
            return self._value(measure)

    def variation(self, measure: Measure, at: Position | None = None) -> Float[Tensor, "runs points"]:
        """F'[μ] at its own particles, or at other points."""
        require_measure("general", measure)
        if at is None:
            return self.value_and_forces(measure).variation
        require_position("general", "at", at, like=measure.position, runs=measure.runs)
        return self._probed(measure, at, graph=any(part.requires_grad for part in leaves(at)))

    def value_and_forces(self, measure: Measure) -> Forces:
        """F(μ), F' and ∇F' at its particles."""
        mass = measure.mass.detach().requires_grad_()
        parts = [part.detach().requires_grad_() for part in leaves(measure.position)]
        with torch.enable_grad():
            value = self._value(Measure(rebuild(measure.position, parts), mass))
            self._require_smooth(value)
            total = value.sum()
        if vanishes(measure.mass):
            with torch.enable_grad():
                at, signs = rebuild(measure.position, parts), signs_of(measure.mass)
                variation = self._probed(measure, at, graph=True, signs=signs)
                along = variation.sum()
            return Forces(value.detach(), variation.detach(), slopes_of(along, parts, measure.position))
        first, *slopes = torch.autograd.grad(total, [mass, *parts], materialize_grads=True)
        shares = [slope / mass.detach().reshape(*mass.shape, *[1] * (slope.ndim - 2)) for slope in slopes]
        return Forces(value.detach(), first, rebuild(measure.position, shares))

    def select(self, runs: Int[Tensor, " chosen"], *, of: int) -> "General | None":
        """That of some runs, if the function has a method select(runs, of=)."""
        choose = getattr(self.function, "select", None)
        return None if choose is None else General(choose(runs, of=of))

    def _probed(self, measure: Measure, at: Any, *, graph: bool, signs: float | Tensor = 1.0) -> Tensor:
        # At a mass of exactly 0 autograd takes the slope of |mass| as 0.
        least = measure.mass.new_full(points_of(at), torch.finfo(measure.mass.dtype).tiny)
        probes = (least * signs).requires_grad_()
        with torch.enable_grad():
            position = each(lambda own, other: torch.cat([own.detach(), other], 1), measure.position, at)
            value = self._value(Measure(position, torch.cat([measure.mass.detach(), probes], 1)))
            self._require_smooth(value)
            return torch.autograd.grad(value.sum(), probes, create_graph=graph, materialize_grads=True)[0]

    def _value(self, measure: Measure) -> Tensor:
        value = self._asked(measure)
        if not self._looked_at:
            with torch.no_grad():
                halves = measure.mass.detach().clone()
                halves[:, 0] /= 2
                first = each(lambda part: part[:, :1].detach(), measure.position)
                split = Measure(each(torch.detach, measure.position), halves).join(Measure(first, halves[:, :1]))
                again = self._asked(split)
            if not torch.allclose(again, value.detach(), rtol=1e-4, atol=1e-6, equal_nan=True):
                raise ValueError(
                    "general needs a function of the measure; this one changes when a particle is cut into two halves, "
                    f"from {value.tolist()} to {again.tolist()}. Sum over particles with measure.mass as weights."
                )
            # Halves of nothing, and numbers that are none, tell nothing.
            self._looked_at = bool(value.isfinite().all()) and bool((measure.mass[:, 0] != 0).any())
        return value

    def _asked(self, measure: Measure) -> Tensor:
        value = self.function(measure)
        if not isinstance(value, Tensor) or tuple(value.shape) != (measure.runs,):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"general needs a function that returns one number a run, ({measure.runs},); got {got}.")
        return value

    @staticmethod
    def _require_smooth(value: Tensor) -> None:
        if not value.requires_grad:
            raise ValueError(
                "general needs a function that torch can differentiate; got a value cut off from positions and masses. "
                "Leave out detach, numpy and counting."
            )


def general(value: Callable[[Measure], Tensor]) -> General:
    """Any function of a measure, (runs,) for a Measure, as a functional; see `General`."""
    return General(value)
