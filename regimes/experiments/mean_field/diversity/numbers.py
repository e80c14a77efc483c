"""Which limits are found to be global, and which are known not to be: for verdict, table and figure."""

from typing import TYPE_CHECKING, Any

from regimes.lab import numbers
from regimes.lab.numbers import Number, known

if TYPE_CHECKING:
    from pandas import DataFrame, Series

NEAR = 1e-3  # of the risk of f = 0: limits that are known to be so near to the minimum are called global
PLANAR = ("relu 2-d", "erf 2-d")


def ends(rows: "DataFrame") -> Any:
    """The last row of each run: found to be global, or known not to be, as another limit or bound of F is lower.

    Found by the certificate: a proof in the plane; in ten dimensions as far as a search sees.
    best, bound: the least F and the largest lower bound that any start with the same teacher has led to.
    """
    last: Any = rows[rows.kind == "end"].copy()
    same = last.groupby(["problem", "seed"])
    last["best"] = same.value.transform(lambda values: values.min(skipna=False))
    last["bound"] = same.lower.transform(lambda bounds: bounds.max(skipna=False))
    last["global"] = last.value - last.lower <= NEAR * last["first"]
    last["spurious"] = last.value - last.best > NEAR * last["first"]
    return last


def over(some: Any, column: str) -> Any:
    """What the column compares with NEAR; NaN where it is not known whether the column is true."""
    return (some.value - (some.best if column == "spurious" else some.lower)) / some["first"]


def share(some: Any, column: str = "global") -> Number | None:
    """Share of the runs where the column is true, over their problems; None without runs."""
    return numbers.share(some[column], over(some, column), draws(some))


def merits(last: Any) -> dict[str, float | Number | None]:
    """How many limits are found to be global, how many are known not to be, how many are neither; and two extremes."""
    found, spurious = over(last, "global"), over(last, "spurious")
    return {
        "limits": float(len(last)),
        "found global": numbers.count(last["global"], found),
        "known not to be global": numbers.count(last.spurious, spurious),
        "left open by the certificate": numbers.count(~(last["global"] | last.spurious), found + spurious),
        "few points: largest distance of copies over the largest neuron": numbers.largest(
            last[last.start == "few points"].copies
        ),
        "largest relative change of F in the last part of the flow, global limits": numbers.largest(
            numbers.among(last.settled, last["global"], found)
        ),
    }


def draws(some: Any) -> Any:
    """Which runs share random numbers: teachers and starts of one seed in the same dimension, whatever the lift."""
    return some.groupby([some.problem.str.split().str[-1], "seed"]).ngroup()


def shares(rows: "DataFrame", column: str = "global") -> dict[tuple[str, str], Number]:
    """The share by problem and start."""
    groups: Any = ends(rows).groupby(["problem", "start"], sort=False)
    return known({key: share(some, column) for key, some in groups})


def in_its_sign(rows: "DataFrame") -> Number | None:
    """Share of the limits of one sign that are found to be global among the measures of that sign."""
    last = ends(rows)
    some = last[last.start == "one sign"]
    above = some.value - some.lower_positive
    return numbers.share(above <= NEAR * some["first"], above / some["first"], draws(some))


def slack(rows: "DataFrame") -> "Series":
    """F less the largest lower bound for the same teacher, over the risk of f = 0; only where bounds are proved."""
    last = ends(rows)
    last = last[last.problem.isin(PLANAR)]
    return (last.value - last.bound) / last["first"]


def falls(rows: "DataFrame") -> "Series":
    """What one neuron takes off F at limits that are not global, over what convexity foretells."""
    last = ends(rows)
    return numbers.among(last.fall / last.foretold, last.spurious, over(last, "spurious"))
