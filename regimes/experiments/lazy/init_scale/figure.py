"""Figure of the init-scale statement: Fig. 1c on the left, Fig. 2b on the right."""

from typing import TYPE_CHECKING

from regimes.experiments.lazy.init_scale.numbers import (
    FINAL_END,
    LAZY,
    LINEAR_SHARE,
    PUBLISHED_BEST,
    PUBLISHED_UNIT,
    losses,
)
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Test loss against τ on a fixed training set and on fresh samples."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.1)
    unit = 1000 * float(rows.unit.iloc[0])
    end, best = (losses(rows, "full_batch", column) for column in ("test_end", "test_best"))
    with figures.style():
        figures.curve(left, end, number=0, marker="", label="end of training")
        figures.curve(left, best, number=1, marker="", linestyle="--", label="best along training")
        for value, label in ((FINAL_END, "published plateaus"), (PUBLISHED_BEST, None)):
            level = value / PUBLISHED_UNIT * unit
            left.plot([LAZY, max(end, default=LAZY)], [level, level], ":", color="#000000", label=label)
        figures.curve(right, losses(rows, "population"), number=0, marker="", label="end of training")
        right.axhline(LINEAR_SHARE * unit, linestyle=":", color="#000000", label="linear + constant")
        for ax, title in ((left, "fixed training set, full batch"), (right, "fresh samples: population loss")):
            ax.set(xscale="log", xlabel="scale τ of the initialisation", ylabel="1000 × test loss", title=title)
            ax.set_ylim(bottom=0)
            ax.legend(loc="lower right")
        trials = rows.seed.nunique()
        text = f"Means of {trials} trials; {figures.intervals('bands', trials)}."
        figures.explain(made, f"{text} Linear + constant: what the best such function leaves of the loss.")
    return made
