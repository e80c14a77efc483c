"""Figure: accuracy as published beside it, and what transport adds, one row of panels an encoder."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.low_data.comparison import named
from regimes.experiments.least_action.mnist_low_data.config import ENCODERS
from regimes.experiments.least_action.mnist_low_data.contrasts import (
    CONTROL,
    LAP,
    PUBLISHED,
    TUNED,
    VANILLA,
    Cell,
    gain,
    percent,
)
from regimes.lab import figures, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

NAMES = {"gain_0.01": "encoder of gain 0.01", "gain_1": "encoder of gain 1", "autoencoder": "frozen autoencoder"}
SHOWN = (VANILLA, LAP, CONTROL, TUNED)
LOOKS: dict[tuple[str, str], dict[str, Any]] = {  # of each way to count, and end of training
    ("running", "protocol"): {"color": figures.PALETTE[4], "marker": "v"},
    ("refreshed", "protocol"): {"color": figures.PALETTE[5], "marker": "P"},
    ("group norm", "protocol"): {"color": figures.PALETTE[6], "marker": "X"},
    ("refreshed", "equal risk"): {"color": figures.PALETTE[5], "marker": "s", "markerfacecolor": "white"},
}
COUNTS = {  # what the left panels show: the published count, or the group norm's accuracies where there is none
    "paper": "published count",
    "group norm": "nets with group norm",
}
EXPLANATION = "Marks: means over {seeds}, of differences paired by seed; {bars}."
PUBLISHED_COUNT = (
    "Left: the published count, the largest accuracy over the epochs on one half of the test set; open marks are "
    "published, with 95 % over 50 runs."
)
ARMS = {
    CONTROL: "Control: λ·risk without transport.",
    TUNED: "Tuned: at the rate that is best by as many validation as training samples.",
}
SCORES = {
    ("running", "protocol"): "running: batch norm's running statistics",
    ("refreshed", "protocol"): "refreshed: fresh statistics of the training set",
    ("group norm", "protocol"): "group norm: nets with it in place of batch norm",
    ("refreshed", "equal risk"): "equal risk: refreshed, where the risk on the training set is the same",
}


def draw(rows: "DataFrame") -> "Figure":
    """Accuracy by the published count, LAP less its control, and LAP less vanilla tuned or not, against samples."""
    encoders = [one for one in ENCODERS if one in set(rows.encoder)]
    sizes = sorted({int(size) for size in rows.train_size})
    made, axes = figures.figure(
        len(encoders), 3, width=figures.DOUBLE, height=1.9 * len(encoders) + 1.6, squeeze=False, sharex=True
    )
    tuned = [gain(rows, LAP, TUNED, Cell(one, size, "refreshed")) for one in encoders for size in sizes]
    other = TUNED if any(one is not None for one in tuned) else VANILLA
    cells = [(one, size) for one in encoders for size in sizes]
    shown = {
        count: [arm for arm in SHOWN if any(percent(rows, arm, Cell(*cell, count)) is not None for cell in cells)]
        for count in COUNTS
    }
    count = next((count for count in COUNTS if shown[count]), "paper")
    arms = shown[count]
    scores = [
        (score, end)
        for score, end in LOOKS
        if any(
            gain(rows, LAP, against, Cell(*cell, score, end)) is not None
            for against in (CONTROL, other)
            for cell in cells
        )
    ]
    with figures.style():
        for line, encoder in zip(axes, encoders, strict=True):
            _accuracies(line[0], rows, encoder, sizes, arms, count)
            line[0].set(ylabel=f"{NAMES[encoder]}\ntest accuracy, %")
            for ax, against in ((line[1], CONTROL), (line[2], other)):
                _differences(ax, rows, encoder, sizes, against, scores)
        titles = (
            COUNTS[count],
            f"{named(LAP)} − {named(CONTROL)}, points",
            f"{named(LAP)} − {named(other)}, points",
        )
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set(title=title)
        for ax in axes[-1]:
            ax.set(xlabel="training samples")
        shown = [axes[0, place].get_legend_handles_labels() for place in (0, 1)]
        columns = 4 if sum(len(labels) for _, labels in shown) <= 6 else 2  # more do not fit side by side
        for series, side, title in zip(shown, ("left", "right"), ("arm", "scored with"), strict=True):
            made.legend(*series, loc=f"outside upper {side}", ncols=columns, title=title)
        figures.explain(made, _explained(rows, arms, scores, count))
    return made


def _explained(rows: "DataFrame", arms: list[tuple[str, bool]], scores: list[tuple[str, str]], count: str) -> str:
    """What is drawn: of the arms and of the ways to score only those that the figure has."""
    counts = {int(count) for count in rows.groupby(["encoder", "train_size"]).seed.nunique()}
    least, most = min(counts, default=0), max(counts, default=0)
    seeds = f"{most} seeds" if len(counts) == 1 else f"{least} to {most} seeds"
    words = [EXPLANATION.format(seeds=seeds, bars=figures.intervals("bars", most))]
    words += [PUBLISHED_COUNT] if count == "paper" else []
    words += [ARMS[arm] for arm in arms if arm in ARMS]
    told = "; ".join(SCORES[one] for one in scores)
    return " ".join([*words, f"Scored with {told}." if told else ""]).strip()


def _places(sizes: list[int], number: int, count: int) -> dict[int, float]:
    """Where the marks of each size stand: beside each other."""
    span = max(sizes) - min(sizes) or 0.5 * max(sizes)
    return {size: size + 0.012 * span * (number - (count - 1) / 2) for size in sizes}


def _accuracies(ax: Any, rows: Any, encoder: str, sizes: list[int], arms: list[tuple[str, bool]], count: str) -> None:
    beside = _places(sizes, 0, len(arms) + 1)
    for number, key in enumerate(SHOWN):
        if key not in arms:
            continue
        places = _places(sizes, arms.index(key) + 1, len(arms) + 1)
        found = numbers.known({places[size]: percent(rows, key, Cell(encoder, size, count)) for size in sizes})
        if found:
            figures.curve(ax, found, number=number, bars=True, label=named(key), linewidth=0.9)
        known = PUBLISHED.get(key[0], {}) if count == "paper" and not key[1] else {}
        for size in [one for one in sizes if one in known]:
            mean, low, high = known[size]
            look = {"color": figures.PALETTE[number], "markerfacecolor": "white", "markersize": 7, "zorder": 1.5}
            ax.errorbar([beside[size]], [mean], yerr=[[mean - low], [high - mean]], fmt=figures.MARKERS[number], **look)
    _ticks(ax, sizes)


def _differences(
    ax: Any, rows: Any, encoder: str, sizes: list[int], other: tuple[str, bool], scores: list[tuple[str, str]]
) -> None:
    for number, (score, end) in enumerate(scores):
        look, places = LOOKS[score, end], _places(sizes, number, len(scores))
        cells = {size: Cell(encoder, size, score, end) for size in sizes}
        found = numbers.known({places[size]: gain(rows, LAP, other, cell) for size, cell in cells.items()})
        if found:
            words = score if end == "protocol" else f"{score}, {end}"
            figures.curve(ax, found, bars=True, label=words, linewidth=0.9, **look)
    ax.axhline(0, color="#000000", linewidth=0.8, zorder=1)
    _ticks(ax, sizes)


def _ticks(ax: Any, sizes: list[int]) -> None:
    ax.set_xticks(sizes, [str(size) for size in sizes])
    if len(sizes) == 1:
        ax.set_xlim(0.92 * sizes[0], 1.08 * sizes[0])
    ax.minorticks_off()
