"""Figure of the trajectories statement: paths of neurons in the plane."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.trajectories.numbers import motion
from regimes.lab import figures
from regimes.lab.numbers import Number

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

COLORS = {1.0: figures.PALETTE[1], -1.0: figures.PALETTE[0]}


def draw(rows: "DataFrame") -> "Figure":
    """Paths of |a_j| b_j of one seed at the smallest and the largest τ, beside the teacher's neurons."""
    path: Any = rows[rows.kind == "path"]
    seed, motions = path.seed.min(), motion(rows)
    scales = sorted({min(motions), max(motions)})
    made, axes = figures.figure(1, 2, width=figures.DOUBLE, height=4.1)
    with figures.style():
        for ax, tau in zip(axes, scales, strict=False):
            _panel(ax, rows[(rows.seed == seed) & (rows.tau == tau)])
            found = motions[tau]
            ax.set_title(f"τ = {tau:g}: $\\|w - w_0\\|\\,/\\,\\|w_0\\|$ = {found.value:.2g} {spread(found)}")
        for ax in axes[len(scales) :]:
            ax.remove()
        for sign, name in ((1.0, "positive output weight"), (-1.0, "negative output weight")):
            axes[0].plot([], [], "-o", color=COLORS[sign], label=name)
        axes[0].plot([], [], "o", markerfacecolor="none", color=figures.GREY, label="start")
        axes[0].plot([], [], color="#999999", linewidth=4, alpha=0.5, label="teacher")
        made.legend(loc="outside upper center", ncols=4)
        seeds = rows.seed.nunique()
        which = f"of seed {seed}, dots at their ends" if len(path) else "were kept of none of these seeds"
        text = f"Paths of the neurons {which}. Above: geometric means of {seeds} seeds"
        figures.explain(made, f"{text}; {figures.intervals('brackets', seeds)}.")
    return made


def spread(found: Number) -> str:
    """The interval of a number behind its value, with two digits."""
    return f"[{found.interval.low:.2g}, {found.interval.high:.2g}]" if found.drawn else ""


def _panel(ax: Any, rows: Any) -> None:
    path, teacher = rows[rows.kind == "path"], rows[rows.kind == "teacher"]
    angles = np.linspace(0, 2 * math.pi, 200)
    ax.plot(np.cos(angles), np.sin(angles), ":", color=figures.GREY, linewidth=1)
    for x, y, sign in teacher[["x", "y", "sign"]].itertuples(index=False):
        shape = {"arrowstyle": "-|>", "linewidth": 4, "mutation_scale": 18, "alpha": 0.4, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x, y), (0, 0), arrowprops={"color": COLORS[sign], **shape}, zorder=1)
    for _, neuron in path.groupby("neuron"):
        color = COLORS.get(neuron.sign.iloc[0], figures.GREY)
        ax.plot(neuron.x, neuron.y, color=color, linewidth=1.2)
        ax.plot(neuron.x.iloc[:1], neuron.y.iloc[:1], "o", markerfacecolor="none", color=figures.GREY, markersize=4)
        ax.plot(neuron.x.iloc[-1:], neuron.y.iloc[-1:], "o", color=color, markersize=4)
    reach = 1.1 * float(np.abs(path[["x", "y"]].to_numpy()).max(initial=1.0))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$|a|\\,b_1$", ylabel="$|a|\\,b_2$")
