"""Shares of spurious minima, and of those that further neurons end: verdict, table and figure share these numbers."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.spurious_minima.config import GLOBAL
from regimes.lab import numbers
from regimes.lab.numbers import Number, known
from regimes.lab.undecided import either

if TYPE_CHECKING:
    from pandas import DataFrame

# Shares of spurious minima among 1000 starts, by k and m − k; above k = 20 nothing, and with m = k + 2 none at any k.
PUBLISHED = {(10, 0): 0.346, (15, 0): 0.803, (19, 0): 0.934, (15, 1): 0.102, (19, 1): 0.491}


def spurious(rows: Any) -> Any:
    """The rows that ended in a spurious minimum."""
    return rows[rows.stuck]


def unended(rows: Any) -> Any:
    """Which runs had neither come to rest nor to R ≈ 0 when their steps were used up."""
    return ~rows.stuck & (rows.risk > GLOBAL)


def share(rows: Any) -> Number | None:
    """Share of spurious minima, with its binomial interval: all starts are independent.

    Runs that had not ended may go either way, and count both ways.
    """
    return either(*(numbers.share(hits, rows.risk) for hits in (rows.stuck, rows.stuck | unended(rows))))


def shares(rows: "DataFrame") -> dict[tuple[int, int], Number]:
    """Share of spurious minima by k and m − k."""
    groups: Any = rows.groupby(["teacher", "extra"])
    return known({(int(k), int(extra)): share(some) for (k, extra), some in groups})


def cured(rows: Any, column: str) -> Number | None:
    """Share of the spurious minima tried from which one neuron more has led below the published limit."""
    tried = rows[rows[column].notna()]
    return numbers.share(tried[column] <= GLOBAL, tried.risk)


def cured_at_last(rows: Any, added: int = 4) -> Number | None:
    """The same for at most so many neurons, one after the other at the lowest point."""
    tried = rows[rows.needed.notna()]
    return numbers.share(tried.needed <= added, tried.risk)
