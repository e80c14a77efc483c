"""The door for a user's own problem: features, a convex loss, a flow, and a certificate of where it ended."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import function, given
from regimes.control.adaptive import Tolerance
from regimes.control.state import IntegratorState
from regimes.meanfield.certificate import Certificate, certify
from regimes.meanfield.course import pair_of
from regimes.meanfield.feature_risk import FeatureRisk
from regimes.meanfield.forces import Functional
from regimes.meanfield.measure_flow import MeasureMoment, measure_flow, measure_steps, require_functional
from regimes.meanfield.measures import Measure, require_measure, uniform
from regimes.meanfield.positions import Position, require_position
from regimes.meanfield.searches import Search, candidates
from regimes.meanfield.velocities import Velocity, require_velocity, wasserstein


class ParticleFlow:
    """Gradient flow of F(μ) = R(∫ φ dμ) + ∫ (penalty + decay·|θ|²) d|μ| over measures carried by particles.

    features: φ(position) -> (runs, m, n), a row for each particle; the position is a tensor (runs, m, *feature), or
    tuples or dicts of such. loss: R((runs, n)) -> (runs,), each run for itself, differentiable, at least
    `loss_at_least`. velocity: wasserstein() unless given: only positions move; see regimes.meanfield.velocities.
    Runs are independent problems side by side, such as several starts; one run is an axis of 1. Time is flow time:
    particles of mass 1/m move by −∇F', which is m times the plain gradient.
    `functional` is F, with value, variation (F') and value_and_forces. Source: [ChizatBach2018].
    """

    def __init__(
        self,
        features: Callable[[Any], Tensor],
        loss: Callable[[Tensor], Tensor],
        *,
        penalty: float = 0.0,
        decay: float = 0.0,
        loss_at_least: float = 0.0,
        velocity: Velocity | None = None,
        shared: bool = False,
    ) -> None:
        given("ParticleFlow", features=features, loss=loss)
        function("ParticleFlow", features=features, loss=loss)
        self._options: dict[str, Any] = {"penalty": penalty, "decay": decay, "loss_at_least": loss_at_least}
        self._set(FeatureRisk(features, loss, **self._options, shared=shared), velocity)

    @classmethod
    def of(cls, functional: Functional, *, velocity: Velocity | None = None) -> "ParticleFlow":
        """The flow of any functional: TwoLayerRisk, PopulationRisk, `general` of a function of a Measure, your own."""
        require_functional("ParticleFlow.of", functional)
        flow = cls.__new__(cls)
        flow._options = {}
        flow._set(functional, velocity)
        return flow

    def _set(self, functional: Functional, velocity: Velocity | None) -> None:
        self.velocity = wasserstein() if velocity is None else velocity
        require_velocity("ParticleFlow", self.velocity)
        self.functional = functional

    def __call__(
        self,
        start: Measure | Position,
        times: Sequence[float | int] | Float[Tensor, " times"],
        *,
        rtol: Tolerance = 1e-6,
        atol: Tolerance = 1e-9,
        value_below: float | Float[Tensor, " runs"] | None = None,
        until: Callable[[Measure], Tensor] | None = None,
        smallest: float = 0.0,
        max_steps: int = 100_000,
        after: IntegratorState | None = None,
    ) -> Iterator[MeasureMoment]:
        """The measure and its value at each of the times, with steps chosen by their error; see `measure_flow`.

        start: a Measure, or positions, which then share a mass of 1.
        """
        measure = _measure("ParticleFlow", start)
        return measure_flow(
            self.functional,
            measure,
            times,
            self.velocity,
            rtol=rtol,
            atol=atol,
            value_below=value_below,
            until=until,
            smallest=smallest,
            max_steps=max_steps,
            after=after,
        )

    def steps(
        self,
        start: Measure | Position,
        *,
        step: float | Float[Tensor, " runs"],
        iterations: int,
        record: Collection[int],
        batches: Callable[[int], tuple[Callable[[Any], Tensor], Callable[[Tensor], Tensor]]] | None = None,
        temperature: float | Float[Tensor, " runs"] = 0.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[int, Measure]]:
        """Fixed steps, with noise of a temperature if given; (iteration, measure) where recorded; see `measure_steps`.

        batches: called with 1, 2, ..., gives features and loss of the iteration: stochastic gradient descent. A step is
        in units of flow time: on m equal masses of 1/m it is m·step times the plain gradient.
        """
        function("ParticleFlow", batches=batches)
        if batches is not None and not isinstance(self.functional, FeatureRisk):
            raise ValueError("ParticleFlow needs features and a loss to put batches into; got another functional.")
        pair = partial(pair_of, "ParticleFlow", names="features, loss")
        return measure_steps(
            self.functional if batches is None else lambda i: FeatureRisk(*pair(batches(i)), **self._options),
            _measure("ParticleFlow", start),
            self.velocity,
            step=step,
            iterations=iterations,
            record=record,
            temperature=temperature,
            generator=generator,
        )

    def certify(
        self,
        measure: Measure,
        search: Search | Position,
        *,
        mass_bound: float | Float[Tensor, " runs"] | None = None,
        fixed_total: bool | None = None,
        signed: bool | None = None,
    ) -> Certificate:
        """How far F(measure) is at most from the minimum; proved only where the search bounds F', such as `boxes`.

        search: one of regimes.meanfield.searches, or points (1 or runs, points, *feature) that are tried. fixed_total:
        unless given, whether the velocity keeps the mass of a measure ≥ 0 and no mass_bound is given. signed: unless
        given, whether the measure has masses below 0. See `regimes.meanfield.certificate`.
        """
        require_measure("ParticleFlow.certify", measure)
        given("ParticleFlow.certify", search=search)
        signed = bool((measure.mass < 0).any()) if signed is None else signed
        keeps = self.velocity.growth == 0 or self.velocity.balanced
        if fixed_total is None:
            fixed_total = keeps and not signed and mass_bound is None
        found = search if callable(search) else candidates(search)
        return certify(self.functional, measure, found, mass_bound=mass_bound, fixed_total=fixed_total, signed=signed)


def _measure(caller: str, start: Any) -> Measure:
    if isinstance(start, Measure):
        require_measure(caller, start)
        return start
    if not isinstance(start, Tensor | tuple | list | dict):
        raise ValueError(f"{caller} needs a Measure, or positions (runs, m, *feature); got {type(start).__name__}.")
    require_position(caller, "position", start)
    return uniform(start)
