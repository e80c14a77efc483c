"""The figures: accuracy against the number of training samples, what LAP gains over the others, and curves."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.least_action.low_data.comparison import Key, Published, gain, named, percent, select
from regimes.lab.figures import DOUBLE, MARKERS, PALETTE, band, figure, style
from regimes.lab.statistics import Mean, mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Pairs = Sequence[tuple[Key, Key]]
APART = 0.03  # of the range of train sizes, between markers of one size; of the size itself on a log axis
TITLES = {"held_out": "held-out: epoch by validation", "refreshed": "refreshed statistics"}


def panels(
    rows: "DataFrame",
    shown: Sequence[Key],
    pairs: Pairs,
    published: Published,
    protocols: Sequence[str],
    *,
    log: bool = False,
    curves: bool = False,
) -> "Figure":
    """Left: accuracy by the paper's protocol; then differences paired by seed, by the other protocols.

    With `curves` a last panel shows accuracy along training at the largest train size.
    """
    sizes = sorted(int(size) for size in rows.train_size.unique())
    unit = 1000 if min(sizes) >= 1000 else 1
    made, (left, *others) = figure(1, 1 + len(protocols) + curves, width=DOUBLE, height=3.9)
    course = [others.pop()] if curves else []
    known_gains = {size: gain for size, gain in _gains(published).items() if size in sizes}
    with style():
        for number, key in enumerate(shown):
            means = {size: percent(some, "paper") for size in sizes if len(some := select(rows, key, size))}
            _marks(left, means, _places(sizes, number, len(shown), log), number, named(key))
            if not key[1] and key[0] in published:
                known = {size: published[key[0]][size][0] for size in sizes if size in published[key[0]]}
                _published(left, known, number, f"{named(key)}, published")
        for ax, protocol in zip(others, protocols, strict=True):
            for number, (key, other) in enumerate(pairs):
                means = {size: gain(rows, key, other, size, protocol) for size in sizes}
                places = _places(sizes, number, len(pairs), log)
                _marks(ax, means, places, number, f"{named(key)} − {named(other)}")
            _published(ax, known_gains, 0, "LAP − vanilla, published")
            ax.axhline(0, color="#000000", linewidth=0.8, zorder=1)
            ax.set(ylabel="difference of test accuracy, points", title=TITLES[protocol])
        left.set(ylabel="test accuracy, %", title="paper: best epoch by test", **({} if log else {"ylim": (0, 100)}))
        for ax in others[1:]:
            ax.set(ylim=others[0].get_ylim())
        for ax in (left, *others):
            ax.set(xlabel="training samples" + ", thousands" * (unit > 1), **({"xscale": "log"} if log else {}))
            ax.set_xticks(sizes, [f"{size / unit:g}" for size in sizes])
            ax.minorticks_off()
        for ax in course:
            _curves(ax, rows[rows.train_size == sizes[-1]], shown)
            ax.set(title=f"along training, {sizes[-1]:,} samples")
        for ax in (left, others[0]):
            ax.legend(loc="upper left", bbox_to_anchor=(-0.25, -0.2), handlelength=1.2)
    return made


def _gains(published: Published) -> dict[int, float]:
    """Least action less plain training at each published train size."""
    return {n: lap[n][0] - plain[n][0] for plain, lap in [tuple(published.values())] for n in lap} if published else {}


def _places(sizes: Sequence[int], number: int, count: int, log: bool) -> dict[int, float]:
    """Where the markers of one of several series stand, side by side around each train size."""
    shift = APART * (number - (count - 1) / 2)
    span = max(sizes) - min(sizes) or max(sizes)
    return {size: size * (1 + 2 * shift) if log else size + span * shift for size in sizes}


def _marks(ax: Any, means: dict[int, Mean], places: dict[int, float], number: int, label: str) -> None:
    """Means with their intervals; a size without a mean is left out."""
    known = {size: mean for size, mean in means.items() if np.isfinite(mean.value)}
    if not known:
        return
    x = [places[size] for size in known]
    y = [mean.value for mean in known.values()]
    ends = np.array([mean.interval for mean in known.values()])
    half = np.where(np.isfinite(ends[:, 1]), ends[:, 1] - y, 0.0)
    ax.errorbar(x, y, half, fmt=MARKERS[number] + "-", color=PALETTE[number], linewidth=0.9, capsize=2, label=label)


def _published(ax: Any, values: dict[int, float], number: int, label: str) -> None:
    if values:
        ax.plot(
            list(values), list(values.values()), MARKERS[number], markerfacecolor="none", markersize=7,
            color=PALETTE[number], label=label,
        )  # fmt: skip


def _curves(ax: Any, rows: Any, shown: Sequence[Key]) -> None:
    """Mean accuracy over the seeds after each epoch looked at, with Student's 95 % band."""
    for number, (arm, _) in enumerate(shown):
        some = [np.asarray(json.loads(curve)) for curve in rows[rows.arm == arm].curve]
        if not some:
            continue
        epochs = some[0][:, 0]
        means = [mean_interval(100 * values) for values in np.stack([curve[:, 1] for curve in some]).T]
        ax.plot(epochs, [mean.value for mean in means], color=PALETTE[number], linewidth=1.0)
        if len(some) > 1:
            low, high = np.array([mean.interval for mean in means]).T
            band(ax, epochs, low, high, color=PALETTE[number])
    ax.set(xlabel="epoch", ylabel="accuracy on the first half, %")
