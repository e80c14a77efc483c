"""Exponents and prefactors of the errors, with one repetition a seed: methods and λ share its weights and samples."""

from typing import Any

import numpy as np

from regimes.lab.numbers import Number, each, geometric_mean, mean, means, slope


def exponent(some: Any, axis: str) -> Number | None:
    """The exponent of the error: of each seed the mean over methods and λ, which share weights and samples."""
    found = each(some, ["seed", "method", "coupling"], lambda run: slope(run[axis], run.error, run.seed))
    of: dict[int, list[float]] = {}
    for (seed, _, _), one in found.items():
        of.setdefault(seed, []).append(one.value)
    return mean([sum(values) / len(values) for values in of.values()])


def over_predicted(some: Any, column: str) -> Number | None:
    """An error over the predicted one: geometric means over methods and depths, one a seed."""
    return one_a_seed(some.seed, some[column] / some.predicted)


def one_a_seed(seed: Any, values: Any) -> Number | None:
    """Geometric mean over the seeds of that of each seed."""
    return geometric_mean(np.exp(means(np.log(values).groupby(seed))))
