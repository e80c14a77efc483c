"""Figure of the lazy-CNN statement."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.lazy_cnn import numbers
from regimes.lab import figures
from regimes.lab.intervals import CORRELATION
from regimes.lab.numbers import mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LOOKS = {  # float64 has open circles alone, float32 lines
    "float64": {"marker": "o", "linestyle": "none", "markersize": 7, "fillstyle": "none"},
    "float32": {"marker": "s", "linestyle": "-", "markersize": 3.5},
}
COLUMNS = {"train_accuracy": "training", "test_accuracy": "test"}


def draw(rows: "DataFrame") -> "Figure":
    """Accuracy lost as α grows, stability of activations and distance to the tangent model, against α."""
    whole = numbers.finished(rows)
    made, (left, middle, right) = figures.figure(1, 3, width=figures.DOUBLE, height=3.7)
    smallest = f"{whole.alpha.min():g}"
    with figures.style():
        for place, (column, name) in enumerate(COLUMNS.items()):
            for precision, look in LOOKS.items():
                found = figures.beside_by(numbers.lost(whole, precision, column), place, 2, 1.6)
                figures.curve(left, found, number=place, bars=True, unit=100.0, label=f"{name}, {precision}", **look)
            _tangent(left, whole, column, place, f"{name}, tangent model")
        for number, (precision, look) in enumerate(LOOKS.items(), 2):
            look = {"number": number, "bars": True, "label": precision, **look}
            figures.curve(middle, numbers.stability(whole, precision), unit=100.0, **look)
            figures.curve(right, numbers.distance(whole, precision), **look)
        left.axhline(0, color="black", linewidth=0.8)
        left.set(ylabel="accuracy lost, points")
        middle.set(ylabel="stability of activations, %")
        right.set(ylabel="distance to the tangent model\n" + r"$\|f-\bar f\|/\|\bar f\|$ on test images", yscale="log")
        for ax in (left, middle, right):
            ax.set(xscale="log", xlabel="output scale α")
            ax.set_xlim(0.4 * whole.alpha.min(), 4 * whole.alpha.max())
        left.legend(loc="upper left", bbox_to_anchor=(-0.2, -0.22))
        middle.legend(title="middle and right", loc="upper left", bbox_to_anchor=(0.2, -0.22))
        seeds = whole.seed.nunique()
        text = f"Means of {seeds} seeds; {figures.intervals('bars', seeds)}. Accuracy lost: that at α = {smallest} less"
        figures.explain(made, f"{text} that at α, paired by seed. Distances: geometric means.")
    return made


def _tangent(ax: Any, rows: "DataFrame", column: str, place: int, label: str) -> None:
    """A dotted line at the mean of what the tangent model loses, paired by seed."""
    some = numbers.of(rows, "float64")
    first = some[some.alpha == some.alpha.min()]
    found = mean(first[column] - first[f"tangent_{column}"], within=CORRELATION)
    if found is not None:
        ax.axhline(100 * found.value, linestyle=":", color=figures.PALETTE[place], label=label)
