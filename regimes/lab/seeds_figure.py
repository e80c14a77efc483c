"""The figure of several seeds of one training: risk, accuracy, transport cost and λ against epochs, with intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from regimes.lab import figures
from regimes.lab.intervals import POSITIVE, SHARE, Interval
from regimes.lab.numbers import Number, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


class Panel(NamedTuple):
    """What a panel shows: label of its axis, range of its numbers, and its columns with what each is called."""

    label: str
    within: Interval
    columns: Mapping[str, str]
    logarithmic: bool = False


PANELS = (
    Panel("risk", POSITIVE, {"running_risk": "training", "validation_risk": "validation"}, logarithmic=True),
    Panel("accuracy (share right)", SHARE, {"running_accuracy": "training", "validation_accuracy": "validation"}),
    Panel("transport cost, all blocks", POSITIVE, {"energy": ""}, logarithmic=True),
    Panel("multiplier λ", POSITIVE, {"multiplier": ""}),
)
NOTE = (
    "Training: mean over the steps of an epoch, in train mode, while the weights move. The rest: after the epoch, in "
    "eval mode."
)


def draw(runs: Sequence[Rows]) -> "Figure":
    """Panels from the rows of metrics.csv of each seed: thin lines are seeds, thick ones their means."""
    panels = [panel for panel in PANELS if any(_known(runs, column) for column in panel.columns)]
    lines = (len(panels) + 1) // 2
    with figures.style():
        made, grid = figures.figure(lines, 2, width=figures.DOUBLE, height=2.3 * lines, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, panel, runs)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        spread = figures.intervals("bands", len(runs), "95 % intervals of the means")
        figures.explain(made, f"Thin lines: {len(runs)} seeds; thick lines: their means; {spread}. {NOTE}")
    return made


def means(runs: Sequence[Rows], column: str, within: Interval) -> dict[int, Number]:
    """The mean over the seeds at each epoch that all of them have a number of."""
    by_epoch = [{row["epoch"]: row[column] for row in rows if row[column] is not None} for rows in runs]
    common = [epoch for epoch in by_epoch[0] if all(epoch in one for one in by_epoch)]
    found = {epoch: mean([one[epoch] for one in by_epoch], within=within) for epoch in common}
    return {epoch: number for epoch, number in found.items() if number is not None}


def _draw(axes: Any, panel: Panel, runs: Sequence[Rows]) -> None:
    for number, (column, label) in enumerate(panel.columns.items()):
        if not _known(runs, column):
            continue
        for rows in runs:
            shown = [row for row in rows if row[column] is not None]
            axes.plot(
                [row["epoch"] for row in shown], [row[column] for row in shown],
                color=figures.PALETTE[number], linewidth=0.5, alpha=0.6,
            )  # fmt: skip
        look = {"marker": "", "linewidth": 2.0, "linestyle": "-" if number == 0 else "--", "label": label or None}
        figures.curve(axes, means(runs, column, panel.within), number=number, **look)
    axes.set(xlabel="epoch", ylabel=panel.label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    values = [row[column] for rows in runs for row in rows for column in panel.columns if row.get(column) is not None]
    if panel.logarithmic and min(values) > 0:
        figures.logarithmic(axes, values)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _known(runs: Sequence[Rows], column: str) -> bool:
    return all(any(row.get(column) is not None for row in rows) for rows in runs)
