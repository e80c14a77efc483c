"""The figure of a training run: risk, accuracy, transport cost, λ and the penalty's share against epochs; times."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regimes.lab.figures import DOUBLE, PALETTE, explain, figure, logarithmic, style

Rows = Sequence[Mapping[str, Any]]
Panel = Callable[[Axes, Rows], None]
NOTE = (
    "One run: there are no bands. Training: mean over the steps of the epoch, in train mode, while the weights move. "
    "Validation, transport cost and λ: after the epoch, in eval mode."
)
NARROW = 3.0  # ratio of largest to least below which an axis is linear


def draw(rows: Rows) -> Figure:
    """Panels from the rows of metrics.csv, one for each number that the run has; one run, so no bands."""
    panels: list[Panel] = [_risk]
    if rows[0]["running_accuracy"] is not None:
        panels.append(_accuracy)
    if rows[0]["energy"] is not None:
        panels += [_costs, _blocks]
    if rows[0]["multiplier"] is not None:
        panels += [_multiplier, _share]
    if "exchanges" in rows[0]:
        panels += [_times, _weights, _exchanges]
    lines = (len(panels) + 1) // 2
    with style():
        made, grid = figure(lines, 2, width=DOUBLE, height=2.3 * lines, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            panel(axes, rows)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        explain(made, NOTE)
    return made


def _risk(axes: Axes, rows: Rows) -> None:
    _curve(axes, rows, "running_risk", "training", PALETTE[0], "o-")
    _curve(axes, rows, "validation_risk", "validation", PALETTE[1], "s--")
    axes.set_ylabel("risk")
    _finish(axes, rows, ["running_risk", "validation_risk"])


def _accuracy(axes: Axes, rows: Rows) -> None:
    _curve(axes, rows, "running_accuracy", "training", PALETTE[0], "o-")
    _curve(axes, rows, "validation_accuracy", "validation", PALETTE[1], "s--")
    axes.set_ylabel("accuracy (share right)")
    axes.legend()


def _costs(axes: Axes, rows: Rows) -> None:
    _curve(axes, rows, "energy", "", PALETTE[2], "o-")
    axes.set_ylabel("transport cost, all blocks")
    _finish(axes, rows, ["energy"])


def _blocks(axes: Axes, rows: Rows) -> None:
    names = [name for name in rows[0] if name.startswith("energy_")]
    ends = [(rows[0], "first", PALETTE[5], "s--"), (rows[-1], "last", PALETTE[0], "o-")]
    turned: dict[str, list[Any]] = {}
    for row, which, colour, dash in ends[len(rows) == 1 :]:
        turned[which] = [row[name] for name in names]
        _plot(axes, range(1, len(names) + 1), turned[which], f"{which} epoch ({row['epoch']})", colour, dash)
    axes.set(xlabel="block k", ylabel="transport cost of block k")
    _finish(axes, [turned], list(turned))


def _multiplier(axes: Axes, rows: Rows) -> None:
    _curve(axes, rows, "multiplier", "", PALETTE[3], "o-")
    axes.set_ylabel("multiplier λ")


def _share(axes: Axes, rows: Rows) -> None:
    _curve(axes, rows, "penalty_share", "", PALETTE[4], "o-")
    axes.set(ylabel="share of penalty in loss", ylim=(0, 1))


def _times(axes: Axes, rows: Rows) -> None:
    for number, name in enumerate(name for name in rows[0] if name.startswith("tau_")):
        _curve(axes, rows, name, "", PALETTE[number % len(PALETTE)], "o-")
    axes.set_ylabel("time τ, a line each block")


def _weights(axes: Axes, rows: Rows) -> None:
    """Smallest and largest weight of a block, 1 on the uniform grid."""
    _curve(axes, rows, "largest_weight", "largest", PALETTE[0], "o-")
    _curve(axes, rows, "smallest_weight", "smallest", PALETTE[1], "s--")
    axes.axhline(1, color="#000000", linewidth=0.8, zorder=1, label="uniform grid")
    axes.set_ylabel("block weight L (τ$^l$ − τ$^{l−1}$)")
    axes.legend()


def _exchanges(axes: Axes, rows: Rows) -> None:
    _curve(axes, rows, "exchanges", "", PALETTE[3], "^-")
    axes.set_ylabel("pairs that changed places")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _curve(axes: Axes, rows: Rows, name: str, label: str, colour: str, dash: str) -> None:
    """One column against the epoch; nothing for a column without figures."""
    if rows[0][name] is not None:
        _plot(axes, [row["epoch"] for row in rows], [row[name] for row in rows], label, colour, dash)


def _plot(axes: Axes, x: Sequence[int], y: Sequence[float | int], label: str, colour: str, dash: str) -> None:
    """A curve, without marks where they would touch; a cross on top where a number is not finite."""
    shown = [value if isfinite(value) else float("nan") for value in y]
    axes.plot(x, shown, dash if len(x) <= 30 else dash[1:], color=colour, label=label or None)
    _mark(axes, [place for place, value in zip(x, y, strict=True) if not isfinite(value)], 1, "x", "not finite", colour)


def _finish(axes: Axes, rows: Rows, names: Sequence[str]) -> None:
    """A logarithmic axis with ticks that can be read, where the numbers differ enough; zeros marked below it."""
    values = [value for name in names for row in rows for value in _list(row[name]) if value is not None]
    above = [value for value in values if 0 < value < float("inf")]
    if above and max(above) > NARROW * min(above):
        logarithmic(axes, above)
        for line in list(axes.get_lines()):
            zeros = [
                x for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True) if y == 0
            ]
            _mark(axes, zeros, 0, "v", "0, below a log scale", line.get_color())
    elif above:
        axes.set_ylim(0, max(1.05 * max(above), axes.get_ylim()[1]))  # a mark alone has no room above
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _mark(axes: Axes, x: Sequence[Any], height: int, marker: str, label: str, colour: Any) -> None:
    """Marks at the edge of a panel for what has no place in it."""
    if x:
        heights, where = [height] * len(x), axes.get_xaxis_transform()
        axes.plot(x, heights, marker, color=colour, label=label, transform=where, clip_on=False, markersize=5)
