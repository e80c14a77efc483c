"""Is it an OT map? Thresholds, and the verdict in words from measured figures alone.

Exact evidence: a cheaper pairing of the same points disproves optimality, whatever the space. Infinitesimal evidence:
where the law of the points has a density, an OT map for p = 2 is the gradient of a convex function (Brenier), so a
Jacobian that is not symmetric or not positive disproves it too. Points that come out of an encoder with fewer inputs
fill no more dimensions than these: there the form Dφᵀ M Dφ on the inputs decides, and off the image nothing follows.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

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

OPTIMAL, NOT_OPTIMAL, UNDECIDED = "optimal as far as seen", "not optimal", "undecided"
# Brenier's test alone objects. Data such as images may fill less than the space of the inputs, and there a map may be
# optimal on them without being a gradient around them: this is said of laws with a density only.
NOT_A_GRADIENT = "not a gradient map"
Figures = Mapping[str, Any]


class Verdict(NamedTuple):
    """One of the four above; the sentence; and what each kind of evidence says for itself."""

    verdict: str
    words: str
    exact: str  # gap, no gap, unknown
    infinitesimal: str  # violated, satisfied, unclear


class Local(NamedTuple):
    """What Brenier's test says, the figure that decides, and where it was taken."""

    outcome: str
    words: str


def judge(figures: Figures) -> Verdict:
    """The verdict on one map."""
    if figures["cost_network"] == 0:
        words = "an OT map: it moves none of these points, and standing still costs nothing"
        return Verdict(OPTIMAL, words, "no gap", "satisfied")
    exact, gap = _exact(figures)
    local = _local(figures)
    blind = _blind(figures)
    if exact == "gap":
        verdict, words = NOT_OPTIMAL, f"not an OT map: {gap}; Brenier's test: {local.words}"
    elif local.outcome == "violated":
        verdict = NOT_A_GRADIENT
        words = (
            f"not the gradient of a convex function, so not an OT map of any law with a density around these points "
            f"(Brenier's test): {local.words}; on the points themselves {gap}{blind}"
        )
    elif exact == "no gap" and local.outcome == "satisfied":
        verdict, words = OPTIMAL, f"an OT map as far as these tests see: {gap}; {local.words}{_seen(figures)}"
    else:
        verdict, words = UNDECIDED, f"undecided: {gap}; {local.words}{blind}"
    return Verdict(verdict, f"{words}{_off_image(figures)}", exact, local.outcome)


def _exact(figures: Figures) -> tuple[str, str]:
    cost, low, high = figures["cost_network"], figures["gap_low"], figures["gap_high"]
    if figures["certified"]:
        relative = figures["relative_gap"]
        if relative > RELATIVE_GAP:
            return "gap", (
                f"another pairing of these points costs {100 * relative:.3g} % less "
                f"(relative gap {relative:.3g}, certified, threshold {RELATIVE_GAP:g})"
            )
        return "no gap", f"no pairing of these points is cheaper (relative gap {relative:.2g}, certified)"
    bracket = f"exact OT was stopped early: the relative gap is in [{max(low, 0) / cost:.3g}, {high / cost:.3g}]"
    if low / cost > RELATIVE_GAP:
        return "gap", f"{bracket}, and its low end is a pairing that is cheaper (threshold {RELATIVE_GAP:g})"
    return "unknown", bracket


def _local(figures: Figures) -> Local:
    """Brenier's test where it decides: along the image of the encoder if that cannot fill the space."""
    name = "image" if figures.get("image_asymmetry") is not None else "brenier"
    where = ", along the image of the encoder" if name == "image" else ""
    value, error = figures[f"{name}_asymmetry"], figures[f"{name}_asymmetry_se"] or 0.0
    if value is None and "no point moves" in (figures.get("brenier_missing") or ""):
        return Local("unclear", "none of the points that Brenier's test looks at moves, so that it says nothing")
    if value is None:
        return Local("satisfied", "the map is constant near the points, there is no asymmetry")
    least, size = figures["image_min_eigenvalue" if name == "image" else "min_eigenvalue"], figures[f"{name}_size"]
    text = f"asymmetry {value:.3g} ± {error:.1g}{where}"
    if math.isnan(value):
        return Local("unclear", f"the asymmetry{where} is NaN, its derivatives overflow: nothing follows")
    if value - STANDARD_ERRORS * error > ASYMMETRY:
        skew = f"a skew part of {100 * math.sqrt(value):.2g} % of the symmetric one"
        return Local("violated", f"its Jacobian is not symmetric ({text}, {skew}; threshold {ASYMMETRY:g})")
    if least is not None and math.isfinite(least) and least < EIGENVALUE * size:
        return Local(
            "violated",
            f"it is not monotone (least eigenvalue {least:.3g} of the symmetric part{where}, "
            f"threshold {EIGENVALUE * size:.2g}; {text})",
        )
    if value + STANDARD_ERRORS * error > ASYMMETRY:
        return Local("unclear", f"{text} is within {STANDARD_ERRORS:g} errors of the threshold {ASYMMETRY:g}")
    return Local("satisfied", f"{text}, least eigenvalue {least:.3g}")


def _sees(figures: Figures, name: str) -> dict[str, float | None]:
    return (figures.get("power") or {}).get(name) or {}


def _blind(figures: Figures) -> str:
    """A gap of 0 is said to be worth nothing where not even a departure as large as the displacement shows."""
    sees = _sees(figures, "gap_sees")
    if figures["certified"] and sees and all(least is None for least in sees.values()):
        return (
            f" (the gap is blind here: in d = {figures['dim']} with {figures['points']} points not even a departure as "
            "large as the displacement itself shows)"
        )
    return ""


def _seen(figures: Figures) -> str:
    """The smallest departures that would have shown."""
    parts = []
    for test, name in (("the gap", "gap_sees"), ("Brenier's test", "brenier_sees")):
        sees = _sees(figures, name)
        seen = [f"{kind} from {least:g}" for kind, least in sees.items() if least is not None]
        if name == "brenier_sees" and figures.get("image_asymmetry") is not None:
            test = "Brenier's test over all directions"  # the power is not measured along the image alone
        if sees:
            parts.append(f"{test} {', '.join(seen) if seen else 'nothing: it is blind here'}")
    return f"; of the displacement's size would have shown: to {'; to '.join(parts)}" if parts else ""


def _off_image(figures: Figures) -> str:
    value = figures.get("brenier_asymmetry")
    if figures.get("image_asymmetry") is None or value is None:
        return ""
    return (
        f". Over all {figures['dim']} directions of the states, of which the points fill {figures['inputs']} at most, "
        f"the asymmetry is {value:.3g}: that alone would decide nothing"
    )
