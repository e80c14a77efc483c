"""Ratios of the variances of accuracy over seeds, least action's over another arm's."""

import math
from typing import Any

from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.contrasts import ACCURACIES, NAMES, OTHERS
from regimes.lab import numbers
from regimes.lab.intervals import LEVEL, Estimate
from regimes.lab.variances import FEWEST, variance_ratio

RATIO = {
    (column, other): f"ratio of variances {words}, least action over {NAMES[other]}, largest of the sizes"
    for column, words in ACCURACIES.items()
    for other in OTHERS
}


def ratio(rows: Any, column: str, other: str, of: Any = variance_ratio) -> numbers.Number | None:
    """Ratio of the variances over seeds, where both arms have three or more and vary; NaN if one value is not known."""
    first, second = contrasts.pairs(rows, column, other)
    if (first - second).isna().any():
        return numbers.mean([math.nan] * len(first))
    if len(first) < FEWEST or first.nunique() < 2 or second.nunique() < 2:
        return None
    return numbers.Number.of(of(first, second))


def largest(rows: Any, column: str, other: str) -> tuple[Any, numbers.Number | None]:
    """The size at which the ratio is largest, and the ratio there.

    Its interval holds for all k sizes together: at level 1 − (1 − level)/k, as the size was not chosen beforehand.
    """
    each = numbers.each(rows, "train_size", lambda some: ratio(some, column, other))
    if not each:
        return None, None
    size, found = next((size, one) for size, one in each.items() if one is numbers.worst(each.values()))
    estimate, count = found.estimate, len(each)
    wider = Estimate.of(
        estimate.value,
        lambda level: estimate.at(1 - (1 - level) / count),
        LEVEL,
        estimate.repetitions or 0,
        estimate.average,
    )
    return size, numbers.Number.of(wider)
