"""Geometric means of ratios of measured values, which may have left the numbers."""

import numpy as np
from numpy.typing import ArrayLike

from regimes.lab.numbers import Number, geometric_mean


def mean_ratio(values: ArrayLike) -> Number | None:
    """Geometric mean of ratios; not known (NaN) if one is 0, less than that, or infinite; None without values."""
    sample = np.asarray(values, dtype=float)
    return geometric_mean(np.where((sample > 0) & np.isfinite(sample), sample, np.nan))
