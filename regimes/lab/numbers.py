"""Numbers with intervals, one for each group of rows: what verdict, table and figure of a statement share.

A statement groups its rows once, `each(rows, "alpha", lambda some: mean(some.loss))`. Its judge puts such numbers
against predictions (`judged`), its table prints them (`cells`), its figure draws them (`figures.curve`). No values make
no number (None), and a number that is None is left out: rows of a part of the axes can be judged, tabled and drawn.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from regimes.lab.intervals import LEVEL
from regimes.lab.report import Estimate, Interval, Judgement, Statement
from regimes.lab.statements import FEW
from regimes.lab.statistics import (
    geometric_mean_interval,
    loglog_slope,
    mean_interval,
    median_interval,
    share_interval,
    slope_error,
)


class _Triple(NamedTuple):
    value: float
    interval: Interval
    error: float


class Number(_Triple):
    """A measured value, its 95 % interval, and how far an integration error may have moved it.

    `estimate` has its interval at every level and the number of repetitions; without, there is no sampling error.
    """

    estimate: Estimate

    def __new__(
        cls, value: float, interval: Interval, error: float = 0.0, *, estimate: Estimate | None = None
    ) -> "Number":
        """Of a value with its interval."""
        made = super().__new__(cls, value, interval, error)
        made.estimate = Estimate(value, interval) if estimate is None else estimate
        return made

    @classmethod
    def of(cls, estimate: Estimate, error: float = 0.0) -> "Number":
        """Of an estimate."""
        return cls(*estimate, error, estimate=estimate)

    @property
    def bounded(self) -> bool:
        """Whether both ends of the interval are finite: with one seed alone they are not."""
        return bool(np.isfinite(self.interval).all())

    @property
    def drawn(self) -> bool:
        """Whether figures draw its interval: that of two repetitions has ends, but spans the panel and says nothing."""
        many = self.estimate.repetitions is None or self.estimate.repetitions > FEW
        return self.bounded and many


def mean(values: ArrayLike, **options: Any) -> Number | None:
    """Arithmetic mean with the interval of `mean_interval`, which takes the options; None without values.

    Not known if a value is infinite.
    """
    if not np.size(values):
        return None
    if np.isinf(np.asarray(values, dtype=float)).any():
        return _unknown(np.size(values))
    return Number.of(mean_interval(values, **options))


def geometric_mean(values: ArrayLike, **options: Any) -> Number | None:
    """Geometric mean with the interval of `geometric_mean_interval`, which takes the options; None without values.

    Not known if a value has no finite logarithm: one ratio that is 0 or infinite does not cost the other numbers.
    """
    if not np.size(values):
        return None
    if not _have_logarithms(values):
        return _unknown(np.size(values))
    return Number.of(geometric_mean_interval(values, **options))


def median(values: ArrayLike, level: float = LEVEL) -> Number | None:
    """Median with the interval of `median_interval`; None without values."""
    return Number.of(median_interval(values, level)) if np.size(values) else None


def share(hits: ArrayLike, of: ArrayLike | None = None, groups: ArrayLike | None = None) -> Number | None:
    """Share of hits (true, or 1) with the interval of `share_interval`; None without values.

    Hits that share random draws, as settings of one seed do, hang together and need groups: a label for each hit, such
    as its seed. The share is then the mean over the groups of their shares, and only groups count as repetitions:
    valid however the hits of a group depend on each other.
    It is not known if a hit is NaN, or one of the values `of` which the hits are: NaN compares as false.
    """
    sample = np.asarray(hits, dtype=float)
    if not sample.size:
        return None
    labels = np.arange(sample.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(labels) != sample.size:
        raise ValueError(f"share needs a group for each hit; got {len(labels)} groups for {sample.size} hits.")
    count = int(labels.max()) + 1
    if np.isnan(sample).any() or (of is not None and np.isnan(np.asarray(of, dtype=float)).any()):
        return _unknown(count)
    shares = np.bincount(labels, sample) / np.bincount(labels)
    return Number.of(share_interval(float(shares.sum()), count))


def count(hits: ArrayLike, of: ArrayLike) -> float:
    """How many hits there are among the values `of` which they are; NaN if one of these is NaN."""
    return np.nan if np.isnan(np.asarray(of, dtype=float)).any() else float(np.sum(np.asarray(hits)))


def among(values: Any, hits: Any, of: Any) -> Any:
    """The values, a series, where there is a hit; NaN where the value `of` which it is one is NaN: it may be a hit."""
    unknown = of.isna()
    return values.where(~unknown)[hits | unknown]


def largest(values: ArrayLike, error: Any = 0.0) -> Number | None:
    """The largest of all values as a single point, with the largest of the errors; None without values."""
    return _point(np.max(np.asarray(values)), error) if np.size(values) else None


def smallest(values: ArrayLike, error: Any = 0.0) -> Number | None:
    """The smallest of all values as a single point, with the largest of the errors; None without values."""
    return _point(np.min(np.asarray(values)), error) if np.size(values) else None


def worst(found: Iterable[Number | None], key: Callable[[Number], float] = lambda one: one.value) -> Number | None:
    """The number with the largest key. If a key is NaN, that number: a comparison would pass over what is unknown.

    None without numbers.
    """
    numbers = [one for one in found if one is not None]
    unknown = [one for one in numbers if math.isnan(key(one))]
    return unknown[0] if unknown else max(numbers, key=key, default=None)


def extreme(found: Iterable[Number | None], sign: float = 1.0) -> Number | None:
    """The largest of several numbers, with sign −1 the smallest; each end of its interval is the farthest of theirs.

    So "at most" holds of it only where it holds of all of them, and is refuted as soon as one of them refutes it: a
    number that is smaller and less well known is not hidden behind the largest. NaN if one is; None without numbers.
    """
    numbers = [one for one in found if one is not None]
    if not numbers:
        return None

    def farthest(ends: list[float]) -> float:
        return sign * float(np.max(sign * np.array(ends)))

    def at(level: float) -> Interval:
        intervals = [one.estimate.at(level) for one in numbers]
        return Interval(farthest([one.low for one in intervals]), farthest([one.high for one in intervals]))

    counts = [one.estimate.repetitions for one in numbers if one.estimate.repetitions is not None]
    value = farthest([one.value for one in numbers])
    estimate = Estimate(value, at(LEVEL), at, min(counts, default=None), numbers[0].estimate.average)
    return Number.of(estimate, max(one.error for one in numbers))


def extent(values: ArrayLike, error: Any = 0.0) -> Number | None:
    """The interval from the smallest to the largest value, around the median; NaN if one is NaN, None without values.

    For what has to hold in every run. The error is the largest of those given.
    """
    if not np.size(values):
        return None
    sample = np.asarray(values, dtype=float)
    interval = Interval(float(sample.min()), float(sample.max()))
    return Number(float(np.median(sample)), interval, float(np.max(np.asarray(error))))


def slope(x: ArrayLike, y: ArrayLike, groups: ArrayLike, error: ArrayLike | None = None) -> Number | None:
    """Slope of log y against log x, the mean over groups (seeds), with the interval of `loglog_slope`.

    `error`: how far each y may be off; it becomes that of the slope. Groups with a single x are left out, as a run cut
    short has them; None if no group remains. Not known if a value has no finite logarithm.
    """
    x, y, labels = (np.asarray(part) for part in (x, y, groups))
    whole = {label for label in labels.tolist() if len(np.unique(x[labels == label])) > 1}
    kept = np.array([label in whole for label in labels.tolist()], dtype=bool)
    if not kept.any():
        return None
    x, y, seeds = x[kept], y[kept], labels[kept].tolist()
    if not (_have_logarithms(x) and _have_logarithms(y)):
        return _unknown(len(whole))
    off = 0.0 if error is None else slope_error(x, y, np.asarray(error)[kept], groups=seeds)
    return Number.of(loglog_slope(x, y, groups=seeds), off)


def each(
    rows: Any, by: str | Sequence[str], number: Callable[[Any], Number | None], *, sort: bool = True
) -> dict[Any, Number]:
    """number(group) of each group of the rows (a data frame), by the value of the column, or of several as a tuple.

    Groups without a number are left out. In the order of the keys, or without `sort` in that of the rows.
    """
    columns = by if isinstance(by, str) else list(by)
    return known({key: number(some) for key, some in rows.groupby(columns, sort=sort)})


def at_lowest(rows: Any, axis: str, most: float) -> Any:
    """The rows at the smallest value of an axis; none if it is above `most`.

    A part of the axis has ends, too. They are not those that a prediction for small values is about.
    """
    return rows[(rows[axis] == rows[axis].min()) & (rows[axis] <= most)]


def at_highest(rows: Any, axis: str, least: float) -> Any:
    """The rows at the largest value of an axis; none if it is below `least`."""
    return rows[(rows[axis] == rows[axis].max()) & (rows[axis] >= least)]


def known(numbers: Mapping[Any, Number | None]) -> dict[Any, Number]:
    """Those that are numbers."""
    return {key: number for key, number in numbers.items() if number is not None}


def judged(
    statement: Statement,
    numbers: Mapping[str, Number | None],
    merits: Mapping[str, float | Number | None] | None = None,
    notes: tuple[str, ...] = (),
) -> Judgement:
    """The statement's judgement on the numbers, by the quantity predicted; merits may be numbers too, or None.

    A quantity without a number is not measured.
    """
    found = known(numbers)
    values = {name: merit.value if isinstance(merit, Number) else merit for name, merit in (merits or {}).items()}
    return statement.judge(
        {name: number.estimate for name, number in found.items()},
        {name: number.error for name, number in found.items() if number.error},
        {name: value for name, value in values.items() if value is not None},
        notes,
    )


def cells(name: str, number: Number | None) -> dict[str, float | str]:
    """Two cells of a table: the value, and its 95 % interval as text; both are empty where there is no number."""
    if number is None:
        return {name: "", f"{name}, 95 %": ""}
    return {name: number.value, f"{name}, 95 %": str(number.interval) if number.bounded else ""}


def spread(name: str, number: Number | None) -> dict[str, float]:
    """A value and the ends of its 95 % interval, as merits, as far as they are known."""
    if number is None:
        return {}
    ends = {f"{name}, 95 % from": number.interval.low, f"{name}, to": number.interval.high}
    return {name: number.value} | (ends if number.bounded else {})


def by_seed(rows: Any, column: str) -> Any:
    """The mean of a column over the rows of each seed, by seed: differences and ratios of two are paired by seed."""
    return means(rows.groupby("seed")[column])


def means(groups: Any) -> Any:
    """The mean of each group, of a series or of columns; NaN where one of its values is, which pandas leaves out."""
    return groups.mean().where(groups.count().eq(groups.size(), axis=0))


def paired(first: Any, second: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """combine(first, second) of two series by seed, for each seed that has both; NaN where one of the two is."""
    found = combine(first, second)
    return found[found.index.isin(first.index) & found.index.isin(second.index)].astype(float)


def _have_logarithms(values: ArrayLike) -> bool:
    sample = np.asarray(values, dtype=float)
    return bool((np.isfinite(sample) & (sample > 0)).all())


def _unknown(repetitions: int) -> Number:
    """A number that is not known, of so many repetitions."""
    return Number.of(Estimate(np.nan, Interval(np.nan, np.nan), repetitions=repetitions))


def _point(value: Any, error: Any) -> Number:
    return Number(float(value), Interval(float(value), float(value)), float(np.max(np.asarray(error))))
