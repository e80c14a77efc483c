"""Numbers and figure of particle complexity, which its statements share."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.mean_field.complexity.config import CONVEX, FLOW
from regimes.lab import figures
from regimes.lab.averages import average, least, most
from regimes.lab.intervals import Estimate
from regimes.lab.numbers import Number, cells, count, each, geometric_mean, largest, means, smallest
from regimes.lab.report import Interval, Prediction
from regimes.lab.statistics import geometric_mean_interval
from regimes.lab.undecided import either

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FOUND = "smallest width from which the flow's loss is below the band, over m0"
WIDE = "flow, m ≥ 2 m0: largest loss of a trial, over the band"
NARROW = "flow, m < m0: smallest loss of a trial, over the band"
BOUND = "flow, m < m0: smallest ratio of the loss to the lower bound for m neurons"
FIXED = "output weights alone, at the flow's largest m: loss over the band"
FREE = "output weights alone, at the most features: smallest loss of a trial, over the band"
LOOKS: dict[str, dict[str, Any]] = {FLOW: {"number": 0}, CONVEX: {"number": 1, "linestyle": "--"}}
WORDS = {FLOW: "all weights (particle flow)", CONVEX: "output weights alone (convex)"}


def predictions(unit: str, fixed: Interval) -> tuple[Prediction, ...]:
    """What is predicted for one activation; fixed: the loss of the convex fit over the band."""
    return (
        Prediction(named(FOUND, unit), Interval(1.0, 1.65), "after a pilot"),
        Prediction(named(WIDE, unit), Interval(0.0, 1.0), "after a pilot"),
        Prediction(named(NARROW, unit), Interval(10.0, np.inf), "derived"),
        Prediction(named(BOUND, unit), Interval(1.0, np.inf), "derived"),
        Prediction(named(FIXED, unit), fixed, "derived"),
        Prediction(named(FREE, unit), Interval(100.0, np.inf), "derived"),
    )


def named(quantity: str, unit: str) -> str:
    """The quantity of one activation."""
    return f"{unit}: {quantity}"


def numbers(rows: Any, unit: str, band: float, m0: int) -> tuple[dict[str, Number | None], dict[str, Any]]:
    """The predicted quantities of one activation and further numbers; `band` is the loss of the figure's band."""
    some = rows[rows.unit == unit]
    flow, fits = some[some.way == FLOW], some[some.way == CONVEX]
    widest = flow.width.max() if len(flow) else 0
    most, narrow, wide = fits[fits.width == fits.width.max()], flow[flow.width < m0], flow[flow.width >= 2 * m0]
    fixed = fits[fits.width == widest]
    found = {
        FOUND: either(*(_found(one, band, m0) for one in readings(flow, band))),
        WIDE: either(*(largest(one.loss / band, _worst(one, band)) for one in readings(wide, band))),
        NARROW: smallest(narrow.loss / band, _worst(narrow, band)),
        BOUND: smallest(
            narrow.loss / narrow.bound, (narrow.error / narrow.bound).max(skipna=False) if len(narrow) else 0.0
        ),
        FIXED: geometric_mean(fixed.loss / band),
        FREE: smallest(most.loss / band, _worst(most, band)),
    }
    means = curve(flow)  # a width whose mean is not known may be on either side
    widths = {width: np.nan if np.isnan(one.value) else float(width) for width, one in means.items()}
    below = [widths[width] for width, one in means.items() if not one.value >= band]
    above = [widths[width] for width, one in means.items() if not one.value < band]
    merits = {
        "smallest m with a geometric mean of the losses below the band": smallest(below),
        "largest m with a geometric mean of the losses above the band": largest(above),
        "largest ratio of the loss after half of the steps to that at the end, m < m0": largest(
            narrow.half / narrow.loss
        ),
        "flow: runs still on their way below the band when their steps ended": count(
            undecided(flow, band), flow.loss + flow.half
        ),
        "largest error of a loss, over the band": largest(flow.error / band),
    }
    return (
        {named(name, unit): one for name, one in found.items()},
        {named(name, unit): one for name, one in merits.items()},
    )


def undecided(flow: Any, band: float) -> Any:
    """Which runs are above the band only for want of steps.

    At the pace of the second half of its steps, as many steps again would take the loss of such a run below the band.
    """
    over = flow.loss >= band
    return over & ~(flow.loss * (flow.loss / flow.half) ** 2 >= band)


def readings(flow: Any, band: float) -> tuple[Any, Any]:
    """The runs with those that are undecided far below the band, and as they ended."""
    return flow.assign(loss=flow.loss.mask(undecided(flow, band), 0.0)), flow


def _found(flow: Any, band: float, m0: int) -> Number | None:
    """The geometric mean over the trials; where one has none it is beyond the widths, and only a lower end is known."""
    found = np.array(thresholds(flow, band)) / m0
    beyond = np.isinf(found)
    if not beyond.any():
        return geometric_mean(found)
    least = geometric_mean_interval(np.where(beyond, flow.width.max() / m0, found))

    def at(level: float) -> Interval:
        return Interval(least.at(level).low, np.inf)

    return Number.of(Estimate(np.inf, Interval(least.interval.low, np.inf), at))


def _worst(some: Any, band: float) -> float:
    return float(some.error.max(skipna=False) / band) if len(some) else 0.0


def teachers(rows: Any) -> int:
    """The teacher's m0."""
    return int(rows.teachers.iloc[0])


def thresholds(flow: Any, band: float) -> list[float]:
    """For each trial the smallest width from which on all its losses are below the band; inf if the last is not.

    NaN if one of its losses is.
    """
    found = []
    for _, trial in flow.groupby("seed"):
        ordered = trial.sort_values("width")
        above = ordered.width[ordered.loss >= band]
        later = ordered.width[ordered.width > above.max()] if len(above) else ordered.width
        least = float(later.min()) if len(later) else np.inf
        found.append(np.nan if ordered.loss.isna().any() else least)
    return found


def curve(some: Any) -> dict[Any, Number]:
    """Geometric means of the loss over the trials, by width."""
    return each(some, "width", lambda trials: geometric_mean(trials.loss))


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each activation, way and width."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["unit", "way", "width"], sort=False)
    for (unit, way, width), some in groups:
        line: dict[str, Any] = {"activation": unit, "trained": WORDS[way], "m": width, "trials": len(some)}
        line |= cells("loss", geometric_mean(some.loss))
        line |= {"smallest loss": least(some.loss), "largest loss": most(some.loss)}
        line |= {"lower bound for m neurons": average(some.bound), "steps": average(some.steps)}
        lines.append(line)
    return pandas.DataFrame(lines)


def draw(rows: Any, bands: dict[str, float], m0: int) -> "Figure":
    """Loss against the number of neurons, trained in the two ways; a dot for each trial."""
    units = [unit for unit in bands if unit in set(rows.unit)]
    made, axes = figures.figure(1, len(units), width=figures.DOUBLE, height=3.4, squeeze=False, sharey=True)
    with figures.style():
        for ax, unit in zip(axes[0], units, strict=True):
            some = rows[rows.unit == unit]
            ax.axhspan(bands[unit] / 1e3, bands[unit], color="#dddddd", linewidth=0, label="below optimisation error")
            ax.axvline(m0, color="black", linewidth=0.8, linestyle=":", label=f"$m_0$ = {m0}, the teacher")
            for way, look in LOOKS.items():
                these = some[some.way == way]
                color = figures.PALETTE[look["number"]]
                ax.plot(these.width, these.loss, ".", color=color, markersize=3, alpha=0.6)
                figures.curve(ax, curve(these), label=WORDS[way], markersize=3, **look)
            bounds = means(some[(some.way == FLOW) & (some.width < m0)].groupby("width").bound)
            ax.plot(bounds.index, bounds, color=figures.GREY, linewidth=1.0, label="no net of m neurons is below")
            ax.set(xscale="log", yscale="log", xlabel="number m of neurons", title=unit)
            ax.set_ylim(bottom=0.02 * bands[unit])
        axes[0][0].set_ylabel("loss ½ E(f − y)²")
        axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        trials = rows.seed.nunique()
        figures.explain(
            made,
            f"Dots: trials; lines: geometric means of {trials} trials; {figures.intervals('bands', trials)}. "
            "A run ends inside the grey band, or when its steps are used up.",
        )
    return made
