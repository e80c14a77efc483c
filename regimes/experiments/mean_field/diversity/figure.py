"""Figure of the diversity of the start: paths in the plane, F' along the circle, and how many limits are global."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.mean_field.diversity.config import STARTS
from regimes.experiments.mean_field.diversity.numbers import shares
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

COLORS = {1.0: figures.PALETTE[1], -1.0: figures.PALETTE[0]}
SIGNS = {1.0: "positive output weight", -1.0: "negative output weight"}


def draw(rows: "DataFrame") -> "Figure":
    """Above: paths of |a| b with the teacher's rays; middle: F' on the circle at their ends; below: shares."""
    kept: Any = rows[rows.kind.isin(("path", "teacher", "circle"))]
    starts = [start for start in STARTS if start in set(kept.start)]
    heights = [1.0, 0.62] if starts else []
    made, axes = figures.figure(
        len(heights) + 1, max(1, len(starts)), width=figures.DOUBLE, height=2.6 + (4.2 if starts else 0),
        squeeze=False, height_ratios=[*heights, 0.85],
    )  # fmt: skip
    with figures.style():
        seed = int(kept.seed.min()) if len(kept) else 0
        for column, start in enumerate(starts):
            some = kept[(kept.start == start) & (kept.seed == seed)]
            _paths(axes[0][column], some, start)
            _circle(axes[1][column], some, _penalty(rows, start, seed))
        if starts:
            for sign, name in SIGNS.items():
                axes[0][0].plot([], [], "-o", color=COLORS[sign], markersize=3, label=name)
            axes[0][0].plot([], [], "--", color=figures.GREY, label="teacher")
            made.legend(loc="outside upper center", ncols=3)
            axes[1][0].set_ylabel("F' / λ")
        grid = axes[-1][0].get_gridspec()
        for ax in axes[-1]:
            ax.remove()
        _shares(made.add_subplot(grid[-1, :]), rows)
        text = "Paths of one seed from t = 0 (grey dots) to the end. Middle: F' of a neuron of direction θ and either "
        text += "sign; below 0 a neuron is missing. Below: limits found global, with 95 % intervals; "
        text += "in the plane by proof, in ten dimensions by a search"
        figures.explain(made, f"{text}.")
    return made


def _penalty(rows: Any, start: str, seed: int) -> float:
    """λ, from lowest = min(sign·h) + λ of the run."""
    run = rows[(rows.start == start) & (rows.seed == seed) & (rows.problem == "relu 2-d")]
    return float(run[run.kind == "end"].penalty.iloc[0])


def _paths(ax: Any, some: Any, title: str) -> None:
    path, teacher = some[some.kind == "path"], some[some.kind == "teacher"]
    reach = 1.08 * float(np.abs(path[["x", "y"]].to_numpy()).max(initial=1e-9))
    for x, y, sign in teacher[["x", "y", "mark"]].itertuples(index=False):
        ax.plot([0, 2 * reach * x], [0, 2 * reach * y], "--", color=COLORS[sign], linewidth=1.2, alpha=0.6, zorder=1)
    for _, neuron in path.groupby("neuron"):
        color = COLORS.get(neuron.mark.iloc[0], figures.GREY)
        ax.plot(neuron.x, neuron.y, color=color, linewidth=0.7, alpha=0.8)
        ax.plot(neuron.x.iloc[:1], neuron.y.iloc[:1], "o", color=figures.GREY, markersize=2)
        ax.plot(neuron.x.iloc[-1:], neuron.y.iloc[-1:], "o", color=color, markersize=3.5)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title, xlabel="$|a|\\,b_1$")
    ax.set_ylabel("$|a|\\,b_2$")


def _circle(ax: Any, some: Any, penalty: float) -> None:
    circle, teacher = some[some.kind == "circle"], some[some.kind == "teacher"]
    for sign in SIGNS:
        ax.plot(circle.x, sign * circle.y / penalty + 1, color=COLORS[sign], linewidth=1)
    for x, y, sign in teacher[["x", "y", "mark"]].itertuples(index=False):
        ax.axvline(np.degrees(np.arctan2(y, x)) % 360, linestyle="--", color=COLORS[sign], linewidth=0.9, alpha=0.6)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xlim=(0, 360), xticks=[0, 120, 240, 360], xlabel="direction θ in degrees")


def _shares(ax: Any, rows: Any) -> None:
    found = shares(rows)
    problems = list(dict.fromkeys(problem for problem, _ in found))
    for number, problem in enumerate(problems):
        apart = 0.16 * (number - (len(problems) - 1) / 2)
        shown = {STARTS.index(start) + apart: share for (name, start), share in found.items() if name == problem}
        figures.curve(ax, shown, number=number, bars=True, linestyle="", label=problem)
    ax.set(ylabel="share found global", ylim=(-0.05, 1.05), xlim=(-0.5, len(STARTS) - 0.5))
    ax.set_xticks(range(len(STARTS)), STARTS)
    ax.legend()
