"""The ends of the flows, grouped once for verdict, table and figure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from regimes.lab.numbers import Number, by_seed, each, geometric_mean, paired

if TYPE_CHECKING:
    from pandas import DataFrame


def ends(rows: "DataFrame", *arms: str) -> Any:
    """The rows of the ends; of some arms only, if given."""
    found: Any = rows[rows.kind == "end"]
    return found[found.arm.isin(arms)] if arms else found


def column(name: str, over: str | None = None) -> Callable[[Any], Any]:
    """A column of the ends, or its ratio to another."""
    return lambda some: some[name] if over is None else some[name] / some[over]


def by_arm(rows: "DataFrame", values: Callable[[Any], Any]) -> dict[str, Number]:
    """Geometric means over the seeds, in the order of the arms."""
    return each(ends(rows), "arm", lambda some: geometric_mean(values(some)), sort=False)


def ratio(rows: "DataFrame", name: str, arm: str, other: str) -> Number | None:
    """arm / other, paired by seed: geometric mean."""
    first, second = (by_seed(ends(rows, one), name) for one in (arm, other))
    return geometric_mean(paired(first, second, lambda a, b: a / b))


def courses(rows: "DataFrame", arm: str) -> dict[float, Number]:
    """Risk over that of f = 0 along the flow of an arm: geometric means by time."""
    some = ends(rows, arm).dropna(axis=1, how="all")
    times = [name for name in some.columns if name.startswith("risk_at_")]
    found = {float(name.removeprefix("risk_at_")): geometric_mean(some[name] / some.zero) for name in times}
    return {time: number for time, number in sorted(found.items()) if number is not None}
