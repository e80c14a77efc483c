"""How a number moves with the weight: its order over the weights, and the largest weight that keeps the task."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from regimes.experiments.least_action.least_action_is_ot.problems import IMAGES, KNOWN
from regimes.lab import numbers
from regimes.lab.intervals import CORRELATION, REAL, SHARE, Interval
from regimes.lab.numbers import Number
from regimes.lab.ranks import rank_correlation
from regimes.lab.undecided import between

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

        With sign −1 the smallest. Problems that tell nothing, as one whose gap was 0 from the start, are left out.
        """
        if not set(of) <= set(self.top(*of).problem):
            return None
        rows = self.rows if rows is None else rows
        found = numbers.known({name: number((self.of if whole else self.top)(name, rows)) for name in of})
        return numbers.extreme(found.values(), sign) or UNKNOWN

    def worst_mean(
        self, column: str, within: Interval, *, of: tuple[str, ...] = KNOWN, sign: float = 1.0
    ) -> Number | None:
        """The same of means of a column over the seeds, at the largest weight."""
        return self.worst(lambda top: numbers.mean(top[column], within=within), of=of, sign=sign)

    def dealt(self) -> dict[str, Number | None]:
        """Mean gaps of the dealt-out displacements at the largest weight: where they are small the test is blind."""
        means = {name: numbers.mean(self.top(name).gap_null) for name in KNOWN}
        return {f"{name}: gap of dealt-out displacements, largest weight": one for name, one in means.items()}

    def blind(self) -> tuple[str, ...]:
        """A sentence on the problems where they leave no gap to see; none where there is no such problem."""
        dealt = {name: self.top(name).gap_null for name in KNOWN} | {"images": self.usable(IMAGES).gap_null}
        names = ", ".join(name for name, gaps in dealt.items() if len(gaps) and gaps.mean() <= TOLD)
        words = "Blind: {}. Displacements dealt to other points of a class leave no gap above {} there, either."
        return (words.format(names, TOLD),) if names else ()

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
    """Spearman correlation of weight and column in each seed, 0 where the column is constant; mean over the seeds.

    Not known where all above weight 0 are at the floor: a single one above it and ties below force the number.
    """
    found = [_order(one.weight, floored(one[column])) for _, one in some.groupby("seed") if one.weight.nunique() > 1]
    return numbers.mean(found, within=CORRELATION)


def _order(weight: Any, values: Any) -> float:
    if (values[weight > 0] == RESOLUTION).all():
        return math.nan
    return 0.0 if np.ptp(values) == 0 else rank_correlation(weight, values)


def gap_ratio(some: Any) -> Number | None:
    """Gap over the one at weight 0, both at least the resolution: geometric mean over the seeds."""
    return numbers.geometric_mean(floored(some.gap) / floored(some.first_gap))


def gap_mean(some: Any) -> Number | None:
    """Mean gap over the seeds."""
    return numbers.mean(some.gap, within=SHARE)


def telling(number: Callable[[Any], Number | None], limit: float) -> Callable[[Any], Number | None]:
    """A number of the gap that can be found to be at most the limit only where another map would be above it.

    The other map has the displacements dealt to other points of their class. Where its number is not clearly above the
    limit the test is blind: a small gap says nothing then, and the interval is open above.
    """

    def found(some: Any) -> Number | None:
        own, null = number(some), number(some.assign(gap=some.gap_null))
        sees = null is not None and null.interval.low > limit
        if own is None or sees:
            return own
        return between(lambda level: own.estimate.at(level).low, lambda level: math.inf, own)

    return found
