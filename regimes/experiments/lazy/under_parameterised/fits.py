"""The fit of a geometric rate to the approach of each run to its limit.

The rate is fitted where ‖f(t) − f_∞‖ is between HIGH and LOW times its start: 6 decades, 12 of the excess risk. Its
integration error is the change of the fit at the coarser tolerance.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

HIGH, LOW = 1e-3, 1e-9


class Fit(NamedTuple):
    """Straight line through log distance against time: rate (in units of λ), r², decades of the distance covered."""

    rate: float
    r2: float
    decades: float


def fit(time: np.ndarray, distance: np.ndarray) -> Fit:
    """Least squares where the distance lies between LOW and HIGH; NaN where fewer than four do, or one is not known."""
    if np.isnan(time + distance).any():
        return Fit(np.nan, np.nan, np.nan)
    inside = (distance < HIGH) & (distance > LOW)
    if inside.sum() < 4:
        return Fit(np.nan, np.nan, 0.0)
    t, y = time[inside], np.log(distance[inside])
    r2 = float(np.corrcoef(t, y)[0, 1] ** 2)
    return Fit(float(-np.polyfit(t, y, 1)[0]), r2, float(np.ptp(y) / np.log(10)))


def fits(rows: "DataFrame") -> "DataFrame":
    """One row a run: the fit, its error, and what holds at the limit."""
    import pandas

    made = []
    for _, run in rows.groupby(["alpha", "seed"]):
        first = run.iloc[0]
        rate, r2, decades = fit(run.time.to_numpy(), run.distance.to_numpy())
        loose = fit(run.time.to_numpy(), run.distance_coarse.to_numpy()).rate
        made.append(
            {
                "alpha": first.alpha,
                "seed": first.seed,
                "rate": rate,
                "error": abs(rate - loose),
                "r2": r2,
                "decades": decades,
            }
            | first[["curvature", "gradient", "polish", "risk", "tangent_risk", "tangent_distance"]].to_dict()
            | {"rank": run[["rank_start", "rank_end"]].to_numpy().min()}
        )
    return pandas.DataFrame(made)
