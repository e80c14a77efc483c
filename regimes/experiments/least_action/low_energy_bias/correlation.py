"""One rank correlation a seed, over its initialisations: what verdict and figure share."""

import math
from typing import Any

from regimes.lab import numbers
from regimes.lab.intervals import CORRELATION
from regimes.lab.numbers import Number
from regimes.lab.ranks import rank_correlation

FEWEST = 4  # initialisations from which a rank correlation is taken


def correlations(rows: Any, x: str, y: str) -> Number | None:
    """Spearman's ρ of two columns over the initialisations of a seed: mean over the seeds that have enough of them.

    Seeds in which one of the two is constant are left out; NaN if it is in all.
    """
    seeds = [some for _, some in rows.groupby("seed") if len(some) >= FEWEST]
    found = [rank_correlation(some[x], some[y]) for some in seeds]
    return numbers.mean([one for one in found if not math.isnan(one)] or found, within=CORRELATION)
