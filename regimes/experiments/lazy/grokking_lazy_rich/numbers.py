"""Delays and losses by α: what verdict, table and figure of grokking_lazy_rich share."""

from typing import Any

from regimes.lab.numbers import Number, at_highest, at_lowest, by_seed, each, geometric_mean

LAZY_FROM = 1000.0  # scales of the lazy control
SMALLEST, LARGEST = 1 / 16, 32.0  # the ends of the pilot's grid below it


def at_each(rows: Any, column: str) -> dict[float, Number]:
    """Geometric means over the seeds by α."""
    return each(rows, "alpha", lambda at: geometric_mean(at[column]))


def passed(rows: Any, suffix: str = "") -> Any:
    """The delays; NaN where a run has ended before its test loss passed the level: its delay is only a lower bound."""
    return rows[f"delay{suffix}"].where(rows[f"met{suffix}"] > 0)


def at_end(below: Any, *, largest: bool) -> Number | None:
    """The delay at one end of a grid of α; None where the grid does not reach as far as the pilot's."""
    end = at_highest(below, "alpha", LARGEST) if largest else at_lowest(below, "alpha", SMALLEST)
    return geometric_mean(passed(end))


def lazy_ratio(lazy: Any, column: str, over: str) -> Number | None:
    """One column over another; scales of one seed are no repetitions."""
    return geometric_mean(by_seed(lazy.assign(ratio=lazy[column] / lazy[over]), "ratio"))
