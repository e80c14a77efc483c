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

    Laws and seeds are resampled (`two_way`): the laws were picked by hand, and others would give another ρ. Gains of
    one law lie on one curve, and more of them say nothing of other laws: a law is drawn with all its gains. Fewer than
    three laws or seeds leave ρ anywhere in [−1, 1]. A seed may lack initialisations (runs that did not fit, or nets
    that did not come to equal risk): its ρ is over the others, in the draws, too.
    Seeds in which one of the two columns is constant are left out; NaN if it is in all, or if a value is not known.
    """
    seeds = [some for _, some in rows.groupby("seed") if len(some) >= FEWEST]
    if not seeds:
        return None
    if any(some[[x, y]].isna().any(axis=None) for some in seeds):
        return numbers.mean([math.nan] * len(seeds), within=CORRELATION)
    known = [some for some in seeds if not math.isnan(rank_correlation(some[x], some[y]))]
    if not known:
        return numbers.mean([math.nan] * len(seeds), within=CORRELATION)
    starts = list(dict.fromkeys(start for some in known for start in _starts(some)))
    tables = (np.stack([_row(some, column, starts) for some in known]) for column in (x, y))
    laws = [law for law, _ in starts]
    return Number.of(two_way(mean_correlation, *tables, kinds=laws, within=CORRELATION))


def _starts(some: Any) -> list[tuple[str, float]]:
    return [*zip(some.law, some.gain, strict=True)]


def _row(some: Any, column: str, starts: list[tuple[str, float]]) -> np.ndarray:
    """The values of a seed at the starts, NaN at those that it lacks."""
    values = dict(zip(_starts(some), some[column].astype(float), strict=True))
    return np.array([values.get(start, math.nan) for start in starts])


def mean_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ over the last axis, mean over the one before it; seeds with a constant side are left out.

    Pairs that are NaN on both sides are left out.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(side, axis=-1, nan_policy="omit") for side in (x, y)]
    first, second = (np.nan_to_num(side - _middle(side)) for side in ranks)
    sizes = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    products = (first * second).sum(-1)
    known = sizes > 0
    each = np.divide(products, sizes, out=np.zeros_like(products), where=known)
    count = known.sum(-1)
    return np.divide(each.sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)


def _middle(ranks: np.ndarray) -> np.ndarray:
    """Their mean over the last axis: n ranks have the mean (n + 1)/2, whatever the ties."""
    return (np.isfinite(ranks).sum(-1, keepdims=True) + 1) / 2
