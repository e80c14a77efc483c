"""Intervals, and estimates that have one at every confidence level."""

import math
from collections.abc import Callable
from typing import NamedTuple

LEVEL = 0.95  # of the intervals that are shown
WIDEST = 1e12  # ratio of the ends, beyond which an interval is told in words


class Interval(NamedTuple):
    """Closed interval [low, high]; an end may be infinite, NaN means that nothing is known."""

    low: float
    high: float

    @classmethod
    def around(cls, centre: float, half_width: float) -> "Interval":
        """[centre − half_width, centre + half_width]."""
        return cls(centre - half_width, centre + half_width)

    @classmethod
    def at_most(cls, high: float) -> "Interval":
        """(−∞, high]."""
        return cls(-math.inf, high)

    @classmethod
    def at_least(cls, low: float) -> "Interval":
        """[low, ∞)."""
        return cls(low, math.inf)

    def inside(self, other: "Interval") -> bool:
        """Whether every point of this interval lies in the other one."""
        return other.low <= self.low and self.high <= other.high

    def disjoint(self, other: "Interval") -> bool:
        """Whether the two have no point in common."""
        return self.high < other.low or other.high < self.low

    def widened(self, by: float) -> "Interval":
        """Both ends moved outwards."""
        return Interval(self.low - by, self.high + by)

    def __str__(self) -> str:
        """Text with four digits, one-sided where an end is infinite."""
        if math.isnan(self.low) and math.isnan(self.high):
            return "not known"
        if math.isinf(self.low) and math.isinf(self.high) and self.low < self.high:
            return "anything"
        if self.low == -math.inf:
            return f"≤ {self.high:.4g}"
        if self.high == math.inf:
            return f"≥ {self.low:.4g}"
        return f"{self.low:.4g}" if self.low == self.high else f"[{self.low:.4g}, {self.high:.4g}]"


REAL = Interval(-math.inf, math.inf)
POSITIVE = Interval(0.0, math.inf)
SHARE = Interval(0.0, 1.0)
CORRELATION = Interval(-1.0, 1.0)  # also differences of shares


class _Pair(NamedTuple):
    value: float
    interval: Interval


class Estimate(_Pair):
    """A value with its 95 % interval (it unpacks into the two), the interval at other levels, and from how many.

    `repetitions` is the number of independent ones, None where the value has no sampling error; `average` says what
    the value is of them where that is not a usual mean.
    """

    repetitions: int | None
    average: str
    _at: Callable[[float], Interval] | None

    def __new__(
        cls,
        value: float,
        interval: Interval,
        at: Callable[[float], Interval] | None = None,
        repetitions: int | None = None,
        average: str = "",
    ) -> "Estimate":
        """Without `at` the interval is the same at every level."""
        made = super().__new__(cls, value, interval)
        made._at, made.repetitions, made.average = at, repetitions, average
        return made

    @classmethod
    def of(
        cls, value: float, at: Callable[[float], Interval], level: float, repetitions: int, average: str = ""
    ) -> "Estimate":
        """An estimate whose shown interval is the one at `level`."""
        return cls(value, at(level), at, repetitions, average)

    @classmethod
    def exact(cls, interval: Interval) -> "Estimate":
        """A range without sampling error, such as that from the smallest to the largest of all runs."""
        low, high = interval
        return cls((low + high) / 2 if math.isfinite(low) and math.isfinite(high) else math.nan, interval)

    def at(self, level: float) -> Interval:
        """The interval at another confidence level."""
        return self.interval if self._at is None else self._at(level)

    def __str__(self) -> str:
        """The value with its interval behind it."""
        if self.repetitions is None or self.interval.low == self.interval.high:
            return str(self.interval)
        return f"{self.value:.4g} {_bracketed(self.interval)}"


def _bracketed(interval: Interval) -> str:
    if math.isnan(interval.low) or math.isnan(interval.high):
        return "(interval not known)"
    if interval.low == -math.inf and interval.high == math.inf:
        return "(interval not known)"
    if 0 < WIDEST * interval.low < interval.high:
        return "(interval over more than 12 decades)"
    low, high = (f"{end:.4g}" if math.isfinite(end) else "−∞" if end < 0 else "∞" for end in interval)
    return f"[{low}, {high}]"
