"""One look for all figures: column widths, colour-blind safe colours, reference slopes, saving."""

import io
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from regimes.lab.files import write_whole
from regimes.lab.statistics import geometric_mean_interval, loglog_slope

COLUMN = 3.4  # inches: one column of a two-column page
DOUBLE = 7.0  # inches: both columns
# Okabe and Ito's colours, distinguishable with any colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

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
    """Inside this context, figures are made in the shared style; the settings outside are untouched."""
    with matplotlib.rc_context(_STYLE):
        yield


def figure(
    rows: int = 1, columns: int = 1, *, width: float = COLUMN, height: float | None = None, **options: Any
) -> tuple[Figure, Any]:
    """A figure without a window, and its axes as `subplots` gives them; by default a panel is 0.75 as high as wide."""
    with style():
        panel = width / columns
        made = Figure(figsize=(width, height or 0.75 * panel * rows), layout="constrained")
        return made, made.subplots(rows, columns, **options)


def band(ax: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, color: str, label: str | None = None) -> None:
    """Shade the region between two curves, for confidence bands."""
    ax.fill_between(np.asarray(x), np.asarray(low), np.asarray(high), color=color, alpha=0.2, linewidth=0, label=label)


def reference_slope(ax: Axes, x: Sequence[float] | np.ndarray, y: float, slope: float, label: str) -> Line2D:
    """A dashed grey line y·(x/x_0)^slope through (x_0, y), x_0 the first of x, on log-log axes."""
    line = np.asarray(x, dtype=float)
    (drawn,) = ax.plot(line, y * (line / line[0]) ** slope, "--", color="#666666", linewidth=1.0, label=label, zorder=1)
    return drawn


def power_law(
    ax: Axes, x: ArrayLike, y: ArrayLike, groups: Sequence[Hashable] | np.ndarray, *, label: str, number: int = 0
) -> float:
    """Geometric means over the groups (seeds) of y at each x, with 95 % bands, on log-log axes; returns the exponent.

    The exponent, the mean over the groups of the log-log slope, is written after the label. number: which colour and
    which marker of the shared ones.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    exponent = loglog_slope(x, y, groups=groups).value
    places = np.unique(x)
    means = [geometric_mean_interval(y[x == place]) for place in places]
    color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    text = f"{exponent:+.2f}".replace("+", "").replace("-", "−")
    ax.loglog(places, [m.value for m in means], marker=marker, color=color, label=f"{label}: {text}")
    if all(np.isfinite(m.interval).all() for m in means):
        band(ax, places, [m.interval.low for m in means], [m.interval.high for m in means], color=color)
    return exponent


def save(figure: Figure, folder: Folder | Path, name: str = "figure") -> None:
    """Write name.png (200 dots an inch) and name.pdf, without dates, so that the same figure gives the same file."""
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        with style():
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
        if isinstance(folder, Path):
            write_whole(folder / f"{name}.{kind}", buffer.getvalue())
        else:
            folder.write(f"{name}.{kind}", buffer.getvalue())
