"""The exponents of every point of the plane, seed by seed, and what is judged of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.phase_diagram.theory import Region, boundary, exponent, one_sample_exponent, region
from regimes.experiments.lazy.planes import crossing, exponents_over, of_points
from regimes.lab.numbers import Number, mean, means, share

if TYPE_CHECKING:
    from pandas import DataFrame

AXES = ("gamma", "gamma_prime")
COLUMNS = ("motion", "motion_coarse")
STRENGTH = 1.0  # of the one-sample formula that measured exponents are set beside


def exponents(rows: "DataFrame", column: str = COLUMNS[0]) -> Any:
    """The exponent of the motion by γ, γ' and seed; NaN where a training did not come down to its risk."""
    ended = {column: rows[column].where(rows.stopped > 0)}
    return exponents_over(rows.assign(**ended), AXES, column)


def deviations(found: Any, inside: Region) -> Any:
    """Measured − derived exponent, the mean over the points inside a region, by seed."""
    apart = found - [exponent(gamma, gamma_prime) for gamma, gamma_prime, _ in found.index]
    chosen = [region(gamma, gamma_prime) is inside for gamma, gamma_prime, _ in found.index]
    return means(apart[chosen].groupby(level="seed"))


def zeros(found: Any) -> Any:
    """The measured boundary: γ at which the exponent is 0, by γ' and seed."""
    columns = found.groupby(level=["gamma_prime", "seed"])
    return columns.agg(lambda some: crossing(some.index.get_level_values("gamma").to_numpy(), some.to_numpy()))


def boundary_errors(found: Any, *, positive: bool) -> Any:
    """Measured − theoretical γ of the boundary, the mean over the γ' of one sign, by seed; NaN if one has no zero."""
    places = zeros(found)
    apart = places - [boundary(gamma_prime) for gamma_prime, _ in places.index]
    chosen = (places.index.get_level_values("gamma_prime") > 0) == positive
    return means(apart[chosen].groupby(level="seed"))


def with_error(found: Sequence[Any], quantity: Callable[[Any], Any]) -> Number | None:
    """Mean over seeds of what `quantity` makes of the exponents; found: those of the fine and the coarse integration.

    Its error is the difference between the two.
    """
    fine, coarse = (mean(quantity(some).to_numpy(dtype=float)) for some in found)
    if fine is None or coarse is None:
        return None
    return Number.of(fine.estimate, 0.0 if np.isnan(fine.value) else abs(fine.value - coarse.value))


def merits(rows: "DataFrame") -> dict[str, float | Number | None]:
    """How far single points lie from theory, on how many the sign is right, and how the trainings ended."""
    found = {point: number.value for point, number in of_points(exponents(rows)).items()}
    output = {point: number.value for point, number in of_points(exponents(rows, "output_motion")).items()}
    if not found:
        return {}
    widths = sorted({int(width) for width in rows.width})
    apart = np.array([value - exponent(*point) for point, value in found.items()])
    formula = np.array([value - one_sample_exponent(widths, *point, STRENGTH) for point, value in found.items()])
    other = np.array([value - exponent(gamma, -prime) for (gamma, prime), value in output.items()])
    clear = [(value, exponent(*point)) for point, value in found.items() if abs(exponent(*point)) > 1e-9]
    return {
        "points of the plane": float(len(found)),
        "measured − derived, root mean square over the points": float(np.sqrt((apart**2).mean())),
        "measured − derived, largest": float(np.abs(apart).max()),
        "measured − one-sample formula at these widths, root mean square": float(np.sqrt((formula**2).mean())),
        "output weights: measured − derived with −γ' for γ', root mean square": float(np.sqrt((other**2).mean())),
        "share of points off the boundary with the right sign": share(
            [a * b > 0 for a, b in clear], of=[a * b for a, b in clear]
        ),
        "share of trainings that reached their risk": mean(rows.stopped),
    }
