"""Spearman's ρ over models, with an interval by resampling the nets: the α of one net are never torn apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from regimes.lab.intervals import LEVEL, Estimate, Interval
from regimes.lab.numbers import Number

RESAMPLES = 100_000
CHUNK = 2000  # of them at once: less memory, and faster
STRAY = 2.0  # standard errors of the simulation by which an end is moved outwards


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks in samples that hold value k counts[:, k] times, ties at their mean: centred, of norm 1, times √counts.

    The product of two such rows is Spearman's ρ. NaN of a constant sample.
    """
    order = np.argsort(values)
    sizes, heads = counts[:, order], np.unique(values[order], return_index=True)[1]
    ties = np.add.reduceat(sizes, heads, axis=1)
    means = np.cumsum(ties, axis=1) - (ties - 1) / 2
    ranks = np.empty(counts.shape)
    ranks[:, order] = np.repeat(means, np.diff([*heads, len(order)]), axis=1)
    ranks -= (counts.sum(1, keepdims=True) + 1) / 2
    ranks *= np.sqrt(counts)
    with np.errstate(invalid="ignore"):
        return ranks / np.linalg.norm(ranks, axis=1, keepdims=True)


class Nets:
    """Columns of the rows as arrays (nets, α), of the nets that were trained at every α."""

    def __init__(self, rows: Any) -> None:
        done = (rows.trained == 1).groupby(rows.seed).all()
        whole = rows.groupby("seed").alpha.nunique() == rows.alpha.nunique()
        kept = rows.seed.isin(done.index[done & whole])
        self.rows = rows[kept].sort_values(["seed", "alpha"])
        self.alpha = sorted(set(self.rows.alpha))
        self.count = self.rows.seed.nunique()
        # How often each net is there: once in the nets as they are, then as drawn RESAMPLES times with repetition.
        even = np.full(self.count, 1 / max(self.count, 1))
        drawn = (
            np.random.default_rng(0).multinomial(self.count, even, RESAMPLES) if self.count else np.ones((0, 0), int)
        )
        self._counts = np.vstack([np.ones((1, self.count), dtype=drawn.dtype), drawn])
        self._known: dict[tuple[str, str, int | None], np.ndarray] = {}

    def column(self, name: str) -> np.ndarray:
        return self.rows[name].to_numpy(dtype=float).reshape(self.count, len(self.alpha))

    def over_all(self, name: str, target: str = "distance") -> np.ndarray:
        """ρ of a column with the distances over all models: first of the nets as they are, then of each resample."""
        return self._each(name, target, None)

    def within(self, name: str, target: str = "distance") -> np.ndarray:
        """The same among models of one α, mean over α."""
        return np.mean([self.at(alpha, name, target) for alpha in self.alpha], axis=0)

    def at(self, alpha: float, name: str, target: str = "distance") -> np.ndarray:
        """The same among the models of this α alone."""
        place = self.alpha.index(alpha)
        return self._each(name, target, place)

    def number(self, values: np.ndarray, *names: str, error: float = 0.0) -> Number | None:
        """`number` of correlations of these columns; not known (NaN) where one of them or a distance is not."""
        if self.rows[[*names, "distance"]].isna().any(axis=None):
            return Number.of(Estimate(np.nan, Interval(np.nan, np.nan), repetitions=self.count))
        return number(values, self.count, error)

    def _each(self, name: str, target: str, place: int | None) -> np.ndarray:
        """ρ of two columns in each resample, of all α together or of one."""
        if (name, target, place) not in self._known:
            one, other = (self.column(each)[:, slice(None) if place is None else [place]] for each in (name, target))
            found = []
            for first in range(0, len(self._counts), CHUNK):
                counts = np.repeat(self._counts[first : first + CHUNK], one.shape[1], axis=1)
                found.append((_ranks(one.ravel(), counts) * _ranks(other.ravel(), counts)).sum(-1))
            self._known[name, target, place] = np.concatenate(found)
        return self._known[name, target, place]


def number(values: Sequence[float] | np.ndarray, nets: int, error: float = 0.0) -> Number | None:
    """The first of the values, with the quantiles of the others as its interval at every level; None if not defined.

    Each end is moved outwards by STRAY standard errors of the simulation: the share of the others beyond a quantile p
    of the exact law has the standard error √(p(1 − p)/n). So no verdict hangs on which were drawn.
    """
    value, resampled = float(values[0]), np.asarray(values[1:])
    if not np.isfinite(value):
        return None

    def at(level: float) -> Interval:
        if nets < 3:
            return Interval(-np.inf, np.inf)
        beyond = (1 - level) / 2
        beyond = max(0.0, beyond - STRAY * (beyond * (1 - beyond) / len(resampled)) ** 0.5)
        low, high = np.nanquantile(resampled, [beyond, 1 - beyond])
        return Interval(float(low), float(high))

    return Number.of(Estimate.of(value, at, LEVEL, nets), error)


def nets(rows: Any) -> Nets:
    """The nets that were trained at every α, with the bound of Theorem 2.3 as one more column."""
    return Nets(rows.assign(bound=rows.stretch**2 * rows.kappa))


def correlation(found: Nets, of: str, name: str) -> Number | None:
    """ρ of a predictor over all models or within; its error is the change with ten times the tolerance."""
    fine, coarse = (getattr(found, of)(name, target) for target in ("distance", "distance_coarse"))
    return found.number(fine, name, "distance_coarse", error=abs(float(fine[0] - coarse[0]))) if found.count else None
