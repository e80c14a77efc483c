"""Which trials succeed, and what share of them."""

from typing import Any

from regimes.experiments.mean_field.sparse_deconvolution.config import SLIDING
from regimes.lab import numbers
from regimes.lab.numbers import Number, each

SUCCESS = 1e-4  # F less its minimum, as published


def with_excess(rows: Any) -> Any:
    """The rows with F less the proved minimum of the same problem, as far as that was measured, and the successes."""
    problem = ["dim", "spikes", "seed"]
    least = rows[rows.way == SLIDING].set_index(problem).lower.rename("least")
    known = rows.join(least, on=problem, how="inner")
    known["excess"] = known.value - known.least
    known["success"] = known.excess < SUCCESS
    return known


def share(rows: Any) -> Number | None:
    """Share of successes with Wilson's interval; ways that look for the same spikes count as one trial."""
    return numbers.share(rows.success, rows.excess, rows.groupby(["dim", "spikes", "seed"]).ngroup())


def rates(rows: Any) -> dict[tuple[int, str, str], dict[int, Number]]:
    """Share of successes by m, for each dimension, kind of spikes and way."""
    groups = with_excess(rows).groupby(["dim", "spikes", "way"], sort=False)
    return {key: each(some, "m", share) for key, some in groups}
