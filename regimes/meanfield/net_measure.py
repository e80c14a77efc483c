"""Two-layer nets as functionals of the measure of their neurons: the masses stand in the place of the scale.

μ = Σ_j mass_j δ(a_j, b_j) is the net h = Σ_j mass_j a_j σ(b_j·x), with equal masses 1/m that of the 1/m scaling, and
F(μ) = F_α = R(f)/α². Its first variation F'[μ](a, b) = a·(mean_n residual σ(b·x)) is linear in a: over all of space it
has no least value, and certificates compare on the unit sphere of (a, b), where σ is homogeneous (ReLU), or on |a| ≤ 1.
Everything comes from the closed form of `risk_and_gradient`. At other points, and at neurons without mass, it is asked
of a pair of probes (a, b), (−a, b), which are together no change of the net. A centre is the net of the equal masses
1/(its own width), however many particles the measure has.

The functions below are methods of the risks that have a `scale` and an `alpha`: TwoLayerRisk and PopulationRisk.
"""

from copy import copy
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, kind, shapes
from regimes.meanfield.forces import Forces, vanishes
from regimes.meanfield.measures import Measure
from regimes.meanfield.particles import Particles
from regimes.meanfield.positions import require_position


@runtime_checkable
class NetRisk(Protocol):
    """A risk of two-layer nets."""

    alpha: Any
    scale: float | None

    def risk(self, particles: Particles) -> Tensor: ...

    def risk_and_gradient(self, particles: Particles, out: Particles | None = None) -> tuple[Tensor, Particles]: ...


def value(self: NetRisk, measure: Measure) -> Float[Tensor, " runs"]:
    """F_α of the net of the measure, whose position is Particles."""
    risk, particles = _net(self, measure)
    return _scaled(self, risk.risk(particles))


def variation(self: NetRisk, measure: Measure, at: Particles | None = None) -> Float[Tensor, "runs points"]:
    """F'[μ] at its own neurons, or at others."""
    return value_and_forces(self, measure).variation if at is None else forces_at(self, measure, at)[0]


def value_and_forces(self: NetRisk, measure: Measure) -> Forces:
    """F_α, F' and ∇F' at its neurons; with equal masses 1/m ∇F' = m ∇F_α, so that −∇F' is the particle flow."""
    risk, particles = _net(self, measure)
    found, gradient = risk.risk_and_gradient(particles)
    output = gradient.output.mul_(measure.size)
    along = (measure.position.output * output).sum(2)
    if vanishes(measure.mass):
        slopes = forces_at(self, measure, measure.position)[1]
    else:
        slopes = Particles(output, gradient.input.div_(measure.mass[..., None]))
    return Forces(_scaled(self, found), along, slopes)


def forces_at(self: NetRisk, measure: Measure, at: Particles) -> tuple[Float[Tensor, "runs points"], Particles]:
    """F' and ∇F' at other neurons."""
    risk, particles = _net(self, measure)
    kind(type(self).__name__, "at", at, Particles, "Particles")
    require_position(type(self).__name__, "at", at, like=particles, runs=measure.runs)
    probes = Particles(at.output, at.input).join(Particles(-at.output, at.input))
    _, gradient = risk.risk_and_gradient(particles.join(probes))
    own = slice(measure.size, measure.size + at.width)
    slopes = Particles(*(measure.size * part[:, own] for part in gradient))
    return (at.output * slopes.output).sum(2), slopes


def _net(risk: NetRisk, measure: Measure) -> tuple[NetRisk, Particles]:
    """The risk with the scale 1/m, whatever will be joined, and neurons of output weights m·mass_j a_j."""
    caller = type(risk).__name__
    kind(caller, "the measure", measure, Measure, "a Measure(Particles, mass)")
    kind(caller, "the positions of the measure", measure.position, Particles, "Particles")
    # finite or not is seen in the result; a look at it would take as long as a small step
    runs, m = measure.position.output.shape[:2]
    shapes(caller, mass=(measure.mass, f"{runs} {m}"), cure="Masses are (runs, m), one for each particle")
    alike(caller, position=measure.position.output, mass=measure.mass)
    if risk.scale is not None:
        raise ValueError(
            f"{caller} needs to be made without scale where it is asked about measures, as their masses are the scale; "
            f"got scale={risk.scale}. Leave it out."
        )
    of_mass = copy(risk)
    of_mass.scale = 1 / measure.size
    centre = getattr(risk, "centre", None)
    if centre is not None:
        vars(of_mass)["centre"] = centre._replace(output=centre.output * (measure.size / centre.width))
    position = measure.position
    return of_mass, Particles(position.output * (measure.size * measure.mass)[..., None], position.input)


def _scaled(risk: NetRisk, value: Tensor) -> Tensor:
    """F_α = R/α², run by run."""
    alpha = risk.alpha.flatten() if isinstance(risk.alpha, Tensor) else risk.alpha
    return value / (alpha * alpha)
