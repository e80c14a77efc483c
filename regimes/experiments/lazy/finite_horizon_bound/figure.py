"""Figure of the finite-horizon statement."""

from typing import TYPE_CHECKING

import numpy as np

from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Histogram of measured / bound, and the ratio against the horizon K, by family of maps."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.2)
    families = list(dict.fromkeys(rows.family))
    colors = [figures.PALETTE[number % len(figures.PALETTE)] for number in range(len(families))]
    with figures.style():
        logs = np.log10(rows.output_ratio.to_numpy())
        bins = np.append(np.linspace(np.floor(logs.min()), 0.0, 26), 0.25)  # what is beyond 0 exceeds the bound
        values = [logs[rows.family == family] for family in families]
        left.hist(values, bins=bins, stacked=True, color=colors)
        left.axvline(0.0, color="black", linewidth=1.0, linestyle="--")
        left.set(xlabel="log₁₀ (measured / bound), outputs", ylabel="problems, stacked by family")
        for family, marker, color in zip(families, figures.MARKERS, colors, strict=False):
            some = rows[rows.family == family]
            look = {"color": color, "markersize": 2.5, "linestyle": "none", "label": family}
            right.loglog(some.horizon, some.output_ratio, marker, **look)
        right.axhline(1.0, color="black", linewidth=1.0, linestyle="--", label="bound")
        right.set(xlabel="horizon K = T Lip(h)²", ylabel="measured / bound, outputs")
        made.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=6, markerscale=2)
        figures.explain(made, "One mark a problem; the dashed line is the bound.")
    return made
