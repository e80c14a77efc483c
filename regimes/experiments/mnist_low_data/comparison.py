"""Rows to comparisons: the tuned arm of a method, differences paired by seed."""

from typing import Any

import numpy as np

from regimes.lab.statistics import Mean, mean_interval

Table = Any  # a pandas.DataFrame of rows
Key = tuple[str, bool]  # an arm and False, or a method, to be taken at its best learning rate, and True


def usual(rows: Table, arm: str, train_size: int) -> Table:
    """The rows of an arm at one train size; that named like its method has the usual learning rate."""
    return rows[(rows.arm == arm) & (rows.train_size == train_size)]


def tuned(rows: Table, method: str, train_size: int) -> Table:
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


def select(rows: Table, key: Key, train_size: int) -> Table:
    """The rows at one train size of an arm, or of a tuned method."""
    name, is_tuned = key
    return (tuned if is_tuned else usual)(rows, name, train_size)


def gains(rows: Table, key: Key, other: Key, train_size: int, protocol: str) -> Any:
    """Accuracy of the one less that of the other, in points (of 100), for each seed that both have."""
    first, second = (select(rows, one, train_size).set_index("seed")[protocol] for one in (key, other))
    return 100 * (first - second).dropna()


def gain(rows: Table, key: Key, other: Key, train_size: int, protocol: str) -> Mean:
    """Mean of the paired differences with Student's interval over the seeds; NaN where no seed has both."""
    found = gains(rows, key, other, train_size, protocol)
    return mean_interval(np.asarray(found) if len(found) else [np.nan, np.nan])


def percent(rows: Table, protocol: str) -> Mean:
    """Mean accuracy in percent with Student's interval over the seeds that have it."""
    known = 100 * np.asarray(rows[protocol].dropna(), dtype=float)
    return mean_interval(known if len(known) else [np.nan, np.nan])


def tuned_keys(rows: Table, train_size: int) -> list[Key]:
    """The methods that were run at several learning rates."""
    methods = dict.fromkeys(rows[rows.train_size == train_size].method)
    return [(method, True) for method in methods if len(tuned(rows, method, train_size))]
