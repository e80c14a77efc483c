"""Figure of the circles: clouds after blocks, one row an arm, and the costs of all runs by arm."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.least_action.circles.protocol import OFFSET
from regimes.lab import figures, numbers
from regimes.lab.averages import middle

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure
    from pandas import DataFrame

NAMES = {
    "kaiming": "1: default",
    "normal": "2: N(0, 5)",
    "normal_bn": "3: N(0, 5)\n+ batch norm",
    "normal_bn_transport": "4: N(0, 5) + batch\nnorm + transport",
}
PANELS = {
    "transport": r"cost $\Sigma_k \|v_k\|^2$",
    "gap": "OT gap of T",
    "relative_gap": "OT gap / cost of T",
    "lost_covariance": "covariance lost",
    "straightness": "straightness",
}
LOG = ("transport", "gap")
WILD = 1e4  # times the least possible cost, from where the gap over the cost is no measure: it falls as 1/size
EXPLANATION = (
    "Above: test points of one seed, each panel in its own scale. Below: marks are seeds ({}), bars their medians with "
    "95 % intervals of medians. OT gap: cost of T less that of the cheapest pairing of the same two clouds; over the "
    "cost it is left out for {}: of maps that spread points over a size S the cost grows as S², the gap at most as S. "
    "Covariance lost: share of the covariance of x and T(x) that the best pairing would have and T's has not; dotted: "
    "0 of an optimal map, 1 of a random pairing."
)
COLORS = {0: figures.PALETTE[0], 1: figures.PALETTE[1]}


def draw(rows: "DataFrame") -> "Figure":
    """Test clouds of one seed after blocks, each panel in its own scale, above cost, gaps and straightness by arm."""
    clouds, runs = rows[rows.kind == "cloud"], rows[rows.kind == "run"]
    arms = list(dict.fromkeys(runs.arm))
    with figures.style():
        from matplotlib.figure import Figure

        made = Figure(figsize=(figures.DOUBLE, 1.62 * len(arms) + 2.7), layout="constrained")
        parts: Any = made.subfigures(2, 1, height_ratios=[1.62 * len(arms), 2.4])
        above, below = parts
        if len(clouds):
            _clouds(above, clouds[clouds.seed == clouds.seed.min()], arms)
        else:
            above.text(0.5, 0.5, "no clouds were kept of these seeds", ha="center")
        for ax, column in zip(below.subplots(1, len(PANELS)), PANELS, strict=True):
            _arms(ax, runs, arms, column)
        left_out = [NAMES[arm].split(":")[0] for arm in arms if _wild(runs[runs.arm == arm])]
        text = f"row {' and '.join(left_out)}, whose cost is huge" if left_out else "no row"
        figures.explain(below, EXPLANATION.format(runs.seed.nunique(), text))
    return made


def _clouds(above: "SubFigure", clouds: Any, arms: list[str]) -> None:
    """One row an arm, one column a shown state."""
    blocks = sorted(clouds.block.unique())
    axes = above.subplots(len(arms), len(blocks), squeeze=False)
    for line, arm in zip(axes, arms, strict=True):
        for ax, block in zip(line, blocks, strict=True):
            if len(some := clouds[(clouds.arm == arm) & (clouds.block == block)]):
                _cloud(ax, some)
        line[0].set_ylabel(f"{NAMES[arm]}\n$y$")
    for ax, block in zip(axes[0], blocks, strict=True):
        ax.set_title("input" if block == 0 else f"after block {int(block)}")
    for ax in axes[-1]:
        ax.set_xlabel("$x$")
    for label, name in ((0, "class 0 (outer circle)"), (1, "class 1 (inner circle)")):
        axes[0, 0].plot([], [], ".", color=COLORS[label], label=name)
    axes[0, 0].plot([], [], "--", color=figures.GREY, label="$x + y = -20$")
    above.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def _wild(some: Any) -> bool:
    """Whether the cost of an arm is so large that the gap over it says nothing."""
    return bool(middle(some.transport / some.least) > WILD)


def _cloud(ax: Any, cloud: Any) -> None:
    for label, some in cloud.groupby("label"):
        ax.plot(some.x, some.y, ".", color=COLORS[int(label)], markersize=2)
    points = cloud[["x", "y"]].to_numpy()
    low, high = points.min(0), points.max(0)
    margin = 0.08 * max(float((high - low).max()), 1e-3)
    ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    ax.axline((-OFFSET, 0), slope=-1, linestyle="--", color=figures.GREY, linewidth=1)
    ax.tick_params(labelsize=figures.NOTE)
    ax.ticklabel_format(scilimits=(-3, 4))
    ax.locator_params(nbins=4)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize(figures.NOTE)


def _arms(ax: Any, runs: Any, arms: list[str], column: str) -> None:
    """All seeds of each arm, and their median."""
    for place, arm in enumerate(arms):
        some = runs[runs.arm == arm]
        if column == "relative_gap" and _wild(some):
            at = {"transform": ax.get_xaxis_transform(), "rotation": 90, "ha": "center", "va": "center"}
            ax.text(place, 0.5, "left out", fontsize=figures.NOTE, **at)
            continue
        values = some[column].astype(float).to_numpy()
        offsets = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(1)
        color = figures.PALETTE[(2, 3, 4, 5)[place]]
        ax.plot(place + offsets, values, figures.MARKERS[place], color=color, markersize=3)
        centre = numbers.median(values) if np.isfinite(values).all() else None
        if centre is not None:
            ax.plot([place - 0.3, place + 0.3], [centre.value] * 2, color="black", linewidth=1)
            if centre.drawn:
                ax.plot([place, place], list(centre.interval), color="black", linewidth=1, marker="_", markersize=5)
    if column in LOG:
        ax.set_yscale("log")
    if column == "transport":
        least = middle(runs.least)
        ax.axhline(least, linestyle=":", color=figures.GREY, linewidth=1)
        ax.set_ylim(bottom=least / 50)
        ax.annotate(
            "least possible", (0.98, least), xycoords=("axes fraction", "data"), xytext=(0, -2),
            textcoords="offset points", ha="right", va="top", fontsize=figures.NOTE,
        )  # fmt: skip
    for value in (0.0, 1.0) if column == "lost_covariance" else ():
        ax.axhline(value, linestyle=":", color=figures.GREY, linewidth=1)
    ax.set_title(PANELS[column], fontsize=8)
    ax.set_xticks(range(len(arms)), [NAMES[arm].split(":")[0] for arm in arms])
    ax.set(xlabel="row above", xlim=(-0.6, len(arms) - 0.4))
    ax.tick_params(labelsize=figures.NOTE)
