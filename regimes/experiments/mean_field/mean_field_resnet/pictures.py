"""The figure: differences of test error to vanilla with intervals, and weights of the blocks at the end."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from regimes.lab.figures import DOUBLE, MARKERS, PALETTE, figure, style
from regimes.lab.statistics import Mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def panels(rows: "DataFrame", gains: Mapping[str, Mean], published: Mapping[str, float]) -> "Figure":
    """Left: vanilla − arm in points, 95 % intervals; right: weights by place, means and all seeds."""
    known = {arm: mean for arm, mean in gains.items() if np.isfinite(mean.value)}
    made, (left, right) = figure(1, 2, width=DOUBLE, height=1.6 + 0.22 * len(known) + 0.8)
    with style():
        for place, (arm, mean) in enumerate(known.items()):
            half = mean.interval.high - mean.value
            look = {"fmt": "o", "capsize": 2, "color": PALETTE[0 if arm == "mean_field" else 4]}
            left.errorbar([mean.value], [place], xerr=[half] if np.isfinite(half) else None, **look)
        values = list(published.values())
        label = "published, 20 to 164 layers\n(vanilla quoted from elsewhere)"
        left.axvspan(min(values), max(values), color=PALETTE[2], alpha=0.3, linewidth=0, label=label)
        left.axvline(0, color="#000000", linewidth=0.8, zorder=1)
        left.set(xlabel="vanilla − arm, test error, points", yticks=range(len(known)))
        left.set_yticklabels([f"{arm} ({rows[rows.arm == arm].seed.nunique()})" for arm in known])
        left.invert_yaxis()
        left.legend(loc="upper center", bbox_to_anchor=(0.3, -0.2))
        _weights(right, rows)
    return made


def _weights(axes, rows: "DataFrame") -> None:
    names = [name for name in rows.columns if name.startswith("weight_")]
    places = np.arange(1, len(names) + 1)
    arms = [arm for arm in ("mean_field", "mean_field_epoch", "mean_field_never") if arm in set(rows.arm)]
    for number, arm in enumerate(arms):
        found = rows.loc[rows.arm == arm, names].to_numpy(dtype=float)
        shift = 0.12 * (number - (len(arms) - 1) / 2)
        colour = PALETTE[(0, 1, 3)[number]]
        for one in found:
            axes.plot(places + shift, one, MARKERS[number], color=colour, markersize=2.5, alpha=0.35)
        axes.plot(places + shift, found.mean(0), MARKERS[number] + "-", color=colour, label=arm)
    axes.axhline(1, color="#000000", linewidth=0.8, zorder=1, label="vanilla")
    axes.set(xlabel="block, by time within its stage", ylabel="weight L (τ$^l$ − τ$^{l−1}$)", xticks=places)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
