"""Is it an OT map? Thresholds, and the verdict in words from the parts that were measured, and from nothing else.

Exact evidence: a cheaper pairing of the same points disproves optimality, whatever the space. Infinitesimal evidence:
where the law of the points has a density, an OT map for p = 2 is the gradient of a convex function (Brenier), so a
Jacobian that is not symmetric or not positive disproves it too. Points that come out of an encoder with fewer inputs
fill no more dimensions than these: there the form Dφᵀ M Dφ on the inputs decides, and off the image nothing follows.
A gap of 0 is evidence only where maps that are wrong would have left one: that is what the statistical power says.
"""

import math
from typing import NamedTuple

from regimes.transport.brenier import CONSTANT, BrenierTest
from regimes.transport.pairing import Gap
from regimes.transport.power import Power

# A relative gap above this is a gap. Certificates are proved to 1e-9 and float64 states round at 1e-16, so that what
# is left between cannot be an accident of the arithmetic; the power is counted against the same number.
RELATIVE_GAP = 1e-6
# Asymmetry is a mean square: tan² of the angle for a rotation. Below this the skew part is under 1 % of the symmetric
# one, a turn by half a degree; float32 products alone give 1e-12.
ASYMMETRY = 1e-4
STANDARD_ERRORS = 3.0  # by which an asymmetry has to clear ASYMMETRY, to either side
# Least eigenvalue of the symmetric part, in units of its root mean square one: negative beyond this is not rounding
# (1e-6 in float32 after 32 Lanczos steps).
EIGENVALUE = -1e-3

OPTIMAL, NOT_OPTIMAL, UNDECIDED = "optimal as far as these tests see", "not optimal", "undecided"
# Brenier's test alone objects. Data such as images may fill less than the space of the inputs, and there a map may be
# optimal on them without being a gradient around them: this is said of laws with a density only.
NOT_A_GRADIENT = "not a gradient map"
# No gap, no other test, and maps that are as wrong as they can be at this size would leave no gap either.
BLIND = "blind"


class Verdict(NamedTuple):
    """One of the five above; the sentence; and what each kind of evidence says for itself."""

    verdict: str
    words: str
    exact: str  # gap, no gap, unknown
    infinitesimal: str  # violated, satisfied, unclear, untested


class _Local(NamedTuple):
    """What Brenier's test says, the number that decides, and where it was taken."""

    outcome: str
    words: str


def judge(
    gap: Gap,
    test: BrenierTest | None = None,
    *,
    image: BrenierTest | None = None,
    inputs: int | None = None,
    missing: str | None = None,
    power: Power | None = None,
) -> Verdict:
    """The verdict on one map.

    `test` is Brenier's over all directions, `image` the same along the image of an encoder with that many `inputs`,
    which decides where it is given. `missing` says why there is no test although the map is known
    (`NoJacobianTest.reason`).
    """
    if gap.cost_network == 0:
        words = "an OT map: it moves none of these points, and standing still costs nothing"
        return Verdict(OPTIMAL, words, "no gap", "satisfied")
    exact, found = _exact(gap)
    local = _local(test, image, missing)
    blind = _blind(gap, power)
    if exact == "gap":
        said = "" if local.outcome == "untested" else f"; Brenier's test: {local.words}"
        verdict, words = NOT_OPTIMAL, f"not an OT map: {found}{said}"
    elif local.outcome == "violated":
        verdict = NOT_A_GRADIENT
        words = (
            f"not the gradient of a convex function, so not an OT map of any law with a density around these points "
            f"(Brenier's test): {local.words}; on the points themselves {found}{blind and f' ({blind})'}"
        )
    elif exact == "no gap" and local.outcome == "satisfied":
        verdict, words = OPTIMAL, f"an OT map as far as these tests see: {found}; {local.words}{_seen(power, image)}"
    elif exact == "no gap" and local.outcome == "untested" and power is not None:
        verdict, words = OPTIMAL, f"an OT map as far as this test sees: {found}{_seen(power, image)}"
        if power.unseen:
            verdict, words = BLIND, f"{found}, but {blind}. Give T as a callable for Brenier's test"
    else:
        said = local.words if local.outcome != "untested" or missing else "what the gap could see was not measured"
        verdict, words = UNDECIDED, f"undecided: {found}; {said}{blind and f' ({blind})'}"
    return Verdict(verdict, f"{words}{_off_image(gap, test, image, inputs)}", exact, local.outcome)


def _exact(gap: Gap) -> tuple[str, str]:
    if gap.relative_gap is not None:
        if gap.relative_gap > RELATIVE_GAP:
            return "gap", (
                f"another pairing of these points costs {100 * gap.relative_gap:.3g} % less "
                f"(relative gap {gap.relative_gap:.3g}, certified, threshold {RELATIVE_GAP:g})"
            )
        return "no gap", f"no pairing of these points is cheaper (relative gap {gap.relative_gap:.2g}, certified)"
    low, high = max(gap.relative_low, 0), gap.relative_high
    bracket = f"exact OT was stopped early: the relative gap is in [{low:.3g}, {high:.3g}]"
    if low > RELATIVE_GAP:
        return "gap", f"{bracket}, and its low end is a pairing that is cheaper (threshold {RELATIVE_GAP:g})"
    return "unknown", bracket


def _local(test: BrenierTest | None, image: BrenierTest | None, missing: str | None) -> _Local:
    """Brenier's test where it decides: along the image of the encoder if that cannot fill the space."""
    found, where = (image, ", along the image of the encoder") if image is not None else (test, "")
    if found is None:
        if missing == CONSTANT:
            return _Local("satisfied", "the map is constant near the points, there is no asymmetry")
        text = f"Brenier's test says nothing: {missing}" if missing else "Brenier's test was not made"
        return _Local("unclear" if missing else "untested", text)
    error = found.asymmetry_se if math.isfinite(found.asymmetry_se) else 0.0
    value, least = found.asymmetry, found.min_eigenvalue
    text = f"asymmetry {value:.3g} ± {error:.1g}{where}"
    if math.isnan(value):
        return _Local("unclear", f"the asymmetry{where} is NaN, its derivatives overflow: nothing follows")
    if value - STANDARD_ERRORS * error > ASYMMETRY:
        if math.isinf(value):
            return _Local("violated", f"its Jacobian is antisymmetric{where}: it has no symmetric part")
        skew = f"a skew part of {100 * math.sqrt(value):.2g} % of the symmetric one"
        return _Local("violated", f"its Jacobian is not symmetric ({text}, {skew}; threshold {ASYMMETRY:g})")
    if math.isfinite(least) and least < EIGENVALUE * found.size:
        return _Local(
            "violated",
            f"it is not monotone (least eigenvalue {least:.3g} of the symmetric part{where}, "
            f"threshold {EIGENVALUE * found.size:.2g}; {text})",
        )
    if value + STANDARD_ERRORS * error > ASYMMETRY:
        return _Local("unclear", f"{text} is within {STANDARD_ERRORS:g} errors of the threshold {ASYMMETRY:g}")
    return _Local("satisfied", f"{text}, least eigenvalue {least:.3g}")


def _blind(gap: Gap, power: Power | None) -> str:
    """Why a gap of 0 is worth nothing, where departures as large as the displacement do not show; else nothing."""
    if power is None or not power.unseen or not gap.certified:
        return ""
    return (
        f"the gap is blind here: in d = {gap.dim} with {gap.points} points {' and '.join(power.unseen)} as large as "
        "the displacements themselves would leave no gap either"
    )


def _seen(power: Power | None, image: BrenierTest | None) -> str:
    """The smallest departures that would have shown."""
    if power is None:
        return ""
    parts = []
    for name, sees in (("the gap", power.gap_sees), ("Brenier's test", power.brenier_sees)):
        seen = [f"{kind} from {least:g}" for kind, least in sees.items() if least is not None]
        if name != "the gap" and image is not None:
            name = "Brenier's test over all directions"  # the power is not measured along the image alone
        if sees:
            parts.append(f"{name} would have seen {', '.join(seen) if seen else 'nothing: it is blind here'}")
    return f"; in units of the root mean square displacement, {'; '.join(parts)}" if parts else ""


def _off_image(gap: Gap, test: BrenierTest | None, image: BrenierTest | None, inputs: int | None) -> str:
    if image is None or test is None:
        return ""
    fill = f"of which the points fill {inputs} at most, " if inputs is not None else ""
    return (
        f". Over all {gap.dim} directions of the states, {fill}the asymmetry is {test.asymmetry:.3g}: "
        "that alone would decide nothing"
    )
