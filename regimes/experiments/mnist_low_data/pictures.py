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
    """Left: accuracy by the paper's protocol; right: differences paired by seed, by the honest one."""
    sizes = sorted(int(size) for size in rows.train_size.unique())
    made, (left, right) = figure(1, 2, width=DOUBLE, height=3.4)
    with style():
        for number, key in enumerate(shown):
            means = {size: percent(some, "paper") for size in sizes if len(some := select(rows, key, size))}
            _marks(left, means, number, len(shown), names(key))
            if not key[1] and key[0] in published:
                _published(left, {n: published[key[0]][n][0] for n in sizes if n in published[key[0]]}, number,
                           f"{names(key)}, published")  # fmt: skip
        for number, (key, other) in enumerate(pairs):
            means = {size: gain(rows, key, other, size, "honest") for size in sizes}
            _marks(right, means, number, len(pairs), f"{names(key)} − {names(other)}")
        gained = {n: published["lap"][n][0] - published["vanilla"][n][0] for n in sizes if n in published["vanilla"]}
        _published(right, gained, 0, "LAP − vanilla, published")
        right.axhline(0, color="#000000", linewidth=0.8, zorder=1)
        left.set(ylabel="largest test accuracy over the epochs, %", title="paper's protocol")
        right.set(ylabel="difference of test accuracy, points", title="epoch chosen by validation")
        for ax in (left, right):
            ax.set(xlabel="training samples", xticks=sizes)
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1.0, handlelength=1.2)
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
