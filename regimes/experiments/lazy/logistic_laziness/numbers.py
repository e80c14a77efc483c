"""Exponents in α and in log t, and the times at which a net has left its tangent model, from the rows."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.logistic_laziness.config import LOGISTIC
from regimes.lab.numbers import Number, cells, each, geometric_mean, mean, slope

if TYPE_CHECKING:
    from pandas import DataFrame

LARGE = 1000.0  # from this α on exponents in α are fitted
FIXED = 10.0  # the fixed log t
LATE = (100.0, 1000.0)  # log t for growth, at the largest α
LEFT = 0.1  # share at which a net has left: the limit of regimes.diagnose
QUANTITIES = {  # column: in tables, in figures
    "weights": ("‖w − w₀‖", r"$\|w - w_0\|$"),
    "departure": ("‖w − w̄‖", r"$\|w - \bar w\|$"),
    "train": ("‖f − f̄‖, training points", r"$\|f - \bar f\|$, training points"),
    "held_out": ("‖f − f̄‖, other points", r"$\|f - \bar f\|$, other points"),
}
SHARES = {  # what passes LEFT, relative to what
    "weights": ("initial", r"$\|w - w_0\|/\|w_0\|$"),
    "held_out": ("held_out_size", r"$\|f - \bar f\|/\|\bar f\|$, other points"),
}


def fixed(column: str) -> str:
    """The words of a prediction at a fixed time."""
    return f"log t = 10: exponent in α of {QUANTITIES[column][0]}"


def grows(loss: str, column: str) -> str:
    """The words of a prediction on growth."""
    return f"{loss}: exponent in log t of {QUANTITIES[column][0]}"


def at_fixed_time(rows: "DataFrame", column: str) -> Number | None:
    """Exponent in α of one distance under the logistic loss at log t = 10."""
    some = rows[(rows.loss == LOGISTIC) & np.isclose(rows.log_time, FIXED) & (rows.alpha >= LARGE)]
    return slope(some.alpha, some[column], some.seed, some[f"{column}_error"])


def late(rows: "DataFrame", loss: str) -> Any:
    """The rows from which growth is fitted."""
    low, high = LATE
    return rows[
        (rows.loss == loss) & (rows.alpha == rows.alpha.max()) & rows.log_time.between(0.999 * low, 1.001 * high)
    ]


def growth(rows: "DataFrame", loss: str, column: str) -> Number | None:
    """Exponent in log t of one distance at the largest α, between log t = 100 and 1000."""
    some = late(rows, loss)
    return slope(some.log_time, some[column], some.seed, some[f"{column}_error"])


def leavings(rows: "DataFrame", column: str) -> "DataFrame":
    """For each α and seed with the logistic loss: log T at which the share passes LEFT, if it does.

    Between two times of the grid the share is taken as a power of log t. `error` is that of log T if the distance is
    off by its integration error, as the share is about proportional to log t.
    """
    import pandas

    found = []
    some: Any
    for key, some in rows[rows.loss == LOGISTIC].groupby(["alpha", "seed"]):
        course: Any = some.sort_values("log_time")
        share = (course[column] / course[SHARES[column][0]]).to_numpy()
        above = np.flatnonzero(share >= LEFT)
        if not len(above) or above[0] == 0:
            continue
        last = above[0]
        places, values = (np.log(part[last - 1 : last + 1]) for part in (course.log_time.to_numpy(), share))
        left = float(np.exp(np.interp(np.log(LEFT), values, places)))
        off = float((course[f"{column}_error"] / course[column]).iloc[last - 1 : last + 1].max(skipna=False))
        alpha, seed = key  # pyright: ignore[reportGeneralTypeIssues]
        unit = LEFT * float(course.initial.iloc[0]) * float(course.margin.iloc[0])
        found.append({"alpha": alpha, "seed": seed, "left": left, "error": off * left, "unit": unit})
    return pandas.DataFrame(found, columns=["alpha", "seed", "left", "error", "unit"])


def leaving(rows: "DataFrame", column: str) -> Number | None:
    """Exponent in α of log T."""
    times = leavings(rows, column)
    times = times[times.alpha >= LARGE]
    return slope(times.alpha, times.left, times.seed, times.error)


def leaving_rate(rows: "DataFrame") -> Number | None:
    """Δ log T/Δα between the two ends of the fitted α, over LEFT·‖w_0‖·γ: of each seed, then their mean."""
    times: Any = leavings(rows, "weights")
    times = times[times.alpha >= LARGE].sort_values("alpha")
    rates, errors = [], [0.0]
    for _, some in times.groupby("seed"):
        if len(some) > 1:
            ends = some.iloc[[0, -1]]
            span = float(ends.alpha.iloc[1] - ends.alpha.iloc[0]) * float(ends.unit.iloc[0])
            rates.append(float(ends.left.iloc[1] - ends.left.iloc[0]) / span)
            errors.append(float(ends.error.sum()) / span)
    found = mean(rates)
    return None if found is None else Number.of(found.estimate, max(errors))


def by_alpha(rows: "DataFrame", column: str) -> dict[Any, Number]:
    """Geometric mean of log T for each α at which all seeds have left at the last time."""
    moving: Any = rows[rows.loss == LOGISTIC]
    seeds = moving.groupby("alpha").seed.nunique()
    found = each(leavings(rows, column), "alpha", lambda some: geometric_mean(some.left))
    return {alpha: number for alpha, number in found.items() if number.estimate.repetitions == seeds[alpha]}


def left_cells(name: str, rows: Any, column: str) -> dict[str, Any]:
    """Cells of the rows of one α: log T with its interval, and how many of the seeds have left at the last time.

    If some have not, these count with the last time, and log T is a lower bound. Seeds that had left at the first time
    leave it open.
    """
    times, seeds = leavings(rows, column), rows.seed.nunique()
    never = int(((rows[column] / rows[SHARES[column][0]]).groupby(rows.seed).max() < LEFT).sum())
    bound = geometric_mean([*times.left, *[rows.log_time.max()] * never])
    line: dict[str, Any] = cells(name, bound if len(times) == seeds else None)
    if bound is not None and 0 < never == seeds - len(times):
        line[name] = f"≥ {bound.value:.4g}"
    return line | {f"{name}: seeds": f"{len(times)} of {seeds}"}
