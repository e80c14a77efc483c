"""Rows to comparisons: differences of accuracy paired by seed in each cell, tuned arms, Holm's correction, the gate."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from regimes.experiments.least_action.low_data.comparison import PERCENT, POINTS, Key, lost, named, published_gain
from regimes.experiments.least_action.mnist_low_data.config import ENCODERS
from regimes.lab import numbers
from regimes.lab.numbers import Number
from regimes.lab.report import Baseline, Interval, Prediction
from regimes.lab.statistics import holm, paired_p, pitman_morgan

Table = Any  # a pandas.DataFrame of rows
LAP, CONTROL, VANILLA, TUNED = ("lap", False), ("control", False), ("vanilla", False), ("vanilla", True)
PAIRS = ((LAP, VANILLA), (LAP, CONTROL), (LAP, TUNED), (CONTROL, VANILLA))
SIZES = (100, 200, 300, 500)  # with 400 there is no published gain
NEAR = 3.0  # points from the published accuracy of plain training, within which it counts as reproduced
# Test accuracy in percent: mean, low and high end of the 95 % interval over 50 runs. [Karkar2020] Table 1.
PUBLISHED = {
    "vanilla": {
        100: (56.4, 54.9, 58.0),
        200: (74.9, 73.9, 75.9),
        300: (83.5, 83.0, 84.1),
        400: (88.4, 88.0, 88.8),
        500: (90.8, 90.4, 91.2),
    },
    "lap": {
        100: (70.0, 69.0, 71.0),
        200: (82.0, 81.5, 82.5),
        300: (86.2, 85.8, 86.6),
        400: (88.4, 88.0, 88.8),
        500: (90.9, 90.7, 91.1),
    },
}


class Score(NamedTuple):
    """A way to count accuracy: of which nets, by which column, and by which a rate is chosen."""

    norm: str
    column: str
    validation: str


SCORES = {
    "paper": Score("batch", "paper", "validation"),
    "running": Score("batch", "running", "validation"),
    "refreshed": Score("batch", "refreshed", "validation_refreshed"),
    "group norm": Score("group", "running", "validation"),
}
ENDS = {"protocol": "", "equal risk": "equal_"}  # and what columns are called there


class Cell(NamedTuple):
    """Where arms are compared: encoder, training samples, way to count, and end of training."""

    encoder: str
    train_size: int
    score: str
    end: str = "protocol"

    def __str__(self) -> str:
        """Words for it."""
        ended = "" if self.end == "protocol" else f", {self.end}"
        return f"{self.encoder}, n = {self.train_size}, {self.score}{ended}"

    def quantity(self, key: Key, other: Key) -> str:
        """Words for one paired difference in it."""
        return f"{self}: {named(key)} − {named(other)}, points"


def columns(cell: Cell) -> tuple[str, str]:
    """The column of accuracy in a cell, and that of the validation accuracy by which a rate is chosen."""
    score, prefix = SCORES[cell.score], ENDS[cell.end]
    return prefix + score.column, prefix + score.validation


def cells(rows: Table) -> Iterator[Cell]:
    """All cells that the rows may fill, in their order."""
    for encoder in dict.fromkeys(rows.encoder):
        for size in sorted({int(size) for size in rows.train_size}):
            for score, (norm, column, _) in SCORES.items():
                for end, prefix in ENDS.items():
                    some = rows[(rows.encoder == encoder) & (rows.train_size == size) & (rows.norm == norm)]
                    if prefix + column in some and (some.equal_epoch.notna().any() if prefix else len(some)):
                        yield Cell(encoder, size, score, end)


def of_cell(rows: Table, cell: Cell, method: str) -> Table:
    """The rows of all arms of a method in a cell."""
    norm = SCORES[cell.score].norm
    at = (rows.encoder == cell.encoder) & (rows.train_size == cell.train_size) & (rows.norm == norm)
    return rows[at & (rows.method == method)]


def select(rows: Table, key: Key, cell: Cell) -> Table:
    """The rows of an arm in a cell by seed; of a tuned method in each seed those of its best rate by validation.

    At equal risk of the nets that reached it. The validation samples of a seed are as many as its training samples. Of
    equal rates the smallest counts; only seeds in which all rates were run. A rate that did not reach equal risk is not
    chosen. Where a validation accuracy is not known, the accuracy at the best rate of its seed is not known.
    """
    (method, is_tuned), (column, validation) = key, columns(cell)
    some = of_cell(rows, cell, method)
    arms = some.arm.nunique()
    if not is_tuned:
        some = some[some.arm == method]
    elif arms > 1:
        some = some[some.groupby("seed").arm.transform("nunique") == arms]
    else:
        some = some.iloc[:0]
    some = some[some.equal_epoch.notna()] if ENDS[cell.end] else some
    if not is_tuned:
        return some.set_index("seed")
    order = {"seed": True, "chosen_by": False, "learning_rate": True}
    ranked = some.assign(chosen_by=some[validation].astype(float)).sort_values(
        [*order], ascending=[*order.values()], na_position="first"
    )
    best = ranked.drop_duplicates("seed").set_index("seed")
    return best.assign(**{column: best[column].where(best.chosen_by.notna())})


def accuracies(rows: Table, key: Key, cell: Cell) -> Table:
    """Accuracy in percent by seed."""
    return 100 * select(rows, key, cell)[columns(cell)[0]].astype(float)


def differences(rows: Table, key: Key, other: Key, cell: Cell) -> Table:
    """Accuracy of the one less that of the other, in points, for each seed that has both.

    A seed in which both have diverged says nothing of their difference and is left out.
    """
    first, second = select(rows, key, cell), select(rows, other, cell)
    found = numbers.paired(accuracies(rows, key, cell), accuracies(rows, other, cell), np.subtract)
    without = first.index[lost(first)].intersection(second.index[lost(second)])
    return found[~found.index.isin(without)]


def gain(rows: Table, key: Key, other: Key, cell: Cell) -> Number | None:
    """Mean of the paired differences, in points, with its interval over the seeds."""
    return numbers.mean(differences(rows, key, other, cell), within=POINTS)


def percent(rows: Table, key: Key, cell: Cell) -> Number | None:
    """Mean accuracy in percent with its interval over the seeds."""
    return numbers.mean(accuracies(rows, key, cell), within=PERCENT)


class Comparison(NamedTuple):
    """One arm less another in a cell, and what is predicted for it."""

    key: Key
    other: Key
    cell: Cell
    prediction: Prediction


def predicted() -> tuple[Comparison, ...]:
    """The published gain over plain training, and that transport is its reason, with each encoder at each size."""
    found = []
    for encoder in ENCODERS:
        for size in SIZES:
            cell = Cell(encoder, size, "paper")
            words = cell.quantity(LAP, VANILLA)
            found.append(
                Comparison(LAP, VANILLA, cell, Prediction(words, published_gain(PUBLISHED, size), "published"))
            )
            for other, score, end in (
                (CONTROL, "running", "protocol"),
                (CONTROL, "refreshed", "protocol"),
                (CONTROL, "group norm", "protocol"),
                (TUNED, "refreshed", "protocol"),
                (CONTROL, "refreshed", "equal risk"),
            ):
                cell = Cell(encoder, size, score, end)
                said = Prediction(cell.quantity(LAP, other), Interval.at_least(0.0), "derived")
                found.append(Comparison(LAP, other, cell, said))
    return tuple(found)


def plain(cell: Cell) -> str:
    """Words for the accuracy of plain training in a cell."""
    return f"{cell}: vanilla, percent"


def gates(compared: Sequence[Comparison]) -> tuple[Baseline, ...]:
    """Plain training as published: a gain over it is judged where its mean lies within 3 points of that value."""
    return tuple(
        Baseline(plain(cell), Interval.around(PUBLISHED["vanilla"][cell.train_size][0], 0.0), NEAR, (said.quantity,))
        for _, other, cell, said in compared
        if other == VANILLA and cell.score == "paper"
    )


def measured(rows: Table, compared: Sequence[Comparison]) -> dict[str, Number | None]:
    """The measured number of each, and of plain training the mean alone: the gate looks at no interval."""
    found = {said.quantity: gain(rows, key, other, cell) for key, other, cell, said in compared}
    for _, other, cell, _ in compared:
        if other == VANILLA and cell.score == "paper" and (number := percent(rows, VANILLA, cell)) is not None:
            found[plain(cell)] = Number(number.value, Interval.around(number.value, 0.0))
    return found


def lines(rows: Table) -> list[dict[str, Any]]:
    """A line a cell and pair: both accuracies, their difference with interval, its p and Holm's p, number of seeds.

    p is that of the paired t-test of no difference; Holm's holds for all lines together. Whether the first arm varies
    less between seeds, so that its interval is narrower: the ratio of deviations, and the p of Pitman and Morgan.
    """
    found = []
    for cell in cells(rows):
        for key, other in PAIRS:
            values = differences(rows, key, other, cell)
            if len(values) == 0:
                continue
            pair = [accuracies(rows, one, cell)[values.index] for one in (key, other)]
            both = {
                f"{place} arm, %": float(one.mean(skipna=False))
                for place, one in zip(("first", "second"), pair, strict=True)
            }
            line = {"encoder": cell.encoder, "n": cell.train_size, "scored": cell.score, "trained to": cell.end}
            line |= {"compared": f"{named(key)} − {named(other)}", **both}
            line |= numbers.cells("difference", numbers.mean(values, within=POINTS))
            narrower = dict(zip(("ratio of deviations", "p, Pitman-Morgan"), pitman_morgan(*pair), strict=True))
            found.append(line | narrower | {"seeds": len(values), "p": paired_p(values)})
    for line, corrected in zip(found, holm([line["p"] for line in found]), strict=True):
        line["p, Holm"] = corrected
    return found


def beyond_chance(rows: Table) -> dict[str, float]:
    """How many differences of each pair are above and below 0 by Holm's p over all lines, 5 %.

    NaN where a difference is not known, or where it depends on the unknown p of another line whether Holm's p is below
    5 %. A difference of one seed has no p and is not counted.
    """
    every = lines(rows)
    lowest = holm([0.0 if np.isnan(line["difference"]) else line["p"] for line in every])
    found: dict[str, float] = {}
    for line, least in zip(every, lowest, strict=True):
        name, highest, value = line["compared"], line["p, Holm"], line["difference"]
        for side, sign in (("above", 1), ("below", -1)):
            words = f"cells in which {name} is {side} 0 (Holm, 5 %)"
            there = np.sign(value) == sign
            open_ = np.isnan(value) or (there and (highest < 0.05) != (least < 0.05))
            found[words] = found.get(words, 0.0) + (np.nan if open_ else float(there and highest < 0.05))
        words = f"cells in which {name} was compared"
        found[words] = found.get(words, 0.0) + 1
    return found
