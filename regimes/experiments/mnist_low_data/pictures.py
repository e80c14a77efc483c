"""The figure: accuracy against the number of training samples, and what LAP gains over the others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.mnist_low_data.comparison import Key, gain, percent, select
from regimes.lab.figures import DOUBLE, MARKERS, PALETTE, figure, style
from regimes.lab.statistics import Mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Published = dict[str, dict[int, tuple[float, float, float]]]
Pairs = Sequence[tuple[Key, Key]]
APART = 6.0  # samples between markers of one train size


def panels(rows: "DataFrame", shown: Sequence[Key], pairs: Pairs, published: Published, names: Any) -> "Figure":
    """Left: accuracy by the paper's protocol; then differences paired by seed, by the two others."""
    sizes = sorted(int(size) for size in rows.train_size.unique())
    made, (left, *others) = figure(1, 3, width=DOUBLE, height=3.9)
    with style():
        for number, key in enumerate(shown):
            means = {size: percent(some, "paper") for size in sizes if len(some := select(rows, key, size))}
            _marks(left, means, number, len(shown), names(key))
            if not key[1] and key[0] in published:
                known = {size: published[key[0]][size][0] for size in sizes if size in published[key[0]]}
                _published(left, known, number, f"{names(key)}, published")
        for ax, protocol in zip(others, ("honest", "refreshed"), strict=True):
            for number, (key, other) in enumerate(pairs):
                means = {size: gain(rows, key, other, size, protocol) for size in sizes}
                _marks(ax, means, number, len(pairs), f"{names(key)} − {names(other)}")
            known = {n: published["lap"][n][0] - published["vanilla"][n][0] for n in sizes if n in published["lap"]}
            _published(ax, known, 0, "LAP − vanilla, published")
            ax.axhline(0, color="#000000", linewidth=0.8, zorder=1)
            ax.set(ylabel="difference of test accuracy, points")
        left.set(ylabel="test accuracy, %", title="paper: best epoch by test", ylim=(0, 100))
        others[0].set(title="honest: epoch by validation")
        others[1].set(title="refreshed statistics", ylim=others[0].get_ylim())
        for ax in (left, *others):
            ax.set(xlabel="training samples", xticks=sizes)
        for ax in (left, others[0]):
            ax.legend(loc="upper left", bbox_to_anchor=(-0.25, -0.2), handlelength=1.2)
    return made


def _marks(ax: Any, means: dict[int, Mean], number: int, count: int, label: str) -> None:
    """Means with their intervals, side by side; a size without a mean is left out."""
    known = {size: mean for size, mean in means.items() if np.isfinite(mean.value)}
    if not known:
        return
    x = [size + APART * (number - (count - 1) / 2) for size in known]
    y = [mean.value for mean in known.values()]
    ends = np.array([mean.interval for mean in known.values()])
    half = np.where(np.isfinite(ends[:, 1]), ends[:, 1] - y, 0.0)
    ax.errorbar(x, y, half, fmt=MARKERS[number] + "-", color=PALETTE[number], linewidth=0.9, capsize=2, label=label)


def _published(ax: Any, values: dict[int, float], number: int, label: str) -> None:
    ax.plot(
        list(values), list(values.values()), MARKERS[number], markerfacecolor="none", markersize=7,
        color=PALETTE[number], label=label,
    )  # fmt: skip
