"""How a number moves with the weight: its order over the weights, and the largest weight that keeps the task."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from regimes.experiments.least_action.least_action_is_ot.problems import KNOWN
from regimes.lab import numbers
from regimes.lab.intervals import CORRELATION, REAL, Interval
from regimes.lab.numbers import Number
from regimes.lab.ranks import rank_correlation

RESOLUTION = 1e-9  # relative gap below which the certificate does not tell from 0
KEPT = 0.05  # loss of accuracy against weight 0 up to which the task counts as kept
TOLD = 0.01  # gap at weight 0 from which there is one to lower
UNKNOWN = Number(math.nan, REAL)  # of problems that were run and have nothing to tell


class Ends(NamedTuple):
    """The trained nets, with the gap of the same problem and seed at weight 0, and whether there is one to lower."""

    rows: Any

    @classmethod
    def read(cls, rows: Any) -> "Ends":
        """Of the rows of a run."""
        ends = rows[rows.kind == "end"]
        first = ends[(ends.weight == 0) & (ends.scheme == "fixed")].set_index(["problem", "seed"]).gap
        known = first.to_frame("first_gap").assign(told=~(first <= TOLD))  # also where the gap is not known
        return cls(ends.join(known, on=["problem", "seed"]))

    def told(self) -> Any:
        """Rows of problems and seeds whose net of weight 0 has a gap to lower, or one that is not known."""
        return self.rows[self.rows.told.eq(True)]

    def of(self, *args: Any, scheme: str = "fixed") -> Any:
        """Rows of some problems, given by name; a table among the arguments takes the place of all rows."""
        names = [one for one in args if isinstance(one, str)]
        (rows,) = [one for one in args if not isinstance(one, str)] or [self.rows]
        return rows[rows.problem.isin(names) & (rows.scheme == scheme)]

    def top(self, *args: Any) -> Any:
        """The same at the largest weight of all, which is above 0."""
        some = self.of(*args)
        return some[(some.weight == self.rows.weight.max()) & (some.weight > 0)]

    def worst(
        self,
        number: Callable[[Any], Number | None],
        rows: Any = None,
        *,
        of: tuple[str, ...] = KNOWN,
        whole: bool = False,
        sign: float = 1.0,
    ) -> Number | None:
        """The largest number of these problems, at the largest weight or of all weights; None unless all were run.

        Problems that tell nothing, as one whose gap was 0 from the start, are left out.
        """
        if not set(of) <= set(self.top(*of).problem):
            return None
        rows = self.rows if rows is None else rows
        found = numbers.known({name: number((self.of if whole else self.top)(name, rows)) for name in of})
        return numbers.worst(found.values(), lambda one: sign * one.value) or UNKNOWN

    def worst_mean(
        self, column: str, within: Interval, *, of: tuple[str, ...] = KNOWN, sign: float = 1.0
    ) -> Number | None:
        """The same of means of a column over the seeds, at the largest weight."""
        return self.worst(lambda top: numbers.mean(top[column], within=within), of=of, sign=sign)

    def crossed(self) -> Any:
        """The crossing classes at the largest weight at which the true map's whole-cloud gap is above 1/2."""
        some = self.of("crossing")
        true = numbers.means(some.groupby("weight").gap_whole_true)
        return _at(some, true[~(true <= 0.5)].index.max(), true)

    def usable(self, names: tuple[str, ...], rows: Any = None) -> Any:
        """Rows of the largest weight with mean accuracy at most 0.05 below that of weight 0, else of the least above 0.

        Accuracy is that of all rows, also where the rows asked for are fewer.
        """
        accuracy = numbers.means(self.of(*names).groupby("weight").accuracy)
        some = self.of(*names) if rows is None else self.of(*names, rows)
        paid = accuracy[accuracy.index > 0]
        if paid.empty or 0.0 not in accuracy.index:
            return some[:0]
        kept = paid[paid >= accuracy.loc[0.0] - KEPT]
        return _at(some, kept.index.max() if len(kept) else paid.index.min(), accuracy)


def _at(some: Any, weight: float, by: Any) -> Any:
    """The rows at the weight that was chosen by these numbers; what they hold is not known if one of these is not."""
    found = some[some.weight == weight]
    if by.notna().all():
        return found
    return found.assign(**dict.fromkeys(("weight", "gap", "gap_null", "gap_whole", "gap_whole_true"), math.nan))


def floored(gap: Any) -> Any:
    """Gaps with everything below the resolution of the certificate put there."""
    return np.maximum(gap, RESOLUTION)


def order(some: Any, column: str) -> Number | None:
    """Spearman correlation of weight and column in each seed, 0 where the column is constant; mean over the seeds."""
    found = [
        0.0 if np.ptp(floored(one[column])) == 0 else rank_correlation(one.weight, floored(one[column]))
        for _, one in some.groupby("seed")
        if one.weight.nunique() > 1
    ]
    return numbers.mean(found, within=CORRELATION)


def gap_ratio(some: Any) -> Number | None:
    """Gap over the one at weight 0, both at least the resolution: geometric mean over the seeds."""
    return numbers.geometric_mean(floored(some.gap) / floored(some.first_gap))
