"""One look for all figures: column widths, colour-blind safe colours, curves with bands, reference slopes, saving."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogFormatterSciNotation,
    LogLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike

from regimes.lab.files import write_whole
from regimes.lab.numbers import Number
from regimes.lab.statements import FEW

COLUMN = 3.4  # inches: one column of a two-column page
DOUBLE = 7.0  # inches: both columns
# Okabe and Ito's colours, distinguishable with any colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#666666"
NOTE = 7.0  # points: the smallest text of a figure
DECADES = 1.5  # of a logarithmic axis that needs ticks between its powers of ten
# Fonts for signs that matplotlib's own has not (names in other scripts), where the machine has one of them.
SCRIPTS = ("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Arial Unicode MS", "Microsoft YaHei", "Segoe UI")

_STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "font.size": 9,
    "legend.title_fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "figure.dpi": 100,
    "pdf.fonttype": 42,
    "svg.hashsalt": "regimes",
}


@runtime_checkable
class Folder(Protocol):
    """Where a figure goes: a run folder."""

    def write(self, file: str, content: str | bytes) -> Any:
        """Write one file of the folder as a whole."""
        ...


@contextmanager
def style() -> Iterator[None]:
    """Inside this context, figures are made in the shared style; the settings outside neither matter nor change."""
    installed = {font.name for font in fontManager.ttflist}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc may ask for LaTeX, say
        matplotlib.rcParams.update(_STYLE)
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in SCRIPTS if name in installed)]
        yield


def figure(
    rows: int = 1, columns: int = 1, *, width: float = COLUMN, height: float | None = None, **options: Any
) -> tuple[Figure, Any]:
    """A figure without a window, and its axes as `subplots` gives them; by default a panel is 0.75 as high as wide."""
    with style():
        panel = width / columns
        made = Figure(figsize=(width, height or 0.75 * panel * rows), layout="constrained")
        return made, made.subplots(rows, columns, **options)


def look(number: int) -> dict[str, Any]:
    """Colour, marker and line of a series: beyond the eighth the colours come again, with hollow marks and dashes."""
    color, turn = PALETTE[number % len(PALETTE)], number // len(PALETTE)
    made: dict[str, Any] = {"color": color, "marker": MARKERS[(number + 3 * turn) % len(MARKERS)]}
    return made | {"linestyle": "--", "markerfacecolor": "white"} if turn else made


def legend(made: Figure | SubFigure, *axes: Axes, **options: Any) -> None:
    """One legend for all these panels, above them: every name once, as the first panel that has it draws it."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        made.legend(list(found.values()), list(found), loc="outside upper center", **options)


def ticks_at(axis: Axis, places: Sequence[Any]) -> None:
    """Ticks at these places and no others, labelled by plain numbers; those below 1 by three digits."""
    axis.set_major_locator(FixedLocator(np.asarray(places, dtype=float).tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.3g}" if value < 1 else f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def beside(found: Mapping[Any, Number], number: int, count: int, gap: float) -> dict[float, Number]:
    """Numbers moved along x, so that the marks of `count` series at the same places stand a gap apart: of one of them.

    For a linear axis; on a logarithmic one use `beside_by`.
    """
    return {place + gap * (number - (count - 1) / 2): one for place, one in found.items()}


def beside_by(found: Mapping[Any, Number], number: int, count: int, factor: float) -> dict[float, Number]:
    """As `beside`, for a logarithmic axis: neighbours are the factor apart."""
    return {place * factor ** (number - (count - 1) / 2): one for place, one in found.items()}


def band(ax: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, color: str, label: str | None = None) -> None:
    """Shade the region between two curves, for confidence bands."""
    ax.fill_between(np.asarray(x), np.asarray(low), np.asarray(high), color=color, alpha=0.2, linewidth=0, label=label)


def curve(
    ax: Axes,
    found: Mapping[Any, Number],
    *,
    number: int = 0,
    bars: bool = False,
    unit: float = 1.0,
    floor: float | None = None,
    **options: Any,
) -> None:
    """Values against the places x of {x: number}, with their 95 % intervals as a band, or as `bars`.

    A bar is drawn where `Number.drawn` allows it, a band where it does everywhere; else the values have marks.
    number: which of the shared looks; options: further ones of `plot`; values are multiplied by the unit (100 for
    percent). Intervals of values that were raised to a floor end there: below it nothing is known.
    """
    places = sorted(found)
    values = unit * np.array([found[place].value for place in places])
    low, high = unit * np.array([found[place].interval for place in places]).reshape(-1, 2).T
    if floor is not None:
        low = np.maximum(low, floor)
    shown = np.array([found[place].drawn for place in places], dtype=bool)
    usual = look(number)
    options = usual | options
    if not shown.all():
        options["marker"] = options["marker"] or usual["marker"]
    if bars:
        spread = np.where(shown, np.maximum([values - low, high - values], 0.0), 0.0)  # not below 0 by rounding
        ax.errorbar(places, values, spread, capsize=2, **options)
        return
    ax.plot(places, values, **options)
    if shown.all():
        band(ax, places, low, high, color=options["color"])


def logarithmic(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis y for these values, with ticks that can be read over less than DECADES too.

    Values without a finite logarithm have no place on it and are left out.
    """
    ax.set_yscale("log")
    placed = [value for value in values if 0 < value < math.inf]
    if placed:
        _ticks(ax.yaxis, min(placed), max(placed))


def _ticks(axis: Axis, low: float, high: float) -> None:
    few = _few(low, high)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=6))
    if few:
        axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _few(low: float, high: float) -> bool:
    """Whether an axis has too few powers of ten: less than DECADES, or a single one of them."""
    return bool(high < 10**DECADES * low) or math.floor(math.log10(high)) == math.ceil(math.log10(low))


def _short_axes(made: Figure) -> None:
    """Readable ticks on logarithmic axes over less than DECADES whose ticks nobody has set."""
    for ax in made.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            plain = isinstance(axis.get_major_formatter(), LogFormatterSciNotation)
            if axis.get_scale() == "log" and plain:
                if _few(low, high):
                    _ticks(axis, low, high)
                else:  # else matplotlib labels 3·10⁴ between 10⁴ and 10⁵, in other digits
                    axis.set_minor_formatter(NullFormatter())


def explain(made: Figure | SubFigure, text: str) -> None:
    """Small text under the figure that says what its bands and bars are; long text is broken to the figure's width."""
    letters = int(19.5 * made.bbox.width / made.dpi)  # as many of this size fit on a line
    lines = textwrap.wrap(text.replace(" %", "\N{NO-BREAK SPACE}%"), letters)
    made.supxlabel("\n".join(lines), fontsize=NOTE, color="#444444")


def intervals(kind: str, repetitions: int, what: str = "95 % intervals") -> str:
    """Words for what the bands or bars of a figure are; that there are none where there are few repetitions."""
    if repetitions > FEW:
        return f"{kind}: {what}"
    return f"no {kind}: one has no interval" if repetitions == 1 else f"no {kind}: the intervals of two say nothing"


def with_exponent(label: str, exponent: Number | None) -> str:
    """The label of a power law, with its exponent where there is one."""
    return label if exponent is None else f"{label}: {signed(exponent.value)}"


def with_exponents(label: str, exponents: Sequence[Number | None]) -> str:
    """As `with_exponent`, of a power law in several panels that share a legend; a dash where there is none."""
    if all(one is None for one in exponents):
        return label
    return f"{label}: {', '.join('–' if one is None else signed(one.value) for one in exponents)}"


def signed(value: float, digits: int = 2) -> str:
    """Decimal text with a true minus sign, and none before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def reference_slope(ax: Axes, x: Sequence[float] | np.ndarray, y: float, slope: float, label: str) -> Line2D:
    """A dashed grey line y·(x/x_0)^slope through (x_0, y), x_0 the first of x, on log-log axes."""
    line = np.asarray(x, dtype=float)
    (drawn,) = ax.plot(line, y * (line / line[0]) ** slope, "--", color=GREY, linewidth=1.0, label=label, zorder=1)
    return drawn


def save(figure: Figure, folder: Folder | Path, name: str = "figure") -> None:
    """Write name.png (200 dots an inch) and name.pdf, without dates, so that the same figure gives the same file."""
    _short_axes(figure)
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        with style(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # a box stands for the sign
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
        if isinstance(folder, Path):
            write_whole(folder / f"{name}.{kind}", buffer.getvalue())
        else:
            folder.write(f"{name}.{kind}", buffer.getvalue())
