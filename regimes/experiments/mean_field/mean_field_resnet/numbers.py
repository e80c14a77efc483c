"""Differences of errors, paired by seed: what verdict, table and figure share."""

from typing import TYPE_CHECKING

from regimes.lab.numbers import Number, by_seed, known, mean, paired
from regimes.lab.report import Interval

if TYPE_CHECKING:
    from pandas import DataFrame

PERCENT, POINTS = Interval(0.0, 100.0), Interval(-100.0, 100.0)


def difference(rows: "DataFrame", arm: str, other: str, column: str = "test_error") -> Number | None:
    """Mean of arm − other, in points, with its interval over the seeds that have both."""
    first, second = (by_seed(rows[rows.arm == name], column) for name in (arm, other))
    return mean(paired(first, second, lambda a, b: a - b), within=POINTS)


def differences(rows: "DataFrame", arm: str, *, first: bool) -> dict[str, Number]:
    """Of every other arm: this one less it if it is the `first`, else it less this one; by the other's name."""
    others = [other for other in dict.fromkeys(rows.arm) if other != arm]
    pairs = {other: (arm, other) if first else (other, arm) for other in others}
    return known({other: difference(rows, *pair) for other, pair in pairs.items()})
