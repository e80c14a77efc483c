"""The figure: differences of test error to vanilla with intervals, and weights of the blocks at the end."""

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.mean_field.mean_field_resnet.arms import spelled
from regimes.lab.figures import DOUBLE, GREY, MARKERS, PALETTE, explain, figure, style
from regimes.lab.numbers import Number

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SORTED = ("mean_field", "mean_field_epoch", "mean_field_never")  # how often blocks are sorted


def panels(rows: "DataFrame", gains: Mapping[str, Number], published: Mapping[str, float]) -> "Figure":
    """Left: vanilla − arm in points, 95 % intervals; right: weights by place, means and all seeds."""
    made, (left, right) = figure(1, 2, width=DOUBLE, height=2.4 + 0.35 * len(gains))
    with style():
        for place, (arm, mean) in enumerate(gains.items()):
            colour = PALETTE[0 if arm == "mean_field" else 4]
            low, high = mean.interval if mean.drawn else (mean.value, mean.value)
            ends = [[mean.value - low], [high - mean.value]]
            left.errorbar([mean.value], [place], xerr=ends, fmt="o", capsize=2, color=colour)
            if arm == "mean_field" and published:
                ends = [min(published.values()), max(published.values())]
                label = "published, 20 to 164 layers\n(vanilla quoted from other papers)"
                left.plot(ends, [place - 0.25] * 2, color=PALETTE[2], linewidth=4, solid_capstyle="butt", label=label)
        left.axvline(0, color="#000000", linewidth=0.8, zorder=1)
        left.set(xlabel="test error of vanilla − that of the arm, points", ylim=(len(gains) - 0.5, -0.7))
        seeds = rows.groupby("arm").seed.nunique()
        left.set_yticks(range(len(gains)), [_label(arm, int(seeds[arm])) for arm in gains], fontsize=7)
        if left.get_legend_handles_labels()[0]:
            left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.2)
        _weights(right, rows)
        few = ", of more than two seeds" if any(not mean.drawn for mean in gains.values()) else ""
        explain(
            made,
            f"Left: means of differences paired by seed, to the right better than vanilla; bars: 95 % intervals{few}. "
            "Right: small marks are single seeds, large ones their means; blocks are in the order of their "
            "stages.",
        )
    return made


def _label(arm: str, seeds: int) -> str:
    """Name and number of seeds, on lines that leave room for the panel."""
    return "\n".join(wrap(spelled(arm).removeprefix("trained times, "), 20)) + f"\n({seeds} seeds)"


def _weights(axes: Any, rows: "DataFrame") -> None:
    """The weight of each block in each seed: marks alone, since neighbours may be of different stages."""
    names = [name for name in rows.columns if name.startswith("weight_")]
    places = np.arange(1, len(names) + 1)
    arms = [arm for arm in SORTED if arm in set(rows.arm)]
    for number, arm in enumerate(arms):
        found = rows.loc[rows.arm == arm, names].to_numpy(dtype=float)
        at = places + 0.2 * (number - (len(arms) - 1) / 2)
        look = {"marker": MARKERS[number], "color": PALETTE[(0, 1, 3)[number]], "linestyle": "none"}
        for one in found:
            axes.plot(at, one, markersize=2.5, alpha=0.4, **look)
        axes.plot(at, found.mean(0), markersize=6, markeredgecolor="#000000", label=spelled(arm), **look)
    axes.axhline(1, color=GREY, linewidth=1.0, linestyle="--", zorder=1, label="vanilla: equal steps")
    axes.set(xlabel="block, by time within its stage", ylabel="weight L (τ$^l$ − τ$^{l−1}$) of a block's step")
    axes.set_xticks(places)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), handlelength=1.0, labelspacing=0.2)
