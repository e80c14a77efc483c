"""What the judges, tables and figures of the two statements on scaled nets share: which rows, and by which seeds."""

from typing import Any

from regimes.experiments.lazy.scaled_settings import SHUFFLED, TRUE
from regimes.lab.numbers import Number, slope

LAZY = 100.0  # α from which exponents are fitted


def at_the_loss(rows: Any) -> Any:
    """The runs that came to the training loss at which all are compared."""
    return rows[rows.reached > 0]


def true(rows: Any) -> Any:
    """Those trained on the true labels."""
    return rows[rows.labels == TRUE]


def smallest(rows: Any, labels: str = TRUE) -> Any:
    """Those of the smallest scale, by seed."""
    return rows[(rows.labels == labels) & (rows.alpha == rows.alpha.min())].set_index("seed")


def shuffled(rows: Any) -> Any:
    """Those trained on shuffled labels, by seed."""
    return smallest(rows, SHUFFLED)


def exponent(rows: Any, column: str) -> Number | None:
    """Exponent in α of a column over the scales from LAZY on, one a seed."""
    some = true(rows)
    some = some[some.alpha >= LAZY]
    return slope(some.alpha, some[column], some.seed) if len(some) else None
