"""The flow of ρ over depth: risks against time, particles over depth at start and end, steepness at each depth."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.deep_diversity.config import ARMS, BALL, FLAT, FLAT_FULL, FULL
from regimes.experiments.mean_field.deep_diversity.numbers import courses, ends
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PANELS = (FULL, FLAT, FLAT_FULL, BALL)


def draw(rows: "DataFrame") -> "Figure":
    """Risks of all arms above; below, of the first seed, the particles of four of them over depth."""
    shown = [arm for arm in PANELS if ((rows.arm == arm) & (rows.kind == "particle")).any()]
    columns = max(1, len(shown))
    made, axes = figures.figure(2, columns, width=figures.DOUBLE, height=5.0, squeeze=False)
    with figures.style():
        grid = axes[0][0].get_gridspec()
        for ax in axes[0]:
            ax.remove()
        for ax in axes[1][1:]:
            ax.sharey(axes[1][0])
        half = max(1, columns // 2)
        above = [made.add_subplot(grid[0, :half])] + ([made.add_subplot(grid[0, half:])] if columns > half else [])
        _risks(above[0], rows)
        if len(above) > 1:
            _steepness(above[1], rows, shown)
        drawn: Any = rows[(rows.kind == "particle") & rows.arm.isin(shown)]
        limit = float(drawn.u.abs().max()) if len(drawn) else 1.0
        points = None
        for ax, arm in zip(axes[1], shown, strict=False):
            points = _particles(ax, drawn[drawn.arm == arm], arm, limit)
        if points is not None:
            made.colorbar(points, ax=list(axes[1]), label="u·w", shrink=0.9)
        seeds = ends(rows).seed.nunique()
        figures.explain(
            made,
            "Starts: full support; flat, in the plane $v_1$ = 0; thin, next to that plane; in a small ball. Then: "
            "with particles added later. Above left: geometric means of "
            f"{seeds} seeds; {figures.intervals('bands', seeds)}. The rest is the first seed. Below: the particles of "
            "each cell at its depth, crosses at the start, disks at the end (as large as their mass), lines on the "
            "way; $v_1$: the part of v that sees $x_1$; u·w: what it adds to outputs.",
        )
    return made


def _risks(ax: Any, rows: "DataFrame") -> None:
    for arm in dict.fromkeys(ends(rows).arm):
        found = {time: value for time, value in courses(rows, arm).items() if time > 0}
        if found:
            figures.curve(ax, found, number=ARMS.index(arm), label=arm, markersize=2.5)
    ax.set(xscale="log", yscale="log", xlabel="flow time", ylabel="risk / risk of f = 0")
    ax.legend(fontsize=7, loc="lower left", labelspacing=0.15, handlelength=1.4, borderaxespad=0.1)


def _steepness(ax: Any, rows: "DataFrame", shown: list[str]) -> None:
    for arm in shown:
        some: Any = rows[(rows.kind == "cell") & (rows.arm == arm)]
        depth = some.cell / max(1, len(some))
        look: dict[str, Any] = figures.look(ARMS.index(arm)) | {"markersize": 3}
        ax.plot(depth, some.steep, label=arm, **look)
        if arm == FLAT:
            ax.plot(depth, some.steep_inside, label="flat, inside", **look | {"linestyle": "--"})
    ax.set(xlabel="depth t", ylabel="S: −min of δE/δρ, |u| ≤ 1", yscale="log")
    ax.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.76), columnspacing=0.8, handlelength=1.4)


def _particles(ax: Any, some: Any, arm: str, limit: float) -> Any:
    cells = int(some.cell.max()) + 1
    width = 0.8 / cells
    many = int(some.particle.max()) + 1
    place = some.cell / cells + width * (some.particle / max(1, many) - 0.5)
    some = some.assign(place=place)
    for _, path in some.groupby(["cell", "particle"]):
        ordered = path.sort_values("time")
        ax.plot(ordered.place, ordered.v1, color="0.75", linewidth=0.5, zorder=1)
    first, last = some[some.time == some.time.min()], some[some.time == some.time.max()]
    ax.plot(first.place, first.v1, "x", color="0.45", markersize=2.5, markeredgewidth=0.6, zorder=2)
    sizes = 8 * last.mass * many
    look: dict[str, Any] = {"cmap": "coolwarm", "vmin": -limit, "vmax": limit, "edgecolors": "0.2", "linewidths": 0.3}
    points = ax.scatter(last.place, last.v1, s=sizes, c=last.u, zorder=3, **look)
    ax.set(title=arm, xlabel="depth t", ylabel="$v_1$" if arm == FULL else "", xlim=(-1 / cells, 1.0))
    return points
