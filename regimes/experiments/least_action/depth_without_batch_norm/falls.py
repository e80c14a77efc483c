"""How much accuracy a method loses from the shallowest to the deepest net: what verdict, table and figure share."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from regimes.experiments.least_action.low_data.arms import multiplier
from regimes.experiments.least_action.low_data.comparison import DIVIDED, POINTS, VANILLA, Key, named, read, select
from regimes.lab import numbers
from regimes.lab.numbers import Number

if TYPE_CHECKING:
    from pandas import DataFrame

BLOCKS = {"two_convolutions": "two convolutions, as published", "last_convolution": "one convolution, as the code ran"}
KEYS = ((VANILLA, DIVIDED), (("vanilla", True), ("lap_divided", True)))
USUAL_MULTIPLIER = 1.0  # λ0 of the recipe, for arms whose name has none


def fall(block: str, key: Key) -> str:
    """Words for the accuracy that a method loses with depth."""
    return f"{block}: fall of {named(key)} from the shallowest to the deepest net, points"


def spared(block: str, key: Key) -> str:
    """Words for how much less of it LAP loses, given the key of vanilla."""
    return f"{block}: fall of {named(key)} less that of LAP, points"


def points_of(values: Any) -> Number | None:
    """Mean of differences of accuracy, in points."""
    return numbers.mean(values, within=POINTS)


class Falls(NamedTuple):
    """What verdict, table and figure share: the rows, with what is found of each block, depth and method in them."""

    rows: "DataFrame"
    blocks: list[str]
    depths: list[int]

    @classmethod
    def read(cls, rows: "DataFrame") -> "Falls":
        """Of the rows of a run."""
        there = set(rows.block)
        return cls(read(rows), [block for block in BLOCKS if block in there], sorted(map(int, rows.depth.unique())))

    def of(self, block: str, depth: int, key: Key) -> Any:
        """The rows of one method at one depth, at its usual or its tuned rate, by seed."""
        some = self.rows[(self.rows.block == block) & (self.rows.depth == depth)]
        return select(some, key, int(self.rows.train_size.iloc[0])).set_index("seed")

    def by_seed(self, block: str, key: Key) -> Any:
        """Held-out accuracy at the least depth less that at the greatest, in points, for each seed that has both."""
        least, greatest = (self.of(block, depth, key).held_out for depth in (self.depths[0], self.depths[-1]))
        return numbers.paired(least, greatest, lambda one, less: 100 * (one - less))

    def at_end(self, block: str, key: Key) -> bool:
        """Whether the best settings of a method are the least or the greatest that were run, where several were.

        At the least or at the greatest depth. Better ones may lie beyond, and what the method can do is not known.
        """
        return key[1] and any(self._at_end(block, depth, key) for depth in (self.depths[0], self.depths[-1]))

    def _at_end(self, block: str, depth: int, key: Key) -> bool:
        best = self.of(block, depth, key)
        if best.empty or best.arm.isna().any():
            return False
        some = self.rows[(self.rows.block == block) & (self.rows.depth == depth) & (self.rows.method == key[0])]
        chosen = best.iloc[0]
        rates, starts = set(some.learning_rate), {multiplier(arm, USUAL_MULTIPLIER) for arm in some.arm}
        own = ((chosen.learning_rate, rates), (multiplier(chosen.arm, USUAL_MULTIPLIER), starts))
        return any(len(run) > 1 and value in (min(run), max(run)) for value, run in own)

    def judged(self) -> dict[str, Number | None]:
        """The numbers that predictions speak of; not known where a tuned method is best at an end of what was run."""
        found = self.numbers()
        judged: dict[str, Number | None] = {}
        for block in self.blocks:
            for vanilla, lap in KEYS:
                compared = {fall(block, vanilla): (vanilla,), spared(block, vanilla): (vanilla, lap)}
                for name, keys in compared.items():
                    number = found[name]
                    if number is not None and any(self.at_end(block, key) for key in keys):
                        number = points_of(np.full(number.estimate.repetitions or 1, np.nan))
                    judged[name] = number
        return judged

    def numbers(self) -> dict[str, Number | None]:
        """The falls and their paired differences, and the differences at each depth: means over the seeds."""
        found: dict[str, Number | None] = {}
        for block in self.blocks:
            for vanilla, lap in KEYS:
                plain, least = self.by_seed(block, vanilla), self.by_seed(block, lap)
                found |= {fall(block, vanilla): points_of(plain), fall(block, lap): points_of(least)}
                found[spared(block, vanilla)] = numbers.mean(
                    numbers.paired(plain, least, np.subtract), within=POINTS.widened(100.0)
                )
                for depth in self.depths:
                    one, other = (self.of(block, depth, key).held_out for key in (lap, vanilla))
                    name = f"{block}, depth {depth}: {named(lap)} − {named(vanilla)}, points"
                    found[name] = points_of(numbers.paired(one, other, lambda lap, less: 100 * (lap - less)))
        return found
