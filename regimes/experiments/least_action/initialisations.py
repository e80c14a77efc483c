"""One rank correlation a seed, over its initialisations: what verdicts and figures of such statements share."""

import math
from typing import Any

import numpy as np

from regimes.lab import numbers
from regimes.lab.intervals import CORRELATION
from regimes.lab.numbers import Number
from regimes.lab.ranks import rank_correlation
from regimes.lab.resampling import two_way

FEWEST = 4  # initialisations from which a rank correlation is taken


def correlations(rows: Any, x: str, y: str) -> Number | None:
    """Spearman's ρ of two columns over the initialisations of a seed: mean over the seeds, interval over both.

    Initialisations and seeds are resampled (`two_way`): the initialisations were picked by hand, and others would give
    another ρ. Where seeds lack initialisations (runs that did not fit are left out) it is over the seeds alone.
    Seeds in which one of the two columns is constant are left out; NaN if it is in all, or if a value is not known.
    """
    seeds = [some for _, some in rows.groupby("seed") if len(some) >= FEWEST]
    if not seeds:
        return None
    if any(some[[x, y]].isna().any(axis=None) for some in seeds):
        return numbers.mean([math.nan] * len(seeds), within=CORRELATION)
    found = [rank_correlation(some[x], some[y]) for some in seeds]
    known = [some for some, one in zip(seeds, found, strict=True) if not math.isnan(one)]
    starts = [[*zip(some.law, some.gain, strict=True)] for some in known]
    if not known or any(set(one) != set(starts[0]) for one in starts):
        return numbers.mean([one for one in found if not math.isnan(one)] or found, within=CORRELATION)
    ordered = [some.sort_values(["law", "gain"]) for some in known]
    tables = (np.stack([some[column].to_numpy(dtype=float) for some in ordered]) for column in (x, y))
    return Number.of(two_way(mean_correlation, *tables, within=CORRELATION))


def mean_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ over the last axis, mean over the one before it; seeds with a constant side are left out."""
    from scipy.stats import rankdata

    ranks = [rankdata(side, axis=-1) for side in (x, y)]
    first, second = (side - side.mean(-1, keepdims=True) for side in ranks)
    sizes = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    products = (first * second).sum(-1)
    known = sizes > 0
    each = np.divide(products, sizes, out=np.zeros_like(products), where=known)
    count = known.sum(-1)
    return np.divide(each.sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)
