"""Changes by deletion, grouped once for verdict, table and figure."""

from typing import TYPE_CHECKING, Any

from regimes.lab.numbers import Number, each, geometric_mean, mean, means, slope, worst
from regimes.lab.report import Interval
from regimes.lab.undecided import between

if TYPE_CHECKING:
    from pandas import DataFrame


PERCENT = Interval(0.0, 100.0)
WORKS = 10.0  # percent of test error: a net that errs more has nothing to lose
POINTS = Interval(-100.0, 100.0)


def deepest(rows: "DataFrame", net: str) -> Any:
    """The rows of the deepest of these nets."""
    some: Any = rows[rows.net == net]
    return some[some.layers == some.layers.max()]


def trained(some: Any) -> Any:
    """The rows of the depths at which the whole nets err on at most WORKS percent of the test samples, in the mean."""
    whole = means(some[some.deleted == 0].groupby("layers").test_error)
    return some[some.layers.isin(whole.index[whole <= WORKS])]


def in_depth(rows: "DataFrame", net: str, column: str, deleted: int) -> Number | None:
    """The exponent in L of what so many deletions do; one a seed."""
    some: Any = rows[(rows.net == net) & (rows.deleted == deleted)]
    return slope(some.layers, some[column], some.seed)


def in_number(some: Any, column: str) -> Number | None:
    """The exponent in the number k of deletions, from 1 to L/4, of a column less its value for the whole net."""
    whole = some[some.deleted == 0].set_index("seed")[column]
    few = some[(some.deleted > 0) & (some.deleted <= some.layers / 4)]
    risen = few[column] - few.seed.map(whole)
    kept = ~(risen <= 0)  # NaN stays: the exponent is then not known
    return slope(few.deleted[kept], risen[kept], few.seed[kept])


def departure_share(some: Any, part: int) -> Number | None:
    """Departure from additivity over change of the outputs where one of so many parts of a net is deleted."""
    found = some[some.deleted == some.layers // part]
    return mean([0.0]) if (found.departure <= 0).any() else geometric_mean(found.departure / found.change)


def rise(some: Any, deleted: int = 1) -> Number | None:
    """The rise of the test error by so many deletions, in points: mean over the seeds."""
    by = some.pivot(index="seed", columns="deleted", values="test_error")
    return mean(by[deleted] - by[0], within=POINTS) if {0, deleted} <= set(by) else None


def largest_rise(some: Any) -> Number | None:
    """The largest rise of the test error by one more deletion, of each seed, in points: mean over the seeds.

    Between two numbers of deletions that are not neighbours, one deletion may have caused all of the rise, and one at
    least has caused an even part of it. The value supposes the former; the interval holds both.
    """
    by = some.pivot(index="seed", columns="deleted", values="test_error")
    numbers = by.columns.to_numpy(dtype=float)
    if len(numbers) < 2:
        return None
    risen = by.diff(axis=1).iloc[:, 1:]
    even, whole = (
        mean(steps.max(axis=1, skipna=False), within=POINTS) for steps in (risen / (numbers[1:] - numbers[:-1]), risen)
    )
    if even is None or whole is None:
        return None
    return between(lambda level: even.estimate.at(level).low, lambda level: whole.estimate.at(level).high, whole)


def least_rise(some: Any) -> Number | None:
    """The least rise by one deletion of all depths; of those that have trained, an upper bound where others have not.

    Nets that err on more than WORKS percent have little to lose: how they would fare, had they trained, is not known.
    """
    kept = trained(some)
    least = worst(each(kept, "layers", rise).values(), lambda number: -number.value)
    if least is None or kept.layers.nunique() == some.layers.nunique():
        return least
    return between(lambda level: POINTS.low, lambda level: least.estimate.at(level).high, least)
