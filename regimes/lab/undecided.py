"""Numbers of runs that had not ended: which way these go is not known, so both readings count."""

import numpy as np

from regimes.lab.intervals import Estimate, Interval
from regimes.lab.numbers import Number


def either(first: Number | None, second: Number | None) -> Number | None:
    """The number that spans two readings of the same runs: their middle, with an interval over both at every level.

    Where the readings agree it is that number; None if one is None.
    """
    if first is None or second is None:
        return None
    if first == second:
        return first

    def span(one: Interval, other: Interval) -> Interval:
        ends = np.array([one, other])  # NaN in one of them stays NaN
        return Interval(float(ends[:, 0].min()), float(ends[:, 1].max()))

    middle, repetitions = (first.value + second.value) / 2, first.estimate.repetitions
    estimate = Estimate(
        middle,
        span(first.interval, second.interval),
        lambda level: span(first.estimate.at(level), second.estimate.at(level)),
        repetitions if repetitions == second.estimate.repetitions else None,
    )
    return Number.of(estimate, max(first.error, second.error))
