"""The difference of two attacked accuracies: its interval allows for the images that happen to be attacked."""

from typing import Any

import numpy as np
from scipy.special import ndtri

from regimes.lab.intervals import LEVEL, Interval
from regimes.lab.numbers import Number, mean, paired
from regimes.lab.report import Estimate


def kept_more(one: Any, other: Any, images: Any) -> Number | None:
    """Mean over the seeds of one − other, accuracies by seed on so many images, the same for both; widened for those.

    All seeds may have attacked the same images, as in the kept run, and then their scatter does not show what other
    images would give. On an image the difference is −1, 0 or 1. For accuracies p and q the two can differ on a share of
    min(p + q, 2 − p − q) of the images at most, so that its variance is at most this less (p − q)².
    """
    found = mean(paired(one, other, lambda first, second: first - second))
    if found is None:
        return None
    p, q = (float(of.mean(skipna=False)) for of in (one, other))
    error = np.sqrt((np.minimum(p + q, 2 - p - q) - (p - q) ** 2) / float(images.min()))

    def at(level: float) -> Interval:
        return found.estimate.at(level).widened(float(ndtri((1 + level) / 2) * error))

    return Number.of(Estimate(found.value, at(LEVEL), at, found.estimate.repetitions))
