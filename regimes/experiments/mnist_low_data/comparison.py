"""Rows to comparisons: the tuned arm of a method, differences paired by seed."""

from typing import TYPE_CHECKING

import numpy as np

from regimes.lab.statistics import Mean, mean_interval

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Key = tuple[str, bool]  # method, and whether its learning rate is tuned


def usual(rows: "DataFrame", method: str, train_size: int) -> "DataFrame":
    """The rows of a method at one train size under its own name, that is, at the usual learning rate."""
    return rows[(rows.arm == method) & (rows.train_size == train_size)]


def tuned(rows: "DataFrame", method: str, train_size: int) -> "DataFrame":
    """The rows of a method at the learning rate with the best mean validation accuracy over the seeds.

    Only seeds count for which all rates were run; no row if there is only one rate.
    """
    some = rows[(rows.method == method) & (rows.train_size == train_size)]
    rates = some.learning_rate.nunique()
    if rates < 2:
        return some.iloc[:0]
    whole = some[some.groupby("seed").learning_rate.transform("nunique") == rates]
    if whole.empty:
        return whole
    return whole[whole.learning_rate == whole.groupby("learning_rate").validation.mean().idxmax()]


def select(rows: "DataFrame", key: Key, train_size: int) -> "DataFrame":
    """The rows of a method at one train size, tuned or not."""
    method, is_tuned = key
    return (tuned if is_tuned else usual)(rows, method, train_size)


def gains(rows: "DataFrame", key: Key, other: Key, train_size: int, protocol: str) -> "Series":
    """Accuracy of the one less that of the other, in points (of 100), for each seed that both have."""
    first, second = (select(rows, one, train_size).set_index("seed")[protocol] for one in (key, other))
    return 100 * (first - second).dropna()


def gain(rows: "DataFrame", key: Key, other: Key, train_size: int, protocol: str) -> Mean:
    """Mean of the paired differences with Student's interval over the seeds; NaN where no seed has both."""
    found = gains(rows, key, other, train_size, protocol)
    return mean_interval(np.asarray(found) if len(found) else [np.nan, np.nan])
