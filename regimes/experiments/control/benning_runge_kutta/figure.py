"""The figure of the Runge-Kutta study: a column of panels for each data set."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.control.benning_runge_kutta.config import METHODS
from regimes.experiments.control.plane_figure import (
    COURSE,
    PICTURE,
    PICTURES,
    courses,
    frame,
    kept,
    name_lines,
    pictures,
)
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """By data set: loss and accuracy against iteration, maps of the first and the last method, moved samples."""
    datasets = list(dict.fromkeys(rows.dataset))
    first, *_, last = METHODS
    made, axes = frame(datasets, [COURSE, COURSE, PICTURE, PICTURE, PICTURE, PICTURE])
    with figures.style():
        for column, dataset in enumerate(datasets):
            some: Any = rows[rows.dataset == dataset]
            courses(axes[:2, column], some, "method", list(METHODS))
            one = kept(some)
            for panels, method in ((axes[2:4, column], first), (axes[4:, column], last)):
                how = {"skips": True, "tableau": METHODS[method]}
                pictures(panels, one[one.method == method], how, ["map", "moved"])
        shown = [f"{method}{words}" for method in (first, last) for words in ("\n$x_2$", ", moved\n$z_2$")]
        name_lines(axes, ["loss per sample", "accuracy, %", *shown])
        figures.legend(made, *axes[0], ncols=min(4, 2 * axes.shape[1]))
        seeds = rows.seed.nunique()
        words = (
            f"Loss: geometric, accuracy on fresh samples: arithmetic means of {seeds} seeds; "
            f"{figures.intervals('bands', seeds)}. Where curves lie on each other the last method is seen. "
        )
        figures.explain(made, words + PICTURES.format(seed=rows.seed.min() if len(rows) else "none"))
    return made
