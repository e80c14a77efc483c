"""What theory says of a point of the plane, and the exponents that are judged."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from regimes.experiments.lazy.planes import crossing, exponents_over, of_points
from regimes.lab.numbers import Number, mean, means

if TYPE_CHECKING:
    from pandas import DataFrame

AXES = ("readout", "hidden")
NTK, MAXIMAL_UPDATE = (0.5, 0.5), (1.0, 0.0)
_ROUNDING = 1e-9


def richness(s: float, a: float) -> float:
    """r = min(a_{L+1} + b_{L+1}, 2a_{L+1} + c) + c − 1 + min_l (2a_l + [l = 1]) of [YangHu2021], on this plane."""
    return min(s, 1.0) - 1 + 2 * a


def stable(s: float, a: float) -> bool:
    """Whether outputs and features stay bounded: r ≥ 0 and a_{L+1} + b_{L+1} + r ≥ 1, with s ≥ 1/2."""
    r = richness(s, a)
    return s >= 0.5 and r >= -_ROUNDING and s + r >= 1 - _ROUNDING


def boundary(s: float) -> float:
    """The least a at which nets are stable: 1 − s, and 0 for s ≥ 1."""
    return max(1 - s, 0.0)


def exponents(rows: "DataFrame", column: str = "feature") -> Any:
    """The exponent of a column by s, a and seed."""
    return exponents_over(rows, AXES, column)


def _where(found: Any, holds: Callable[[float, float], bool]) -> Any:
    return found[np.array([holds(s, a) for s, a, _ in found.index], dtype=bool)]


def deviation(found: Any, holds: Callable[[float, float], bool]) -> Number | None:
    """Exponent of the features' change + r, mean over the points where this holds, over the seeds."""
    some = _where(found, holds)
    apart = some + [richness(s, a) for s, a, _ in some.index]
    return mean(means(apart.groupby(level="seed")).to_numpy(dtype=float))


def average(found: Any, holds: Callable[[float, float], bool]) -> Number | None:
    """The exponent itself, mean over the points where this holds, over the seeds."""
    return mean(means(_where(found, holds).groupby(level="seed")).to_numpy(dtype=float))


def stability(rows: "DataFrame") -> Any:
    """By s ≤ 1 and seed: a at which the first step's features move the output at exponent 0, by straight lines."""
    found = _where(exponents(rows, "read"), lambda s, _: s <= 1)
    return found.groupby(level=["readout", "seed"]).agg(
        lambda some: -crossing(-some.index.get_level_values("hidden").to_numpy()[::-1], some.to_numpy()[::-1])
    )


def stability_error(rows: "DataFrame") -> Number | None:
    """Measured − theoretical a of the boundary of stability, mean over s ≤ 1 and seeds; NaN if one has no zero."""
    places = stability(rows)
    apart = places - [boundary(s) for s, _ in places.index]
    return mean(means(apart.groupby(level="seed")).to_numpy(dtype=float))


def vanishing(found: Any) -> Any:
    """By s ≥ 1 and seed: a at which the straight line through the features' exponents at a ≥ 0 is 0."""
    some = _where(found, lambda s, a: s >= 1 and a >= 0)

    def zero(line: pandas.Series) -> float:
        places = line.index.get_level_values("hidden").to_numpy(dtype=float)
        if len(places) < 2:
            return float("nan")
        slope, height = np.polyfit(places, line.to_numpy(dtype=float), 1)
        return float(-height / slope)

    return some.groupby(level=["readout", "seed"]).agg(zero)


def vanishing_error(found: Any) -> Number | None:
    """a at which the features' exponent vanishes, mean over s ≥ 1, over the seeds."""
    return mean(means(vanishing(found).groupby(level="seed")).to_numpy(dtype=float))


def merits(rows: "DataFrame") -> dict[str, float]:
    """How far single points lie from theory, and how far nets were trained."""
    found = {point: one.value for point, one in of_points(exponents(rows)).items() if stable(*point)}
    if not found:
        return {}
    apart = np.array([value + richness(*point) for point, value in found.items()])
    trained = rows[[stable(s, a) for s, a in zip(rows.readout, rows.hidden, strict=True)]]
    return {
        "stable points": float(len(found)),
        "exponent of the features + r, root mean square over the points": float(np.sqrt((apart**2).mean())),
        "exponent of the features + r, largest": float(np.abs(apart).max()),
        "share of the risk left at stable points, median": float(np.median(trained.share)),
    }
