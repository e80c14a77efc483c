"""Least action against another arm, paired: numbers of two nets that differ in nothing but the arm."""

from collections.abc import Callable, Sequence
from typing import Any

from regimes.experiments.least_action.small_nets.settings import CONTROL, LAP, VANILLA
from regimes.lab import numbers
from regimes.lab.numbers import Number

Rows = Any  # a pandas.DataFrame
OTHERS = (VANILLA, CONTROL)
EQUAL = "equal_"  # of columns at equal risk, which only nets have that reached it
ENDS = {"": "after the protocol's steps", EQUAL: "at equal risk"}  # by the prefix of their columns
ACCURACIES = {f"{prefix}accuracy": words for prefix, words in ENDS.items()}
NAMES = {VANILLA: "plain training", LAP: "least action", CONTROL: "control"}
SEED = ("seed",)


def of_arm(rows: Rows, arm: str, column: str, keys: Sequence[str] = SEED) -> Any:
    """A column of one arm by seed, or by several keys; at equal risk of the nets that reached it."""
    some = rows[rows.arm == arm]
    if column.startswith(EQUAL):
        some = some[some.reached == 1]
    return some.set_index(list(keys))[column].astype(float)


def pairs(rows: Rows, column: str, other: str, keys: Sequence[str] = SEED) -> tuple[Any, Any]:
    """The column of least action and of the other arm, by what both were run for; what is not known stays NaN."""
    first, second = of_arm(rows, LAP, column, keys), of_arm(rows, other, column, keys)
    both = first.index.intersection(second.index, sort=None)
    return first[both], second[both]


def ratio(rows: Rows, column: str, other: str) -> Number | None:
    """Geometric mean of least action's value over the other's."""
    first, second = pairs(rows, column, other)
    return numbers.geometric_mean(first / second)


def difference(rows: Rows, column: str, other: str, unit: float = 1.0) -> Number | None:
    """Mean of least action's value less the other's, times the unit."""
    first, second = pairs(rows, column, other)
    return numbers.mean(unit * (first - second))


def of_arms(rows: Rows, column: str, number: Callable[[Any], Number | None], words: str) -> dict[str, Number | None]:
    """The number of each arm, as merits; at equal risk of the nets that reached it."""
    return {f"{words}, {NAMES[arm]}": number(of_arm(rows, arm, column)) for arm in dict.fromkeys(rows.arm)}


def reached(rows: Rows) -> dict[str, float]:
    """The share of nets of each arm that came to equal risk, as merits."""
    return {
        f"share of nets that reached equal risk, {NAMES[arm]}": float((some.reached == 1).mean())
        for arm, some in rows.groupby("arm", sort=False)
    }


def noisy(rows: Rows) -> dict[float, str]:
    """The columns of accuracy under noise, by its size."""
    return {float(name.split("_")[-1]): name for name in rows.columns if name.startswith("equal_noisy_")}
