"""Rows to comparisons: the tuned arm of a method, differences paired by seed, and their predictions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from regimes.lab import numbers
from regimes.lab.averages import least, middle
from regimes.lab.numbers import Number
from regimes.lab.report import Baseline, Interval, Origin, Prediction

Table = Any  # a pandas.DataFrame of rows
Key = tuple[str, bool]  # an arm and False, or a method, to be taken at its best settings, and True
Published = Mapping[str, Mapping[int, tuple[float, float, float]]]  # plain training first, then least action
PERCENT, POINTS = Interval(0.0, 100.0), Interval(-100.0, 100.0)  # of accuracies, and of their differences
LAP, DIVIDED, CONTROL, VANILLA = ("lap", False), ("lap_divided", False), ("control", False), ("vanilla", False)


def read(rows: Table) -> Table:
    """The rows with the present names of their columns; those of older runs say "honest" for "held_out"."""
    for name in ("held_out", "held_out_epoch"):
        old = name.replace("held_out", "honest")
        if old in rows:
            known = rows[name].fillna(rows[old]) if name in rows else rows[old]
            rows = rows.assign(**{name: known}).drop(columns=old)
    return rows


class Comparison(NamedTuple):
    """One arm less another, at one train size, by one protocol, and what is predicted for it."""

    key: Key
    other: Key
    train_size: int
    protocol: str
    predicted: Interval
    origin: Origin


def published_gain(published: Published, train_size: int) -> Interval:
    """Least action less vanilla in points: their published means, half widths added as independent ones."""
    vanilla, lap = (means[train_size] for means in published.values())
    return Interval.around(lap[0] - vanilla[0], float(np.hypot(lap[2] - lap[1], vanilla[2] - vanilla[1])) / 2)


def named(key: Key) -> str:
    """Name of a method in tables and findings."""
    return {"lap": "LAP", "lap_divided": "LAP, divided"}.get(key[0], key[0]) + (", tuned" if key[1] else "")


def spelled(protocol: str) -> str:
    """Name of a protocol in tables and findings: that of its column, "held-out" for held_out."""
    return protocol.replace("_", "-")


def quantity(key: Key, other: Key, train_size: int, protocol: str) -> str:
    """Words for one paired difference."""
    return f"n = {train_size}, {spelled(protocol)} protocol: {named(key)} − {named(other)}, points"


def of_table(published: Published) -> tuple[Comparison, ...]:
    """The published gains of a table, by its own protocol; and that there is a gain, and by transport, held out."""
    sizes = next(iter(published.values()))
    return (
        *(Comparison(DIVIDED, VANILLA, size, "paper", published_gain(published, size), "published") for size in sizes),
        *(Comparison(DIVIDED, VANILLA, size, "held_out", Interval.at_least(0.0), "published") for size in sizes),
        *(Comparison(LAP, CONTROL, size, "held_out", Interval.at_least(0.0), "derived") for size in sizes),
    )


def predictions(compared: Iterable[Comparison]) -> tuple[Prediction, ...]:
    """What a statement says of these differences."""
    return tuple(Prediction(quantity(*one[:4]), one.predicted, one.origin) for one in compared)


def plain(train_size: int) -> str:
    """Words for the accuracy of plain training by the protocol of the published tables."""
    return f"n = {train_size}, paper protocol: vanilla, percent"


def baselines(published: Published, compared: Sequence[Comparison]) -> tuple[Baseline, ...]:
    """Plain training as published, which gates what is predicted of the gain over it at the same size.

    Tolerance: half of the published gain. A baseline that is off by more cannot test a gain of that size.
    """
    found = []
    for size, (_, low, high) in next(iter(published.values())).items():
        gated = tuple(quantity(*one[:4]) for one in compared if (one.other, one.train_size) == (VANILLA, size))
        gained = published_gain(published, size)
        tolerance = abs(gained.low + gained.high) / 4
        found += [Baseline(plain(size), Interval(low, high), tolerance, gated)] if gated else []
    return tuple(found)


def measured(rows: Table, compared: Sequence[Comparison]) -> dict[str, Number | None]:
    """The measured number of each, and of plain training at its size; None where there are no rows of it."""
    gated = {one.train_size for one in compared if one.other == VANILLA}
    return {plain(size): percent(usual(rows, VANILLA[0], size), "paper") for size in gated} | {
        quantity(*one[:4]): gain(rows, *one[:4]) for one in compared
    }


def merits(rows: Table, pairs: Iterable[tuple[Key, Key]], protocols: Sequence[str]) -> dict[str, float]:
    """Mean and interval of each paired difference at each train size, where there are any."""
    found = {"seeds": float(rows.seed.nunique()), "diverged runs": float(lost(rows).sum())}
    for protocol in protocols:
        for size in sorted(set(rows.train_size)):
            for key, other in pairs:
                found |= numbers.spread(quantity(key, other, size, protocol), gain(rows, key, other, size, protocol))
    return found


def usual(rows: Table, arm: str, train_size: int) -> Table:
    """The rows of an arm at one train size; that named like its method has the usual settings."""
    return rows[(rows.arm == arm) & (rows.train_size == train_size)]


def tuned(rows: Table, method: str, train_size: int) -> Table:
    """The rows of the arm of a method with the best mean validation accuracy over the seeds.

    Only seeds count for which all arms of the method were run; no row if there is only one. Where one validation
    accuracy is not known, the best arm is not known: its rows then have their seed, size and method, and NaN elsewhere.
    """
    some = rows[(rows.method == method) & (rows.train_size == train_size)]
    arms = some.arm.nunique()
    if arms < 2:
        return some.iloc[:0]
    whole = some[some.groupby("seed").arm.transform("nunique") == arms]
    if whole.empty:
        return whole
    found = numbers.means(whole.groupby("arm").validation)
    if found.notna().all():
        return whole[whole.arm == found.idxmax()]
    return whole[whole.arm == whole.arm.iloc[0]][["seed", "train_size", "method"]].reindex(columns=whole.columns)


def select(rows: Table, key: Key, train_size: int) -> Table:
    """The rows at one train size of an arm, or of a tuned method."""
    name, is_tuned = key
    return (tuned if is_tuned else usual)(rows, name, train_size)


def gains(rows: Table, key: Key, other: Key, train_size: int, protocol: str) -> Any:
    """Accuracy of the one less that of the other, in points (of 100), for each seed that both have.

    A seed in which both have diverged says nothing of their difference and is left out.
    """
    first, second = (select(rows, one, train_size).set_index("seed") for one in (key, other))
    found = numbers.paired(first[protocol], second[protocol], lambda one, less: 100 * (one - less))
    without = first.index[lost(first)].intersection(second.index[lost(second)])
    return found[~found.index.isin(without)]


def gain(rows: Table, key: Key, other: Key, train_size: int, protocol: str) -> Number | None:
    """Mean of the paired differences, in points, with its interval over the seeds."""
    return numbers.mean(gains(rows, key, other, train_size, protocol), within=POINTS)


def percent(rows: Table, protocol: str) -> Number | None:
    """Mean accuracy in percent with its interval over the seeds."""
    return numbers.mean(100 * rows[protocol].astype(float), within=PERCENT)


def lost(rows: Table) -> Any:
    """Which runs have diverged: they end with a risk on their training set that is not finite.

    None of those of a tuned method whose best arm, and so its risk, is not known.
    """
    return ~np.isfinite(rows.train_risk.astype(float)) & rows.arm.notna()


def diverged(some: Table) -> int | str:
    """How many of the runs of a line of a table have; an empty cell where the rows of a tuned method are not known."""
    return "" if some.arm.isna().any() else int(lost(some).sum())


def tuned_keys(rows: Table, train_size: int) -> list[Key]:
    """The methods that were run with several settings."""
    methods = dict.fromkeys(rows[rows.train_size == train_size].method)
    return [(method, True) for method in methods if len(tuned(rows, method, train_size))]


def counted(rows: Table) -> Table:
    """The rows that fill a published table: none of a run that is smaller or otherwise trained than the published."""
    return rows[rows.as_published.astype(bool)] if "as_published" in rows else rows


def of_rows(rows: Table, published: Published) -> dict[str, float]:
    """Merits of a table: how many of its published values have runs, and the differences that were measured."""
    known = [(arm, size) for arm, means in published.items() for size in means]
    run = sum(len(usual(counted(rows), arm, size)) > 0 for arm, size in known)
    pairs = ((DIVIDED, VANILLA), (LAP, CONTROL), (LAP, VANILLA), (CONTROL, VANILLA))
    counts = {"published values": float(len(known)), "published values with runs": float(run)}
    return counts | merits(rows, pairs, ("held_out",))


def lines(rows: Table, published: Published, protocols: Sequence[str]) -> list[dict[str, Any]]:
    """A line for each size and arm that was run or published, the former with its tuned methods; see `line`.

    The column "run" says whether this row of the table was: yes, no, or reduced where it is not counted as one.
    """
    full = counted(rows)
    others = rows.drop(full.index)
    return [*_lines(others, {}, protocols, "reduced"), *_lines(full, published, protocols, "yes")]


def _lines(rows: Table, published: Published, protocols: Sequence[str], run: str) -> list[dict[str, Any]]:
    found = []
    for size in sorted({*rows.train_size, *(size for means in published.values() for size in means)}):
        arms = dict.fromkeys(rows[rows.train_size == size].arm)
        arms |= {arm: None for arm in published if size in published[arm]}
        for key in [*((arm, False) for arm in arms), *tuned_keys(rows, size)]:
            known = None if key[1] else published.get(key[0], {}).get(size)
            some = select(rows, key, size)
            made = {"n": size, "arm": named(key), "run": run if len(some) else "no"}
            found.append(made | line(some, known, protocols))
    return found


def line(some: Table, known: tuple[float, float, float] | None, protocols: Sequence[str]) -> dict[str, Any]:
    """Accuracy in percent by each protocol beside the published one, medians of transport and λ, number of seeds.

    "penalty over risk" is the median of transport / (λ · risk) on the training set: how much of the objective it is.
    "diverged" are the seeds that end without a finite risk; they count in all means with the accuracies that they have,
    those of an epoch before or of guessing. Without rows the published value stands alone.
    """
    value, low, high = known or ("", "", "")
    shown = {"published": value, "published interval": f"[{low:g}, {high:g}]" if known else ""}
    if some.empty:
        return {**shown, "seeds": 0}
    found: dict[str, Any] = {"learning rate": float(some.learning_rate.iloc[0]), **shown}
    for protocol in protocols:
        found |= numbers.cells(spelled(protocol), percent(some, protocol))
    found |= {"lowest held-out": 100 * least(some.held_out), "transport": middle(some.transport)}
    found |= {"λ": middle(some.multiplier), "penalty over risk": _share(some)}
    return found | {"seeds": len(some), "diverged": diverged(some)}


def _share(some: Table) -> float | str:
    """Of a method with transport in its objective; else nothing."""
    if not set(some.method) <= {"lap", "lap_divided"}:
        return ""
    return middle(some.transport / (some.multiplier * some.train_risk))


def to_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """The lines as a table; cells that a line does not have are empty."""
    import pandas

    return pandas.DataFrame(found).astype(object).fillna("")
