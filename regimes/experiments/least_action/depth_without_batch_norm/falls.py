"""How much accuracy a method loses from the shallowest to the deepest net: what verdict, table and figure share."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from regimes.experiments.least_action.low_data.comparison import DIVIDED, POINTS, VANILLA, Key, named, read, select
from regimes.lab import numbers
from regimes.lab.numbers import Number

if TYPE_CHECKING:
    from pandas import DataFrame

BLOCKS = {"two_convolutions": "two convolutions, as published", "last_convolution": "one convolution, as the code ran"}
KEYS = ((VANILLA, DIVIDED), (("vanilla", True), ("lap_divided", True)))


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
