"""Accuracies of all seeds, and the ratios of their variances."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.narrower_intervals.ratios import RATIO, ratio
from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.contrasts import ACCURACIES, NAMES
from regimes.experiments.least_action.small_nets.settings import ARMS
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Accuracies of all seeds, and the ratios of their variances."""
    sizes = sorted(set(rows.train_size))
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.3)
    with figures.style():
        for ax, (column, words) in zip(axes, ACCURACIES.items(), strict=False):
            for number, arm in enumerate(ARMS):
                for place, size in enumerate(sizes):
                    values = 100 * contrasts.of_arm(rows[rows.train_size == size], arm, column).dropna()
                    spread = 0.2 * (values.rank(method="first") % 5 - 2) / 2
                    at = 4 * place + number + spread
                    look: dict[str, Any] = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number]}
                    name = NAMES[arm] if place == 0 else None
                    ax.plot(at, values, linestyle="", markersize=1.5, label=name, **look)
            ax.set(title=words, ylabel="test accuracy, %")
            ax.set_xticks([4 * place + 1 for place in range(len(sizes))], [f"n = {size}" for size in sizes])
        for number, (column, other) in enumerate(RATIO):
            found = {
                place + 0.15 * (number - 1.5): one
                for place, size in enumerate(sizes)
                if (one := ratio(rows[rows.train_size == size], column, other)) is not None
            }
            marks: dict[str, Any] = {"linestyle": ""} | ({"markerfacecolor": "white"} if column == "accuracy" else {})
            figures.curve(axes[2], found, number=ARMS.index(other), bars=True, **marks)
        axes[2].axhline(1.0, color="black", linewidth=0.8)
        axes[2].set(title="ratio of variances", yscale="log")
        axes[2].set_xticks(range(len(sizes)), [f"n = {size}" for size in sizes])
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, markerscale=3)
        seeds = rows.seed.nunique()
        figures.explain(
            made,
            f"A point a seed ({seeds}). Right: variance with least action over that of the training with this mark, "
            "open after the protocol's steps, filled at equal risk; below the line least action varies less; "
            f"{figures.intervals('bars', seeds, 'a 95 % interval for each size and training by itself')}. The verdicts "
            "use wider ones, for the larger of the ratios of all sizes, and for all predictions together.",
        )
    return made
