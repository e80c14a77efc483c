"""What verdict, table and figure of the statement on real images share: numbers with intervals over seeds."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.ntk_real_data.config import CURVE, LIMIT, TUNED
from regimes.lab.intervals import CORRELATION, SHARE
from regimes.lab.numbers import Number, each, geometric_mean, mean, means, slope

if TYPE_CHECKING:
    from pandas import DataFrame


def arms(rows: "DataFrame") -> Any:
    """The rows of the learning curves."""
    return rows[~rows.arm.isin([LIMIT, CURVE])]


def errors(rows: "DataFrame") -> dict[int, Number]:
    """Test error by number of images."""
    return each(rows, "n", lambda some: mean(some.error, within=SHARE))


def accuracy(rows: "DataFrame", dataset: str, n: int) -> Number | None:
    """Test accuracy of the tuned kernel."""
    some = rows[(rows.dataset == dataset) & (rows.arm == TUNED) & (rows.n == n)]
    return mean(1 - some.error, within=SHARE)


def lost(rows: "DataFrame", dataset: str, arm: str, other: str) -> Number | None:
    """Test error of one arm less that of another, each of its largest width, by seed: means over n.

    Only the n count that both arms have with all seeds; seeds that lack one of these are left out.
    """
    some = arms(rows)
    some = some[(some.dataset == dataset) & some.arm.isin([arm, other])]
    some = some[some.width == some.groupby("arm").width.transform("max")]
    first, second = (some[some.arm == one].set_index(["n", "seed"]).error for one in (arm, other))
    both = first.index.intersection(second.index)
    if not len(both):
        return None
    if (first[both] - second[both]).isna().any():
        return mean([np.nan])
    differences = (first[both] - second[both]).unstack("n")
    seeds = differences.count()
    return mean(differences.loc[:, seeds == seeds.max()].dropna().mean(axis=1), within=CORRELATION)


def exponent(rows: "DataFrame", dataset: str) -> Number | None:
    """Exponent in m of the distance between the fits of the finite and of the infinite kernel."""
    some = rows[(rows.dataset == dataset) & (rows.arm == LIMIT)]
    return slope(some.width, some.distance, some.seed) if len(some) else None


def distances(rows: "DataFrame", dataset: str) -> dict[int, Number]:
    """The same distances by width."""
    some = rows[(rows.dataset == dataset) & (rows.arm == LIMIT)]
    return each(some, "width", lambda at: geometric_mean(at.distance)) if len(some) else {}


def foretold(rows: "DataFrame", dataset: str) -> Number | None:
    """Measured over foretold mean square error: a geometric mean over n for each seed."""
    some = rows[(rows.dataset == dataset) & (rows.arm == CURVE)]
    if not len(some):
        return None
    logs = means(np.log(some.square / some.foretold).groupby(some.seed))
    return geometric_mean(np.exp(logs))
