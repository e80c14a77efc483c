"""Exponents, peak and sides of the drift: what verdict, table and figure of unbalanced_layers share.

What was measured of a training that did not come down to its risk is not known (NaN).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.unbalanced_layers.config import LINEAR, RELU_NET
from regimes.lab.numbers import Number, by_seed, each, geometric_mean, mean, paired, slope

if TYPE_CHECKING:
    from pandas import DataFrame

FROM = 1.5  # decades of imbalance from which exponents are fitted


def ended(rows: Any, column: str) -> Any:
    """A column; NaN where the training did not come down to its risk."""
    return rows[column].where(rows.stopped > 0)


def exponent(rows: Any, activation: str, side: int, column: str = "drift") -> Number | None:
    """Exponent of a column in β₁/β₂ on one side of balance, one a seed.

    No integration error of the activations flipped was recorded. They come from the flows that the drift comes from,
    so its relative error stands in for theirs.
    """
    some = rows[(rows.activation == activation) & (side * rows.imbalance >= FROM)]
    values = ended(some, column)
    return slope(10.0**some.imbalance, values, some.seed, values * some.drift_error / some.drift)


def peak(rows: Any) -> Number | None:
    """lg β₁/β₂ at which linear nets have their largest drift, by seed; NaN where a drift is."""
    linear = rows[rows.activation == LINEAR]
    some = [one for _, one in linear.assign(drift=ended(linear, "drift")).groupby("seed")]
    return mean([np.nan if one.drift.isna().any() else float(one.imbalance[one.drift.idxmax()]) for one in some])


def sides(rows: Any) -> Number | None:
    """Drift of ReLU nets at the largest imbalance upstream over that downstream, paired by seed.

    Its error is that of the lower end of its interval, where the prediction lies: errors of a ratio are relative.
    """
    some = rows[rows.activation == RELU_NET]
    some = some.assign(drift=ended(some, "drift"), relative=some.drift_error / some.drift)
    up, down = (some[side * some.imbalance >= 2 * FROM] for side in (1, -1))
    found = geometric_mean(paired(by_seed(up, "drift"), by_seed(down, "drift"), lambda one, other: one / other))
    if found is None:
        return None
    relative = paired(by_seed(up, "relative"), by_seed(down, "relative"), lambda one, other: one + other)
    return Number.of(found.estimate, found.interval.low * float(relative.mean()))


def drifts(rows: "DataFrame", activation: str) -> dict[float, Number]:
    """Drift of the kernel by β₁/β₂: geometric means over the seeds."""
    some = rows[rows.activation == activation]
    found = each(some, "imbalance", lambda at: geometric_mean(ended(at, "drift")))
    return {10.0**power: number for power, number in found.items()}
