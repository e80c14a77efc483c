"""The figure of a training run: risk, accuracy, transport cost and λ against epochs; energy of each block; times."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from regimes.lab.figures import DOUBLE, PALETTE, figure, style

Rows = Sequence[Mapping[str, Any]]


def draw(rows: Rows) -> Figure:
    """Four panels from the rows of metrics.csv; two without residual blocks, two more with times."""
    moves, timed = rows[0]["energy"] is not None, "exchanges" in rows[0]
    lines = 1 + moves + timed
    with style():
        made, panels = figure(lines, 2, width=DOUBLE, height=2.3 * lines, squeeze=False)
        risk, accuracy = panels[0]
        _curve(risk, rows, "risk", "training", PALETTE[0], "o-")
        _curve(risk, rows, "validation_risk", "validation", PALETTE[1], "s--")
        risk.set(xlabel="epoch", ylabel="risk (mean cross-entropy)", yscale="log")
        _curve(accuracy, rows, "accuracy", "training", PALETTE[0], "o-")
        _curve(accuracy, rows, "validation_accuracy", "validation", PALETTE[1], "s--")
        accuracy.set(xlabel="epoch", ylabel="accuracy (share right)")
        if moves:
            _costs(panels[1, 0], rows)
            _blocks(panels[1, 1], rows)
        for axes in (risk, accuracy):
            axes.legend()
        if timed:
            _times(panels[2, 0], rows)
            _weights(panels[2, 1], rows)
        for axes in panels.flat:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return made


def _costs(axes: Axes, rows: Rows) -> None:
    _curve(axes, rows, "energy", "transport cost", PALETTE[2], "o-")
    axes.set(xlabel="epoch", ylabel="transport cost, all blocks", yscale="log")
    handles = axes.get_lines()
    if rows[0]["multiplier"] is not None:
        other = axes.twinx()
        _curve(other, rows, "multiplier", "multiplier λ", PALETTE[3], "s--")
        other.set(ylabel="multiplier λ")
        other.spines["right"].set_visible(True)
        other.grid(False)
        _legend_above(axes, [*handles, *other.get_lines()])
    else:
        axes.legend()


def _blocks(axes: Axes, rows: Rows) -> None:
    names = [name for name in rows[0] if name.startswith("energy_")]
    for row, which, colour, dash in ((rows[0], "first", PALETTE[5], "s--"), (rows[-1], "last", PALETTE[0], "o-")):
        label = f"{which} epoch ({row['epoch']})"
        axes.plot(range(1, len(names) + 1), [row[name] for name in names], dash, color=colour, label=label)
    axes.set(xlabel="block k", ylabel="transport cost of block k", yscale="log")
    axes.legend()


def _times(axes: Axes, rows: Rows) -> None:
    for number, name in enumerate(name for name in rows[0] if name.startswith("tau_")):
        _curve(axes, rows, name, "", PALETTE[number % len(PALETTE)], "o-")
    axes.set(xlabel="epoch", ylabel="time τ, a line each block")


def _weights(axes: Axes, rows: Rows) -> None:
    """Smallest and largest weight of a block, 1 on the uniform grid; exchanges of places on the right."""
    _curve(axes, rows, "largest_weight", "largest", PALETTE[0], "o-")
    _curve(axes, rows, "smallest_weight", "smallest", PALETTE[1], "s--")
    handles = axes.get_lines()
    axes.axhline(1, color="#000000", linewidth=0.8, zorder=1)
    axes.set(xlabel="epoch", ylabel="block weight L (τ$^l$ − τ$^{l−1}$)")
    other = axes.twinx()
    _curve(other, rows, "exchanges", "exchanges (right)", PALETTE[3], "^:")
    other.set(ylabel="pairs that changed places")
    other.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    other.spines["right"].set_visible(True)
    other.grid(False)
    _legend_above(axes, [*handles, *other.get_lines()])


def _legend_above(axes: Axes, lines: Sequence[Line2D]) -> None:
    """A legend for the curves of two scales, which leave no corner free for certain."""
    labels = [str(line.get_label()) for line in lines]
    axes.legend(lines, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(lines), columnspacing=1.0)


def _curve(axes: Axes, rows: Rows, name: str, label: str, colour: str, dash: str) -> None:
    """One column against the epoch, without marks where they would touch; nothing for a column without figures."""
    if rows[0][name] is not None:
        dash = dash if len(rows) <= 30 else dash[1:]
        axes.plot([row["epoch"] for row in rows], [row[name] for row in rows], dash, color=colour, label=label)
