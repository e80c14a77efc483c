"""Does a least-action net move its data as far as the task asks, and no farther?

Set-up. In the plane both classes lie at height −Δ, side by side. Class + has to be carried over the line y = 0 (score
β y, logistic risk), class − has to stay. The objective is risk + L Σ‖v_k‖²/λ with λ fixed; its least value over all
maps, and the transport of the minimiser, are known exactly (`known_least`): about (Δ + margin)²/2, from all but nothing
to eight times the size of the cloud. Nets are dense blocks from Kaiming weights of gain 0.5, trained by full-batch Adam
with the penalty ("least action") and without it ("risk alone"), from the same weights.

A net whose complexity adapts has the cost of the minimiser at every Δ: the log-log slope of its transport against the
least one is 1, and so is their ratio. The risk alone does not see the transport: its cost is that of the initial
weights where the task is easy, and wherever descent comes to where it is hard.

Predictions, made before the run: the slope in [0.9, 1.1] and the ratio at the Δ where it is worst at most 1.2 with the
penalty (what Adam reaches); without it the ratio at the smallest Δ at least 2. They speak of Δ from 1/4, all but
nothing, to 4, eight times the cloud: a run that does not reach so far does not measure them.
"""

from typing import TYPE_CHECKING

from regimes.experiments.least_action.known_least.tasks import Config as Config
from regimes.experiments.least_action.known_least.tasks import measure as measure
from regimes.lab import figures, numbers
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SLOPE = "slope of log transport against log least transport, least action"
RATIO = "transport over the least transport, least action, worst distance"
ALONE = "transport over the least transport, risk alone, smallest distance"
RANGE = (0.25, 4.0)  # of the distances of which the predictions speak
NAMES = {"least_action": "least action", "risk": "risk alone"}
STATEMENT = Statement(
    title="The cost of a least-action net adapts to its task",
    claim="The farther classes have to be moved, the more a least-action net moves them, and no more than it has to; "
    "by the risk alone a net moves an easy task's data much too far.",
    source="[Karkar2020] section 3, complexity that adapts to the data",
    predictions=(
        Prediction(SLOPE, Interval.around(1.0, 0.1), "derived"),
        Prediction(RATIO, Interval.at_most(1.2), "chosen"),
        Prediction(ALONE, Interval.at_least(2.0), "chosen"),
    ),
)
GRID = ("method", "distance", "seed")
BATCHED = ("distance", "seed")


def ratios(rows: "DataFrame", method: str) -> dict[float, numbers.Number]:
    """Transport over the least transport by distance: geometric means over the seeds."""
    some = rows[rows.method == method]
    return numbers.each(some, "distance", lambda at: numbers.geometric_mean(at.transport / at.least_transport))


def judge(rows: "DataFrame") -> Judgement:
    """The slope, one a seed, and the ratios at the two distances that the predictions speak of."""
    least_action, alone = ratios(rows, "least_action"), ratios(rows, "risk")
    some = rows[rows.method == "least_action"]
    spanned = bool(least_action) and min(least_action) <= RANGE[0] and max(least_action) >= RANGE[1]
    found = {
        SLOPE: numbers.slope(some.least_transport, some.transport, some.seed) if spanned else None,
        RATIO: numbers.extreme(least_action.values()) if spanned else None,
        ALONE: alone[min(alone)] if alone and min(alone) <= RANGE[0] else None,
    }
    other = rows[rows.method == "risk"]
    merits = {
        "seeds": float(rows.seed.nunique()),
        "slope by the risk alone": numbers.slope(other.least_transport, other.transport, other.seed),
        "objective over the least one − 1, largest": numbers.largest(some.excess),
    }
    return numbers.judged(STATEMENT, found, merits)


def draw(rows: "DataFrame") -> "Figure":
    """Transport against the least transport; the diagonal is the least."""
    made, ax = figures.figure(height=3.3)
    with figures.style():
        for number, (method, some) in enumerate(rows.groupby("method", sort=False)):
            at = numbers.means(some.groupby("distance").least_transport)
            found = numbers.each(some, "distance", lambda one: numbers.geometric_mean(one.transport))
            figures.curve(ax, {at[key]: one for key, one in found.items()}, number=number, label=NAMES[str(method)])
        ends = [float(rows.least_transport.min()), float(rows.least_transport.max())]
        ax.plot(ends, ends, ":", color=figures.GREY, label="the least possible")
        ax.set(xscale="log", yscale="log", xlabel="transport of the minimiser", ylabel="transport of the net")
        made.legend(*ax.get_legend_handles_labels(), loc="outside upper center")
        seeds = rows.seed.nunique()
        figures.explain(made, f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}.")
    return made
