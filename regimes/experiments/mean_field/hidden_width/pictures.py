"""Fluctuations of nets of all shapes on one line each, and the distance to the limit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regimes.lab import figures
from regimes.lab.numbers import Number, geometric_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PANELS = (
    ("hidden", r"$D\,/\,(LM)$", "hidden states", True),
    ("output", r"$1\,/\,(LM)$", "output", False),
)


def picture(box: "DataFrame", distances: Mapping[str, tuple[Mapping[Any, Number], Number | None]]) -> "Figure":
    """box: the rows of all shapes; distances: for each kind of shape those of the output by depth, and the exponent."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.4)
    with figures.style():
        for ax, (column, label, title, scaled) in zip(axes, PANELS, strict=False):
            _shapes(ax, box, column, scaled)
            ax.set(xscale="log", yscale="log", xlabel=label, ylabel="standard deviation", title=f"{title}, trained")
        for number, (label, (values, exponent)) in enumerate(distances.items()):
            figures.curve(axes[2], values, number=number + 3, label=figures.with_exponent(label, exponent))
        axes[2].set(xscale="log", yscale="log", xlabel="depth L", ylabel="distance", title="output to its limit")
        figures.legend(made, *axes, title="embedding D; right, width: exponent of L", ncols=6, columnspacing=1.2)
        seeds = box.seed.nunique()
        shown = [one for values, _ in distances.values() for one in values.values()]
        beside = max((one.estimate.repetitions or 0 for one in shown), default=0)
        figures.explain(
            made,
            f"Geometric means of {seeds} seeds, a mark a shape; dashed: the square root of the horizontal axis. "
            f"Right: {beside} seeds; {figures.intervals('bands', beside)}.",
        )
    return made


def _shapes(ax: Any, box: "DataFrame", column: str, scaled: bool) -> None:
    """One mark for each shape, a colour for each embedding, and the line of slope ½ through their middle."""
    places, values = [], []
    for number, (inputs, some) in enumerate(box.groupby("inputs")):
        here, there = [], []
        for layers, width in dict.fromkeys(zip(some.layers, some.width, strict=True)):
            found = geometric_mean(some[column][(some.layers == layers) & (some.width == width)])
            here.append((inputs if scaled else 1) / (layers * width))
            there.append(found.value if found is not None else float("nan"))
        look = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number], "ms": 5 - number}
        ax.plot(here, there, linestyle="none", label=f"D = {inputs}", **look)
        places, values = places + here, values + there
    if places:
        factor = geometric_mean([value / place**0.5 for place, value in zip(places, values, strict=True)])
        ends = [min(places), max(places)]
        if factor is not None:
            figures.reference_slope(ax, ends, factor.value * ends[0] ** 0.5, 0.5, "slope ½")
