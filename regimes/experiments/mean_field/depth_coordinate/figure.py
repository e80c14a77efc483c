"""Risks along the descent at the best steps, and the flow of the particles over depth."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.depth_coordinate.config import TIMES
from regimes.experiments.mean_field.depth_coordinate.numbers import at_best, best, finished, share, steps
from regimes.lab import figures
from regimes.lab.numbers import geometric_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Left: each arm at its best steps; right: the times of the blocks of one net."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.2)
    found = finished(rows)
    with figures.style():
        problems = 0
        for number, arm in enumerate(dict.fromkeys(found.arm)):
            some = at_best(found, arm)
            course = {step: geometric_mean(share(some, step)) for step in steps(some) if step > 0}
            known = {step: value for step, value in course.items() if value is not None}
            if known:
                problems = max(problems, some.seed.nunique())
                relative, rate = (float(some[name].iloc[0]) for name in ("relative", "rate"))
                label = f"{arm}, r = {rate:g}" + (f", relative {relative:g}" if relative else "")
                figures.curve(left, known, number=number, label=label, markersize=2.5)
        left.set(xscale="log", yscale="log", xlabel="steps", ylabel="share of the risk left")
        if left.lines:
            left.legend(fontsize=7)
        chosen = best(found[found.arm == TIMES])
        paths: Any = rows[rows.kind == "time"]
        if chosen is not None and len(paths):
            paths = paths[(paths.relative == chosen[0]) & (paths.rate == chosen[1])]
            _flow(made, right, paths)
        words = figures.intervals("bands", problems)
        figures.explain(
            made,
            f"Left: geometric means over {problems} problems; {words}. Right: the blocks of the first problem at the "
            "best steps, each at its time τ; colour: norm of u·w, what the block can add to the output.",
        )
    return made


def _flow(made: Any, ax: Any, paths: Any) -> None:
    """The time of each block against the steps, coloured by u·w."""
    limit = max(float(paths.u.max()), 1e-12)
    points = None
    for _, path in paths.groupby("block"):
        ordered = path.sort_values("step")
        ax.plot(ordered.step + 1, ordered.tau, color="0.7", linewidth=0.7, zorder=1)
        points = ax.scatter(
            ordered.step + 1, ordered.tau, c=ordered.u, cmap="viridis", vmin=0, vmax=limit, s=9, zorder=2
        )
    ax.set(xscale="log", xlabel="steps + 1", ylabel="time τ of the block")
    if points is not None:
        made.colorbar(points, ax=ax, label="‖u·w‖")
