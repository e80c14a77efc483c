"""What the judges, tables and figures of the two statements on scaled nets share: which rows, and by which seeds."""

from typing import Any

from regimes.experiments.lazy.scaled_settings import SHUFFLED, TRUE
from regimes.lab.numbers import Number, at_highest, at_lowest, slope

LAZY = 100.0  # α from which exponents are fitted
MEAN_FIELD = 1.0  # α that predictions for the smallest one are about


def at_the_loss(rows: Any) -> Any:
    """The runs that came to the training loss at which all are compared."""
    return rows[rows.reached > 0]


def true(rows: Any) -> Any:
    """Those trained on the true labels."""
    return rows[rows.labels == TRUE]


def smallest(rows: Any, labels: str = TRUE) -> Any:
    """Those of the smallest scale, by seed; none where that is not the mean-field scale, or a smaller one."""
    least = at_lowest(rows, "alpha", MEAN_FIELD)
    return least[least.labels == labels].set_index("seed")


def largest(rows: Any) -> Any:
    """Those of the largest scale with true labels; none where no scale is large."""
    return true(at_highest(rows, "alpha", LAZY))


def shuffled(rows: Any) -> Any:
    """Those trained on shuffled labels, by seed."""
    return smallest(rows, SHUFFLED)


def exponent(rows: Any, column: str) -> Number | None:
    """Exponent in α of a column over the scales from LAZY on, one a seed."""
    some = true(rows)
    some = some[some.alpha >= LAZY]
    return slope(some.alpha, some[column], some.seed) if len(some) else None
