"""Rank correlation of what may be constant or not finite."""

import math

import numpy as np
from numpy.typing import ArrayLike


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's ρ, ties at their mean rank (scipy's `spearmanr`); NaN of fewer than two pairs or a constant side.

    What is not a number ranks last, beside +∞: a run that has diverged is the worst of all.
    """
    from scipy.stats import spearmanr

    sides = [np.nan_to_num(np.asarray(side, dtype=float), nan=np.inf, posinf=np.inf, neginf=-np.inf) for side in (x, y)]
    if sides[0].size < 2 or any((side == side[0]).all() for side in sides):
        return math.nan
    return float(np.asarray(spearmanr(sides[0], sides[1]))[0])
