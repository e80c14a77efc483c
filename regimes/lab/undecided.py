"""Numbers of which runs leave open what they are: all that they may be counts, at every level."""

from collections.abc import Callable

import numpy as np

from regimes.lab.intervals import LEVEL, Estimate, Interval
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


def between(low: Callable[[float], float], high: Callable[[float], float], like: Number) -> Number:
    """A number with these ends at each level, and the value and the repetitions of another one."""

    def at(level: float) -> Interval:
        return Interval(low(level), high(level))

    known = like.estimate
    return Number.of(Estimate(known.value, at(LEVEL), at, known.repetitions, known.average))
