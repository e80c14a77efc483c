"""Spearman's ρ over models, with an interval by resampling the nets: the α of one net are never torn apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from regimes.lab.intervals import LEVEL, Estimate, Interval
from regimes.lab.numbers import Number

RESAMPLES = 4000


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each row, ties at their mean, centred and of norm 1; NaN of a constant row."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return ranks / np.linalg.norm(ranks, axis=-1, keepdims=True)


class Nets:
    """Columns of the rows as arrays (nets, α), of the nets that were trained at every α."""

    def __init__(self, rows: Any) -> None:
        done = (rows.trained == 1).groupby(rows.seed).all()
        whole = rows.groupby("seed").alpha.nunique() == rows.alpha.nunique()
        kept = rows.seed.isin(done.index[done & whole])
        self.rows = rows[kept].sort_values(["seed", "alpha"])
        self.alpha = sorted(set(self.rows.alpha))
        self.count = self.rows.seed.nunique()
        # The nets as they are, then RESAMPLES times as many drawn with repetition.
        drawn = np.random.default_rng(0).integers(max(self.count, 1), size=(RESAMPLES, self.count))
        self._chosen = np.vstack([np.arange(self.count), drawn])
        self._known: dict[tuple[str, int | None], np.ndarray] = {}

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
        return (self._ranked(name, place) * self._ranked(target, place)).sum(-1)

    def _ranked(self, name: str, place: int | None) -> np.ndarray:
        """Ranks of a column in each resample, of all α together or of one; kept, since most are used again."""
        if (name, place) not in self._known:
            values = self.column(name) if place is None else self.column(name)[:, [place]]
            self._known[name, place] = _ranks(values[self._chosen].reshape(len(self._chosen), -1))
        return self._known[name, place]


def number(values: Sequence[float] | np.ndarray, nets: int, error: float = 0.0) -> Number | None:
    """The first of the values, with the quantiles of the others as its interval at every level; None if not defined."""
    value, resampled = float(values[0]), np.asarray(values[1:])
    if not np.isfinite(value):
        return None

    def at(level: float) -> Interval:
        if nets < 3:
            return Interval(-np.inf, np.inf)
        low, high = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))

    return Number.of(Estimate.of(value, at, LEVEL, nets), error)


def nets(rows: Any) -> Nets:
    """The nets that were trained at every α, with the bound of Theorem 2.3 as one more column."""
    return Nets(rows.assign(bound=rows.stretch**2 * rows.kappa))


def correlation(found: Nets, of: str, name: str) -> Number | None:
    """ρ of a predictor over all models or within; its error is the change with ten times the tolerance."""
    fine, coarse = (getattr(found, of)(name, target) for target in ("distance", "distance_coarse"))
    return found.number(fine, name, "distance_coarse", error=abs(float(fine[0] - coarse[0]))) if found.count else None
