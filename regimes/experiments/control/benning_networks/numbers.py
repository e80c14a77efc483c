"""Numbers of the four nets after their training, by data set: differences are paired by seed."""

from typing import Any

import numpy as np

from regimes.experiments.control.benning_networks.config import NET, ODENET, RESIDUAL, RESNET, SIMPLEX
from regimes.experiments.control.plane_course import compared, ends
from regimes.lab.intervals import CORRELATION, POSITIVE, SHARE
from regimes.lab.numbers import Number, by_seed, mean, paired, share

ACCURACY = "fresh_accuracy"


def accuracies(rows: Any, dataset: str, net: str) -> Any:
    """Accuracy on fresh samples, by seed."""
    return by_seed(ends(rows, dataset, net), ACCURACY)


def lead(rows: Any, dataset: str) -> Number | None:
    """Accuracy of the least accurate residual net less that of the net without skips."""
    import pandas

    nets = [accuracies(rows, dataset, net) for net in RESIDUAL]
    residual = pandas.concat(nets, axis=1, join="inner").min(axis=1, skipna=False)
    return mean(paired(residual, accuracies(rows, dataset, NET), np.subtract), within=CORRELATION)


def gain(rows: Any, dataset: str, net: str) -> Number | None:
    """Accuracy of a net with learned steps less that of the ResNet."""
    return mean(compared(rows, dataset, net, RESNET, ACCURACY, np.subtract), within=CORRELATION)


def steps(rows: Any, dataset: str, net: str) -> np.ndarray:
    """The steps at the end, (seeds, layers)."""
    some = ends(rows, dataset, net)
    names = sorted((name for name in rows.columns if name.startswith("step_")), key=lambda name: int(name[5:]))
    return some[names].dropna(axis=1, how="all").to_numpy(dtype=float) if len(some) else np.empty((0, 0))


def negative(rows: Any, dataset: str) -> Number | None:
    """Share of runs in which a learned step is negative."""
    found = steps(rows, dataset, ODENET)
    return share(found.min(1) < 0, found.min(1)) if len(found) else None


def variation(rows: Any, dataset: str) -> Number | None:
    """Standard deviation of the free steps over the layers, in units of the step 1/L at the start."""
    found = steps(rows, dataset, ODENET)
    return mean(found.std(1) * found.shape[1], within=POSITIVE) if len(found) else None


def zeros(rows: Any, dataset: str) -> Number | None:
    """Share of the projected steps that are exactly zero."""
    found = steps(rows, dataset, SIMPLEX)
    return mean(np.where(np.isnan(found), np.nan, found == 0).mean(1), within=SHARE) if len(found) else None
