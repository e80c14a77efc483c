"""The figure: growth against time between what eigenvalues and logarithmic norm say, and against the speed."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.control.frozen_eigenvalues_mislead.runs import LOOKED_AT
from regimes.lab import figures
from regimes.lab.averages import average
from regimes.lab.numbers import each, geometric_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame


GROWTHS = (("growth", "net", "-", 1), ("normal", "normal, same λ", "-", 0), ("negative", "negative μ", "-", 2))
FIRST = 3  # look of the first net in the panel of the speeds, whose colours no growth has


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
        for ax in (*panels[len(names) : -2], panels[-1]):
            ax.set_axis_off()
        if names:
            panels[-1].legend(handles=panels[0].get_legend_handles_labels()[0], title="growth in time", loc="center")
            panels[-2].legend(loc="lower center", fontsize=7, handlelength=1.2, labelspacing=0.2)
            panels[-2].set_ylim(bottom=0.02)
        nets = int(rows.groupby("net").seed.nunique().max()) if len(rows) else 0
        words = (
            "Growth ‖z(t)‖/‖z(0)‖ of the first net of each kind at speed 1 (or the fastest below), between what its "
            "eigenvalues say and what its logarithmic norm allows. Speeds: marks of the kinds side by side, geometric "
            f"means over at most {nets} nets; {figures.intervals('bands', nets)}; white dots: closed form of the "
            "linear ones; dashed: no growth."
        )
        figures.explain(made, words)
    return made


def _growth(ax: "Axes", some: Any) -> None:
    if not len(some):
        return
    row = some.iloc[0]
    times = row.time * np.arange(LOOKED_AT + 1) / LOOKED_AT
    for column, words, line, color in GROWTHS:
        values = [1.0, *(row[f"{column}_{number + 1}"] for number in range(LOOKED_AT))]
        ax.plot(times, values, linestyle=line, color=figures.PALETTE[color], label=words)
    ax.plot(times, row.bound ** (times / row.time), ":", color="black", linewidth=1, label=r"$e^{\int\mu}$")
    frozen = r"$e^{t\,\max\,\mathrm{Re}\,\lambda}$"
    ax.plot(times, np.exp(row.frozen * times), "--", color=figures.GREY, linewidth=1, label=frozen)


def _speeds(ax: "Axes", rows: Any, names: list[str]) -> None:
    for place, name in enumerate(names):
        own, number = rows[rows.net == name], FIRST + place
        values = figures.beside(each(own, "speed", lambda at: geometric_mean(at.net_growth)), place, len(names), 0.04)
        figures.curve(ax, values, number=number, markersize=3, linewidth=0.8, label=name)
        closed = own.groupby("speed").closed.apply(lambda values: np.exp(average(np.log(values))))
        if "tanh" not in name:
            where = [at + 0.04 * (place - (len(names) - 1) / 2) for at in closed.index]
            ax.plot(where, closed, linestyle="", marker=".", markersize=2, color="white", zorder=3)
    ax.axhline(1, color=figures.GREY, linestyle="--", linewidth=1)
    ax.set(yscale="log", xlabel="speed of rotation c", ylabel="growth at the end", title="speeds")
