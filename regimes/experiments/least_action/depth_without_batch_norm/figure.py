"""Figure of depth without batch norm."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.depth_without_batch_norm.falls import BLOCKS, KEYS, Falls
from regimes.experiments.least_action.low_data.comparison import lost, named, percent
from regimes.lab import figures, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

EXPLANATION = (
    "Marks: means over {seeds} seeds; {bars}. ×: of so many seeds so many diverged; they count with "
    "the accuracy of their best epoch before, or of guessing. Divided: risk + transport/λ. Tuned: with the settings "
    "(rate, and λ0) that are best by validation, at each depth."
)


PLAIN = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}


def draw(rows: "DataFrame") -> "Figure":
    """Held-out accuracy against depth, one panel a block; means over seeds with their 95 % intervals."""
    falls, seeds = Falls.read(rows), rows.seed.nunique()
    made, axes = figures.figure(1, len(falls.blocks), width=figures.DOUBLE, height=3.6, squeeze=False, sharey=True)
    with figures.style():
        for ax, block in zip(axes[0], falls.blocks, strict=True):
            for number, key in enumerate(key for pair in KEYS for key in pair):
                shift = 0.025 * (falls.depths[-1] - falls.depths[0]) * (number - 1.5)
                own = {depth + shift: falls.of(block, depth, key) for depth in falls.depths}
                found = numbers.known({place: percent(some, "held_out") for place, some in own.items()})
                look: dict[str, Any] = {"color": figures.PALETTE[number % 2], "linestyle": ":" if key[1] else "-"}
                if found:
                    figures.curve(ax, found, number=number, bars=True, label=named(key), **look)
                for place in found:
                    if diverged := int(lost(own[place]).sum()):
                        ax.plot(place, found[place].value, "x", color="#000000", markersize=7, zorder=3)
                        ax.annotate(
                            f"{diverged}/{len(own[place])}", (place, found[place].value), xytext=(-5, 3),
                            textcoords="offset points", fontsize=figures.NOTE, ha="right", bbox=PLAIN, zorder=4,
                        )  # fmt: skip
            ax.axhline(10, color=figures.GREY, linestyle="--", linewidth=1.0, label="guessing one of ten", zorder=1)
            ax.set(title=BLOCKS[block], xlabel="residual blocks", xticks=falls.depths)
        axes[0, 0].set(ylabel="held-out test accuracy, %")
        made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        figures.explain(made, EXPLANATION.format(seeds=seeds, bars=figures.intervals("bars", seeds)))
    return made
