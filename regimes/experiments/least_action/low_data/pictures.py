"""The figures: accuracy against the number of training samples, what least action gains, and curves of training."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from regimes.experiments.least_action.low_data.comparison import Key, Published, gain, lost, named, percent, select
from regimes.lab import figures, numbers
from regimes.lab.numbers import Number
from regimes.lab.report import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Pairs = Sequence[tuple[Key, Key]]
APART = 0.012  # of the range of train sizes, between the marks of one size
TITLES = {
    "paper": "paper's count: best epoch by test",
    "held_out": "held out: epoch by validation",
    "refreshed": "last epoch, refreshed statistics",
}
# Colour and marker of a method. A difference has the colour of what is subtracted and the marker of the other.
ORDER = ("vanilla", "lap", "lap_divided", "control", "vanilla, tuned", "lap, tuned", "control, tuned")
CROSS = "×"  # marks what has diverged
DIFFERENCE = "difference of accuracy, points"
WORDS = {
    ("lap", False): "LAP: λ·risk + transport",
    ("lap_divided", False): "divided: risk + transport/λ",
    ("control", False): "control: λ·risk, no transport",
    ("vanilla", True): "tuned: at its best learning rate",
}


class Series(NamedTuple):
    """What is drawn of a method, or of a difference of two, at each train size."""

    label: str
    look: dict[str, Any]
    found: Mapping[int, Number]
    lost: Mapping[int, tuple[int, int]]  # seeds that have diverged, and all seeds

    def whole(self, size: int) -> bool:
        """Whether no seed is left that did not diverge."""
        diverged, seeds = self.lost[size]
        return diverged == seeds


def panels(
    rows: "DataFrame",
    shown: Sequence[Key],
    pairs: Pairs,
    published: Published,
    protocols: Sequence[str],
    *,
    curves: bool = False,
) -> "Figure":
    """Accuracy as the paper counts it, what least action gains by each count, and with `curves` accuracy in training.

    Against the number of training samples; where all rows have one number, method by method.
    """
    sizes = sorted(int(size) for size in rows.train_size.unique())
    counts = ["paper", *protocols] if published else list(protocols)
    single = len(sizes) == 1
    height = 2.3 + 0.25 * len(shown) if single else 2.5 * ((2 + len(counts) + curves) // 2) + 0.9
    made, axes = figures.figure(*_layout(1 + len(counts) + curves, single), width=figures.DOUBLE, height=height)
    free = list(np.ravel(axes))
    draw_one: Callable[..., None] = _listed if single else _against_size
    with figures.style():
        drawn = [_method(rows, key, sizes) for key in shown]
        ax = free.pop(0)
        draw_one(ax, drawn, sizes, {k: v for k, v in _published(published, sizes).items() if k in map(named, shown)})
        ax.set(title=TITLES["paper"])
        _name_values(ax, "test accuracy, %", single)
        for protocol in counts:
            ax = free.pop(0)
            known = _published_gain(published, sizes) if protocol == "paper" else {}
            asked = pairs[:1] if protocol == "paper" else pairs
            differences = [_difference(rows, *pair, sizes, protocol) for pair in asked]
            draw_one(ax, differences, sizes, known, zero=True)
            drawn += differences
            ax.set(title=TITLES[protocol])
            _name_values(ax, DIFFERENCE, single)
        if curves:
            _curves(free.pop(0), rows[rows.train_size == sizes[-1]], shown, sizes[-1])
        for ax in free:
            ax.set_axis_off()
        _legends(made, axes, single, bool(published))
        crossed = any(diverged for one in drawn for diverged, _ in one.lost.values())
        figures.explain(made, _explained(rows, shown, sizes, bool(published), curves, crossed))
    return made


def _layout(count: int, single: bool) -> tuple[int, int]:
    return (1, count) if single else ((count + 1) // 2, 2)


def _number(key: Key) -> int:
    return ORDER.index(key[0] + (", tuned" if key[1] else ""))


def _method(rows: Any, key: Key, sizes: Sequence[int]) -> Series:
    """Accuracy of a method by the paper's count."""
    own = {size: select(rows, key, size) for size in sizes}
    found = numbers.known({size: percent(some, "paper") for size, some in own.items()})
    look = {"color": figures.PALETTE[_number(key)], "marker": figures.MARKERS[_number(key)]}
    return Series(named(key), look, found, {size: _ended(own[size]) for size in found})


def _difference(rows: Any, key: Key, other: Key, sizes: Sequence[int], protocol: str) -> Series:
    """The one less the other; a size counts as lost where one of the two has diverged in all seeds."""
    found = numbers.known({size: gain(rows, key, other, size, protocol) for size in sizes})
    look = {"color": figures.PALETTE[_number(other)], "marker": figures.MARKERS[_number(key)]}
    ended = {size: [_ended(select(rows, one, size)) for one in (key, other)] for size in sizes}
    worst = {size: max(both, key=lambda one: one[0] / max(one[1], 1)) for size, both in ended.items()}
    return Series(f"{named(key)} − {named(other)}", look, found, {s: w for s, w in worst.items() if w[1]})


def _ended(some: Any) -> tuple[int, int]:
    return int(lost(some).sum()), len(some)


def _published(published: Published, sizes: Sequence[int]) -> dict[str, dict[int, Number]]:
    """The published accuracies, by the name of the method."""
    return {
        named((arm, False)): {
            size: Number(mean, Interval(low, high)) for size, (mean, low, high) in means.items() if size in sizes
        }
        for arm, means in published.items()
    }


def _published_gain(published: Published, sizes: Sequence[int]) -> dict[str, dict[int, Number]]:
    """The published gain: the difference of the two published means, without an interval."""
    plain, lap = published.values()
    values = {size: lap[size][0] - plain[size][0] for size in lap if size in sizes}
    name = " − ".join(named((arm, False)) for arm in reversed(list(published)))
    return {name: {size: Number(value, Interval(-np.inf, np.inf)) for size, value in values.items()}}


def _against_size(
    ax: Any,
    drawn: Sequence[Series],
    sizes: Sequence[int],
    known: Mapping[str, Mapping[int, Number]],
    zero: bool = False,
) -> None:
    """Means with bars at each train size; open marks are published; × marks those of which seeds have diverged."""
    log = max(sizes) > 8 * min(sizes)
    span = np.log(max(sizes) / min(sizes)) if log else max(sizes) - min(sizes)
    there = [one for one in drawn if one.found]
    for place, one in enumerate(there):
        shift = APART * (place - (len(there) - 1) / 2) * span
        x = {size: size * np.exp(shift) if log else size + shift for size in sizes}
        whole = {x[size]: number for size, number in one.found.items() if not one.whole(size)}
        figures.curve(ax, whole, bars=True, label=one.label, linewidth=0.9, **one.look)
        if one.label in known:
            open_mark = {"markerfacecolor": "white", "markersize": 7, "linestyle": "none", "zorder": 1.5}
            figures.curve(
                ax,
                known[one.label],
                bars=True,
                label=f"{one.label}, published",
                elinewidth=0.9,
                **one.look,
                **open_mark,
            )
        crossed = {x[size]: one.found[size].value for size in one.found if one.lost[size][0]}
        ax.plot(list(crossed), list(crossed.values()), "x", color="#000000", markersize=7, zorder=3)
    if zero:
        ax.axhline(0, color="#000000", linewidth=0.8, zorder=1)
    unit = 1000 if min(sizes) >= 1000 else 1
    ax.set(xlabel="training samples" + ", thousands" * (unit > 1), xscale="log" if log else "linear")
    ax.set_xticks(sizes, [f"{size / unit:g}" for size in sizes])
    ax.minorticks_off()


def _listed(
    ax: Any,
    drawn: Sequence[Series],
    sizes: Sequence[int],
    known: Mapping[str, Mapping[int, Number]],
    zero: bool = False,
) -> None:
    """One line a method or difference, at the only train size; in words where no seed is left that did not diverge."""
    (size,) = sizes
    there = [one for one in drawn if size in one.lost]
    for line, one in enumerate(there):
        number, (diverged, seeds) = one.found.get(size), one.lost[size]
        if number is not None and not one.whole(size):
            low, high = number.interval if number.drawn else (number.value, number.value)
            ends = [[number.value - low], [high - number.value]]
            ax.errorbar([number.value], [line], xerr=ends, linestyle="none", capsize=2, label=one.label, **one.look)
        if diverged:
            text, left = f"{CROSS} {diverged} of {seeds} seeds diverged", one.whole(size)
            ax.annotate(
                text, (0.03 if left else 0.98, line), xycoords=("axes fraction", "data"),
                xytext=(0, 0 if left else 6), textcoords="offset points", ha="left" if left else "right", va="center",
                fontsize=figures.NOTE, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        for mean in known.get(one.label, {}).values():
            ax.plot([mean.value], [line], one.look["marker"], color=one.look["color"], markerfacecolor="white")
    if zero:
        ax.axvline(0, color="#000000", linewidth=0.8, zorder=1)
    ax.set_yticks(range(len(there)), [one.label for one in there])
    ax.set(ylim=(len(there) - 0.4, -0.6))


def _name_values(ax: Any, text: str, single: bool) -> None:
    ax.set(**{"xlabel" if single else "ylabel": text})


def _legends(made: "Figure", axes: Any, single: bool, published: bool) -> None:
    """Of methods above the left column, of differences above the right one."""
    if single:
        return
    flat = list(np.ravel(axes))
    look: Any = {"ncols": 2, "handlelength": 1.2, "columnspacing": 1.0}
    made.legend(*flat[0].get_legend_handles_labels(), loc="outside upper left", **look)
    made.legend(*flat[2 if published else 1].get_legend_handles_labels(), loc="outside upper right", **look)


def _explained(
    rows: Any, shown: Sequence[Key], sizes: Sequence[int], published: bool, curves: bool, crossed: bool
) -> str:
    most = [int(rows[rows.train_size == size].groupby("arm").seed.nunique().max()) for size in sizes]
    at = f"{sizes[0]:,} training samples" if len(sizes) == 1 else ", ".join(f"{size:,}" for size in sizes)
    there = {key for key in shown if len(rows[rows.arm == key[0]])}
    words = [WORDS[key] for key in WORDS if key in there]
    parts = [
        f"Marks: means over seeds (at most {', '.join(map(str, most))} at {at}), of differences paired by seed, "
        "which have the colour of what is subtracted and the mark of the other; "
        f"{figures.intervals('bars and bands' if curves else 'bars', max(most))}.",
        "Open marks: published." if published else "No published values: this run is smaller than the published one.",
        f"{CROSS}: seeds diverged; a mean that has them counts the accuracy that they end with." if crossed else "",
        "; ".join(words) + ".",
    ]
    return " ".join(part for part in parts if part)


def _curves(ax: Any, rows: Any, shown: Sequence[Key], size: int) -> None:
    """Mean accuracy over the seeds after each epoch looked at, with 95 % band."""
    for key in shown:
        some = [np.asarray(json.loads(curve)) for curve in rows[rows.arm == key[0]].curve] if not key[1] else []
        if some:
            epochs = some[0][:, 0]
            means = [numbers.mean(100 * values) for values in np.stack([curve[:, 1] for curve in some]).T]
            look = {"marker": "", "linewidth": 1.0}
            figures.curve(ax, numbers.known(dict(zip(epochs, means, strict=True))), number=_number(key), **look)
    ax.set(title=f"along training, {size:,} samples", xlabel="epoch", ylabel="accuracy on the first half, %")
