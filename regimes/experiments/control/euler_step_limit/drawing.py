"""The figure: growth of distances against the step, and the regions of linear stability with the disks in them."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regimes.control.stability import contractivity_radius, real_interval, stability_function
from regimes.control.tableau import Tableau
from regimes.experiments.control.euler_step_limit.runs import METHODS
from regimes.lab import figures
from regimes.lab.averages import most

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

REGIONS = 6
FINE = 161  # points on an axis of a region
LEFT, RIGHT, UP = -5.0, 1.5, 4.0


def draw(rows: "DataFrame") -> "Figure":
    """Largest growth of each method against h‖A‖², with 2r and the real interval; regions and disks of the explicit."""
    measured = [name for name in METHODS if name in set(rows.method)]
    shown = [name for name in measured if METHODS[name].explicit]
    lines = 1 if shown == measured and len(shown) <= REGIONS // 2 else 2
    made, panels = figures.figure(lines, 4, width=figures.DOUBLE, height=2.4 * lines + 0.8 * (2 - lines), squeeze=False)
    with figures.style():
        for kind, ax in zip((True, False), panels[:, 0], strict=False):
            _growths(ax, rows, [name for name in measured if METHODS[name].explicit == kind])
        panels[0, 0].set(title="explicit", ylim=(0.8, 2.0), xlim=(0.0, 4.0))
        if lines == 2:
            panels[1, 0].set(title="implicit", xscale="log", ylim=(0.8, 2.0))
        for number, ax in enumerate(panels[:, 1:].flat):
            if number < min(len(shown), REGIONS):
                _region(ax, shown[number])
                ax.set(ylabel="Im w" if ax in panels[:, 1] else "")
            else:
                ax.remove()
        figures.legend(made, *panels[:, 0], ncols=5, fontsize=7, columnspacing=1.2, handlelength=1.6)
        words = (
            "Left: largest growth of a distance over nets and activations; marks are small and filled up to 2r, open "
            "beyond; implicit methods, for which r = ∞, are drawn side by side. Others: where |R(w)| ≤ 1, the disk of "
            "circle contractivity |w + r| ≤ r (dark), and the end x of the real interval (bar). Implicit methods here "
            "are stable in the whole left half-plane."
        )
        figures.explain(made, words)
    return made


def _look(name: str) -> dict[str, Any]:
    look = figures.look(list(METHODS).index(name))
    return {key: look[key] for key in ("color", "marker")}


def _growths(ax: "Axes", rows: Any, names: list[str]) -> None:
    for number, name in enumerate(names):
        own = rows[(rows.method == name) & (rows.half > 0)]
        if not len(own):
            continue
        by_step = own.groupby("half").growth.agg(most)
        places, values = 2 * by_step.index.to_numpy(), by_step.to_numpy()
        within = places <= 2 * contractivity_radius(METHODS[name]) * (1 + 1e-9)
        if not METHODS[name].explicit:
            places = places * 1.06 ** (number - (len(names) - 1) / 2)
        look = _look(name)
        ax.plot(places, values, linewidth=1, markersize=3.5, markerfacecolor="none", markevery=[0], label=name, **look)
        ax.plot(places[within], values[within], linestyle="", markersize=2.5, **look)
        ax.plot(places[~within], values[~within], linestyle="", markersize=3.5, markerfacecolor="white", **look)
    ax.axhline(1.0, color="black", linewidth=0.8, zorder=1)
    ax.set(xlabel=r"step $h\|A\|^2$", ylabel="largest growth")


def _region(ax: "Axes", name: str) -> None:
    tableau: Tableau = METHODS[name]
    x, y = np.linspace(LEFT, RIGHT, FINE), np.linspace(-UP, UP, FINE)
    w = torch.complex(*(torch.from_numpy(part) for part in np.meshgrid(x, y)))
    size = stability_function(tableau, w).abs().numpy()
    color = _look(name)["color"]
    ax.contourf(x, y, size, levels=[0.0, 1.0], colors=[color], alpha=0.25)
    ax.contour(x, y, size, levels=[1.0], colors=[color], linewidths=1)
    radius, end = contractivity_radius(tableau), real_interval(tableau)
    if 0 < radius < math.inf:
        angle = np.linspace(0, 2 * np.pi, 181)
        ax.fill(-radius + radius * np.cos(angle), radius * np.sin(angle), color=color, alpha=0.6, linewidth=0)
    ax.plot([-end, -end], [-0.35, 0.35], color="black", linewidth=1)
    ax.axhline(0, color=figures.GREY, linewidth=0.5)
    ax.axvline(0, color=figures.GREY, linewidth=0.5)
    ax.set_title(f"{name}\nr = {figures.signed(radius)}, x = {figures.signed(end)}", color=color, fontsize=7)
    ax.set(
        aspect="equal", xlim=(LEFT, RIGHT), ylim=(-UP, UP), xlabel="Re w", xticks=[-4, -2, 0], yticks=[-4, -2, 0, 2, 4]
    )
    ax.grid(False)
