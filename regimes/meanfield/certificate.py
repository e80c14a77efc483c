"""How far a measure is at most from the global minimum of a convex functional: what its first variation proves.

Convexity along mixtures: F(ν) ≥ F(μ) + ∫F'[μ] d(ν − μ) for every ν. With v = min over θ of F'[μ](θ):
- over measures ν ≥ 0 of the total of μ:   F(ν) ≥ F(μ) − ∫F'dμ + total·v;
- over measures ν ≥ 0 of total at most M:  F(ν) ≥ F(μ) − ∫F'dμ + M·min(v, 0).
With a penalty λ|ν| every ν with F(ν) ≤ F(μ) has |ν| ≤ M = (F(μ) − min R)/λ, so the second one holds over all measures.
Signed measures are measures on Θ × {−1, 1}: there v is the lower one of min F' of positive and of negative mass.
For features that are 2-homogeneous F'(rθ) = r²F'(θ): then v is the minimum over the unit sphere, and M bounds ∫|θ|²dν.
The bound is as good as what is known of v: a search that bounds min F' from below proves it, one that only finds
low points does not. In floating point it holds up to rounding, about 1e-16 of the largest of the terms.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import function, kind, not_negative
from regimes.errors import RunFailed
from regimes.meanfield.forces import Functional
from regimes.meanfield.measure_flow import require_functional
from regimes.meanfield.measures import Measure, mixture, require_measure
from regimes.meanfield.positions import each
from regimes.meanfield.searches import Field, Found, Search


class Certificate(NamedTuple):
    """What is known of the distance to the minimum.

    value: F(μ). lower: no measure that was asked about has less, if `proved`. gap: value − lower, at least 0.
    worst: where F' is most negative, a position (runs, 1, *feature); sign: the sign of the mass to add there.
    lowest: F' there. mass_bound: M, or the total. proved: the search bounds min F' from below; if it does not, `lower`
    holds only if no point is lower than `worst`, and lowest < 0 still proves that μ is not optimal.
    """

    value: Float[Tensor, " runs"]
    lower: Float[Tensor, " runs"]
    gap: Float[Tensor, " runs"]
    worst: Any
    sign: Float[Tensor, " runs"]
    lowest: Float[Tensor, " runs"]
    mass_bound: Float[Tensor, " runs"]
    proved: bool


def certify(
    functional: Functional,
    measure: Measure,
    search: Search,
    *,
    mass_bound: float | Float[Tensor, " runs"] | None = None,
    fixed_total: bool = False,
    signed: bool = False,
) -> Certificate:
    """Value, lower bound and the point of most negative F', as the formulas of this module.

    search: finds low points of F', see `searches`. mass_bound: M, one or one a run; unless given it follows from the
    penalty of the functional. fixed_total: compare with measures of the same total, such as probability measures.
    signed: compare with measures of either sign. A functional that is seen not to be convex is refused.
    Sources: [ChizatBach2018] (optimality), [Lu2020] (convexity along mixtures).
    """
    require_functional("certify", functional)
    require_measure("certify", measure, signed=signed)
    function("certify", search=search)
    kind("certify", "fixed_total", fixed_total, bool, "True or False")
    kind("certify", "signed", signed, bool, "True or False")
    if fixed_total and (signed or mass_bound is not None):
        raise ValueError("certify needs fixed_total alone, without signed and mass_bound; got both. Leave one out.")
    value, variation = functional.value(measure), functional.variation(measure)
    if not bool(value.isfinite().all() and variation.isfinite().all()):
        raise RunFailed("certify: F or F' of the measure is not finite.")
    bound = measure.total() if fixed_total else _mass_bound(functional, measure, value, mass_bound)
    found, sign = _lowest(functional, measure, search, signed)
    here = (measure.mass * variation).sum(1)
    proved = found.bound is not None
    least = found.value if found.bound is None else torch.minimum(found.bound, found.value)
    change = bound * (least if fixed_total else least.clamp_max(0))
    _require_convex(functional, measure, value, value - here, found, sign, bound)
    lower = value - here + change
    floor = getattr(functional, "at_least", None)
    if floor is not None:
        lower = lower.clamp_min(floor)
    lower = torch.minimum(lower, value)
    return Certificate(value, lower, value - lower, found.position, sign, found.value, bound, proved)


def _lowest(functional: Functional, measure: Measure, search: Search, signed: bool) -> tuple[Found, Tensor]:
    """The lowest point that was found, and the sign of the mass that it is for."""
    found = _searched(search, Field(functional, measure))
    plus = torch.ones_like(found.value)
    if not signed:
        return found, plus
    other = _searched(search, Field(functional, measure, sign=-1.0))
    first = found.value <= other.value

    def chosen(one: Tensor, two: Tensor) -> Tensor:
        return torch.where(first.reshape(-1, *[1] * (one.ndim - 1)), one, two)

    bound = None if found.bound is None or other.bound is None else torch.minimum(found.bound, other.bound)
    position = each(chosen, found.position, other.position)
    return Found(position, chosen(found.value, other.value), bound), torch.where(first, plus, -plus)


def _searched(search: Search, field: Field) -> Found:
    found = search(field)
    kind("certify", "what the search returns", found, Found, "a Found(position, value, bound)")
    if not bool(found.value.isfinite().all()):
        raise RunFailed("certify: F' is not finite at a point of the search.")
    return found


def _mass_bound(
    functional: Functional, measure: Measure, value: Tensor, given: float | Tensor | None
) -> Float[Tensor, " runs"]:
    if given is not None:
        not_negative("certify", "mass_bound", given)
        bound = torch.as_tensor(given, dtype=value.dtype, device=value.device)
        if tuple(bound.shape) not in ((), (measure.runs,)):
            raise ValueError(
                f"certify needs one mass_bound, or one for each of the {measure.runs} runs; got {tuple(bound.shape)}."
            )
        return bound.expand(measure.runs)
    known = getattr(functional, "mass_bound", None)
    bound = None if known is None else known(value)
    if bound is None:
        raise ValueError(
            "certify needs a bound on the mass of what the measure is compared with, as this functional has no penalty "
            "on mass that gives one. Pass mass_bound=, or fixed_total=True."
        )
    return bound


def _require_convex(
    functional: Functional,
    measure: Measure,
    value: Tensor,
    start: Tensor,
    found: Found,
    sign: Tensor,
    bound: Tensor,
) -> None:
    """Refuse a functional that lies below its tangent on the way to M δ_worst."""
    other = Measure(found.position, (sign * bound)[:, None])
    slope = start + bound * found.value - value
    allowed = (1e-7 if value.dtype == torch.float64 else 1e-3) * (value.abs() + start.abs() + slope.abs())
    for share in (0.01, 0.1, 0.5, 1.0):
        there, tangent = functional.value(mixture(measure, other, share)), value + share * slope
        if bool((there < tangent - allowed).any()):
            run = int((there < tangent - allowed).nonzero()[0])
            raise ValueError(
                f"certify needs a convex functional; in run {run} it is {float(there[run]):.6g} at a measure where "
                f"convexity says at least {float(tangent[run]):.6g}. Its gap would prove nothing."
            )
