"""The figure: growth against time between what eigenvalues and logarithmic norm say, and against the speed."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.control.frozen_eigenvalues_mislead.runs import LOOKED_AT
from regimes.lab import figures
from regimes.lab.numbers import each, geometric_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """A panel for each kind of net with its growth in time; the amplification at the end against the speed."""
    names = list(dict.fromkeys(rows.net))
    made, grid = figures.figure(2, 3, width=figures.DOUBLE, height=4.6)
    panels = list(grid.flat)
    with figures.style():
        for ax, name in zip(panels, names, strict=False):
            _growth(ax, rows[(rows.net == name) & (rows.speed == rows.speed[rows.speed <= 1].max())])
            ax.set(title=name, ylabel="largest growth", yscale="log", xlabel="time t")
        _speeds(panels[-2], rows, names)
        handles = [*panels[0].get_legend_handles_labels()[0], *panels[-2].get_legend_handles_labels()[0]]
        for ax in (*panels[len(names) : -2], panels[-1]):
            ax.set_axis_off()
        if names:
            panels[-1].legend(handles=handles, loc="center left")
        words = (
            "Growth ‖z(t)‖/‖z(0)‖ of the first net of each kind at speed 1 (or the fastest below), between what its "
        )
        words += (
            "eigenvalues say and what its logarithmic norm allows. Speeds: geometric means over nets; dots: closed "
        )
        words += "form of the linear ones; dashed: tenfold."
        figures.explain(made, words)
    return made


def _growth(ax: "Axes", some: Any) -> None:
    if not len(some):
        return
    row = some.iloc[0]
    times = row.time * np.arange(LOOKED_AT + 1) / LOOKED_AT
    lines = (("growth", "net", "-", 1), ("normal", "normal, same λ", "-", 0), ("negative", "negative μ", "-", 2))
    for column, words, line, color in lines:
        values = [1.0, *(row[f"{column}_{number + 1}"] for number in range(LOOKED_AT))]
        ax.plot(times, values, linestyle=line, color=figures.PALETTE[color], label=words)
    ax.plot(times, row.bound ** (times / row.time), ":", color="black", linewidth=1, label=r"$e^{\int\mu}$")
    ax.plot(
        times, np.exp(row.frozen * times), "--", color=figures.GREY, linewidth=1, label=r"$e^{t\,\max\,Re\,\lambda}$"
    )
    ax.set_ylim(bottom=1e-2, top=40)


def _speeds(ax: "Axes", rows: Any, names: list[str]) -> None:
    for number, name in enumerate(names):
        own = rows[rows.net == name]
        figures.curve(ax, each(own, "speed", lambda at: geometric_mean(at.net_growth)), number=number, markersize=3)
        closed = own.groupby("speed").closed.apply(lambda values: np.exp(np.log(values).mean()))
        if "tanh" not in name:
            ax.plot(closed.index, closed, linestyle="", marker=".", markersize=2, color="black", zorder=3)
        ax.plot([], [], color=figures.PALETTE[number], marker=figures.MARKERS[number], markersize=3, label=name)
    ax.axhline(10, color=figures.GREY, linestyle="--", linewidth=1)
    ax.set(yscale="log", xlabel="speed of rotation c", ylabel="growth at the end", title="speeds")
