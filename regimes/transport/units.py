"""A unit of length in which float64 can hold the costs ‖x − y‖^p of two clouds, and the way back.

Float64 ends at 1e308 and 1e-308: at p = 2 points 1e-165 apart would cost 0, at p = 50 points 1e-7 apart. Units are
powers of two, so that a change of unit changes no digit of a coordinate.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from regimes.transport.cost import Matrix, extent

COMFORT = 200.0  # decimal exponent up to which costs, their sums and products are far from the ends of float64
TOP = 250.0  # of the largest cost, where the small ones need all the room below
LEAST = 1e-280  # a mean cost below this may have lost its digits


def unit_of(x: Matrix, y: Float[np.ndarray, "m d"], p: float) -> float:
    """1.0 where costs are comfortable in the units of the points; otherwise about the extent of the clouds."""
    size = extent(x, y)
    return 1.0 if math.isinf(size) or abs(max(p, 2) * size) < COMFORT else _power_of_two(size)


def finest_unit(x: Matrix, y: Float[np.ndarray, "m d"], p: float) -> float:
    """The unit in which the largest possible cost is 1e250, and small ones are as far as can be from 0."""
    size = extent(x, y)
    return 1.0 if math.isinf(size) else _power_of_two(size - TOP / max(p, 2))


def lost(mean_cost: float, x: Matrix, y: Matrix) -> bool:
    """Whether the mean cost of the pairs (x_i, y_i) has underflowed, or may have: they differ, and cost next to 0."""
    return mean_cost < LEAST and bool((x != y).any())


def no_room(caller: str, p: float) -> ValueError:
    """The error for clouds whose costs no unit can hold together."""
    return ValueError(
        f"{caller} needs costs that float64 can hold together; at p = {p:g} those of the nearest partners vanish "
        "beside those of the farthest points. Lower p, or leave out the points that lie far off."
    )


def converted(value: Any, unit: float, p: float) -> Any:
    """A cost that was measured in unit^p in the units of the points, value · unit^p; 0 or inf where it does not fit."""
    exponent = p * math.log2(unit)
    whole = math.floor(exponent)
    with np.errstate(over="ignore", under="ignore"):
        found = np.ldexp(value, whole) * 2.0 ** (exponent - whole)
    return found if isinstance(value, np.ndarray) else float(found)


def fits(unit: float, p: float, largest: float, *costs: float) -> bool:
    """Whether costs measured in unit^p keep their digits in the units of the points, the largest being 10^largest."""
    held = [converted(cost, unit, p) for cost in costs if cost > 0]
    return p * largest < 290 and all(1e-290 < cost < 1e290 for cost in held)


def _power_of_two(decimal: float) -> float:
    return 2.0 ** min(max(round(decimal / math.log10(2)), -1070), 1020)
