"""Figure of the circles: clouds after blocks, one row an arm, and the costs of all runs by arm."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.least_action.circles.protocol import OFFSET
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

NAMES = {
    "kaiming": "1: default",
    "normal": "2: N(0, 5)",
    "normal_bn": "3: N(0, 5)\n+ batch norm",
    "normal_bn_transport": "4: N(0, 5) + batch\nnorm + transport",
}
PANELS = {
    "transport": r"transport cost $\Sigma_k \|v_k\|^2$",
    "relative_gap": "OT gap / cost of T",
    "lost_covariance": "covariance lost",
    "straightness": "straightness",
}
COLORS = {0: figures.PALETTE[0], 1: figures.PALETTE[1]}


def draw(rows: "DataFrame") -> "Figure":
    """Test clouds of one seed after blocks, each panel in its own scale, above cost, gaps and straightness by arm."""
    clouds: Any = rows[rows.kind == "cloud"]
    runs: Any = rows[rows.kind == "run"]
    clouds = clouds[clouds.seed == clouds.seed.min()]
    arms, blocks = list(runs.arm.unique()), sorted(clouds.block.unique())
    with figures.style():
        from matplotlib.figure import Figure

        made = Figure(figsize=(figures.DOUBLE, 1.62 * len(arms) + 2.1), layout="constrained")
        parts: Any = made.subfigures(2, 1, height_ratios=[1.62 * len(arms), 1.8])
        above, below = parts
        axes = above.subplots(len(arms), len(blocks), squeeze=False)
        for line, arm in zip(axes, arms, strict=True):
            for ax, block in zip(line, blocks, strict=True):
                _cloud(ax, clouds[(clouds.arm == arm) & (clouds.block == block)])
            line[0].set_ylabel(f"{NAMES[arm]}\n$y$")
        for ax, block in zip(axes[0], blocks, strict=True):
            ax.set_title("input" if block == 0 else f"after block {int(block)}")
        for ax in axes[-1]:
            ax.set_xlabel("$x$")
        for label, name in ((0, "class 0 (outer circle)"), (1, "class 1 (inner circle)")):
            axes[0, 0].plot([], [], ".", color=COLORS[label], label=name)
        axes[0, 0].plot([], [], "--", color="#666666", label="$x + y = -20$")
        above.legend(loc="outside upper center", ncols=3)
        for ax, column in zip(below.subplots(1, len(PANELS)), PANELS, strict=True):
            _arms(ax, runs, arms, column)
    return made


def _cloud(ax: Any, cloud: Any) -> None:
    for label, some in cloud.groupby("label"):
        ax.plot(some.x, some.y, ".", color=COLORS[int(label)], markersize=2)
    points = cloud[["x", "y"]].to_numpy()
    low, high = points.min(0), points.max(0)
    margin = 0.08 * max(float((high - low).max()), 1e-3)
    ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    ax.axline((-OFFSET, 0), slope=-1, linestyle="--", color="#666666", linewidth=1)
    ax.tick_params(labelsize=6)
    ax.ticklabel_format(scilimits=(-3, 4))
    ax.locator_params(nbins=4)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize(6)


def _arms(ax: Any, runs: Any, arms: list[str], column: str) -> None:
    for place, arm in enumerate(arms):
        values = runs[runs.arm == arm][column].astype(float).to_numpy()
        offsets = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(1)
        color = figures.PALETTE[(2, 3, 4, 5)[place]]
        ax.plot(place + offsets, values, figures.MARKERS[place], color=color, markersize=3)
        ax.plot([place - 0.3, place + 0.3], [np.nanmedian(values)] * 2, color="black", linewidth=1)
    if column == "transport":
        ax.set_yscale("log")
        ax.axhline(float(runs.least.median()), linestyle=":", color="#666666", linewidth=1, label="least possible")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.25)  # room for the legend
        ax.legend(fontsize=7, handlelength=1.2, loc="upper right")
    ax.set_title(PANELS[column], fontsize=8)
    ax.set_xticks(range(len(arms)), [NAMES[arm].split(":")[0] for arm in arms])
    ax.set_xlabel("arm")
