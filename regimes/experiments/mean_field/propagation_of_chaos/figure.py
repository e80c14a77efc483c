"""The figure of the propagation of chaos."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.propagation_of_chaos.config import ATOMS, PLANE, SMOOTH, SPACE, STRATIFIED
from regimes.experiments.mean_field.propagation_of_chaos.numbers import along, exponent, of
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

_OUTPUTS = (
    (SMOOTH, "distance", "smooth target"),
    (SMOOTH, "displacement", "its positions"),
    (STRATIFIED, "distance", "stratified start"),
    (ATOMS, "early", "two atoms, t ≤ 1"),
    (ATOMS, "distance", "two atoms"),
    (SPACE, "distance", "3-d"),
)
_CLOUDS = (
    (SMOOTH, "to_copies", "1-d, copies"),
    (SPACE, "to_copies", "3-d, copies"),
    (SMOOTH, "to_others", "1-d, two seeds"),
    (PLANE, "to_others", "2-d, two seeds"),
    (SPACE, "to_others", "3-d, two seeds"),
    (STRATIFIED, "to_law", "stratified, limit"),
)


def draw(rows: "DataFrame") -> "Figure":
    """Distances and W2 against m, distances over time, and the density beside the particles."""
    made, axes = figures.figure(2, 2, width=figures.DOUBLE, height=7.2)
    with figures.style():
        _powers(axes[0][0], rows, _OUTPUTS, "largest distance to the limit")
        _powers(axes[0][1], rows, _CLOUDS, "$W_2$")
        _over_time(axes[1][0], rows)
        _density(axes[1][1], rows)
        seeds = rows.seed.nunique()
        text = (
            f"Geometric means of {seeds} seeds, of fewer for $W_2$; {figures.intervals('bands', seeds)}. In the "
            "legends: exponents in m. Lower left: one seed, dark for the largest m, light for the smallest; loss of "
            "the limit."
        )
        figures.explain(made, text)
    return made


def _powers(ax: "Axes", rows: "DataFrame", drawn: tuple[tuple[str, str, str], ...], label: str) -> None:
    for number, (problem, column, name) in enumerate(drawn):
        if found := along(rows, problem, column):
            text = figures.with_exponent(name, exponent(rows, problem, column))
            figures.curve(ax, found, number=number, label=text)
    ax.set(xscale="log", yscale="log", xlabel="number m of particles", ylabel=label)
    _legend(ax)


def _over_time(ax: "Axes", rows: "DataFrame") -> None:
    for number, problem in enumerate((SMOOTH, ATOMS)):
        some: Any = of(rows, problem, "course")
        some = some[(some.time > 0) & (some.seed == some.seed.min())]
        widths = sorted(set(some.width))
        color = figures.PALETTE[number]
        for place, width in enumerate(widths):
            at = some[some.width == width]
            opacity = 0.3 + 0.7 * (place + 1) / len(widths)
            ax.plot(at.time, at.distance, color=color, alpha=opacity, label=problem if width == widths[-1] else None)
        if widths:
            at = some[some.width == widths[-1]]
            ax.plot(at.time, at.loss, ":", color=color, label=f"{problem}: loss")
    ax.set(xscale="log", yscale="log", xlabel="flow time t", ylabel="distance of the outputs\n(dotted: loss)")
    _legend(ax)


def _density(ax: "Axes", rows: "DataFrame") -> None:
    some: Any = of(rows, SMOOTH, "density")
    if len(some):
        size = some.angle.iloc[1] - some.angle.iloc[0]
        label = f"{some.width.iloc[0]} particles"
        ax.bar(some.angle, some.particles, width=size, color=figures.PALETTE[5], label=label)
        ax.plot(some.angle, some.density, color="black", label="finite volumes")
    ax.set(xlabel="angle θ", ylabel="density at the last time", ylim=(0, None))
    _legend(ax)


def _legend(ax: "Axes") -> None:
    """Below the panel; none where nothing is drawn."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            loc="upper left", bbox_to_anchor=(-0.24, -0.2), ncols=2, columnspacing=0.8, handlelength=1.4, fontsize=7
        )
