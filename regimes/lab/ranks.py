"""Rank correlation of what may be constant, infinite or not known."""

import math

import numpy as np
from numpy.typing import ArrayLike


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's ρ, ties at their mean rank (scipy's `spearmanr`); NaN of fewer than two pairs or a constant side.

    Infinite values have the first and the last rank. What is not known (NaN) has none: ρ is then not known either.
    """
    from scipy.stats import spearmanr

    sides = [np.asarray(side, dtype=float) for side in (x, y)]
    if sides[0].size < 2 or any((side == side[0]).all() for side in sides):
        return math.nan
    return float(np.asarray(spearmanr(sides[0], sides[1]))[0])
