"""Is the least-action map of a data set the only one? Not where two ways cost the same.

Set-up. In the plane, points of class + lie on the axis y = 0 and have to end outside a band |y| < h; points of class −
lie in the band and have to stay. Score β(y² − h²), logistic risk, objective risk + L Σ‖v_k‖²/λ. Cloud and score are
their own mirror images under y ↦ −y. So with T its mirror image is a minimiser, too, and no minimiser is its own
mirror image: that would leave class + on the axis. Point by point, up and down cost exactly the same, and the least
objective is known (`known_least`). Control: the score β(y − h) of one straight edge, whose minimiser is unique.

On each cloud eight nets (dense blocks, full-batch Adam) start from weights of their own. Compared are their costs,
how far their objective is above the least one, and the maps: ‖T_i − T_j‖ over the root mean square of ‖T − id‖, mean
over pairs; it is 2 between a map and its mirror image, and 0 of equal ones.

Predictions, made before the run: nets come within 5 % of the least objective and their costs have a relative standard
deviation of at most 0.05 (what Adam reaches); maps of one cloud differ by at least 0.5 in the mean, as
they do if at least two of eight nets go the other way, and by at most 0.1 under the score with one minimiser. A pilot
on two other clouds had been looked at.
"""

from typing import TYPE_CHECKING

from regimes.experiments.least_action.known_least.mirrored import Config as Config
from regimes.experiments.least_action.known_least.mirrored import measure as measure
from regimes.lab import figures, numbers
from regimes.lab.intervals import POSITIVE
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

EXCESS = "band: objective over the least one − 1, mean of the nets of a cloud"
SPREAD = "band: relative standard deviation of the costs of a cloud's nets"
DIFFERENT = "band: distance of the maps of two nets over their displacement"
SAME = "one edge: distance of the maps of two nets over their displacement"
NAMES = {"band": "band: up or down", "raised": "one edge"}
STATEMENT = Statement(
    title="Minimal maps need not be unique",
    claim="Where a cloud and its classes are their own mirror image, least-action nets from different initial weights "
    "come to maps of equal cost that are not the same map.",
    source="[Karkar2020] section 3, existence of minimisers; the symmetric cloud is ours",
    predictions=(
        Prediction(EXCESS, Interval.at_most(0.05), "after a pilot"),
        Prediction(SPREAD, Interval.at_most(0.05), "after a pilot"),
        Prediction(DIFFERENT, Interval.at_least(0.5), "after a pilot"),
        Prediction(SAME, Interval.at_most(0.1), "after a pilot"),
    ),
)
GRID = ("score", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Means over clouds."""
    both, one = rows[rows.score == "band"], rows[rows.score == "raised"]
    found = {
        EXCESS: numbers.mean(both.excess, within=Interval(-1.0, float("inf"))),
        SPREAD: numbers.mean(both.spread, within=POSITIVE),
        DIFFERENT: numbers.mean(both.distance, within=POSITIVE),
        SAME: numbers.mean(one.distance, within=POSITIVE),
    }
    merits = {
        "clouds": float(rows.seed.nunique()),
        "band: share of points of class + that go up": numbers.mean(both.up, within=Interval(0.0, 1.0)),
        "one edge: objective over the least one − 1": numbers.mean(one.excess, within=Interval(-1.0, float("inf"))),
    }
    return numbers.judged(STATEMENT, found, merits)


def draw(rows: "DataFrame") -> "Figure":
    """Of each cloud: how far its maps lie apart against how far its costs do."""
    made, ax = figures.figure(height=3.2)
    with figures.style():
        for number, (score, some) in enumerate(rows.groupby("score", sort=False)):
            look = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number], "linestyle": "none"}
            ax.plot(some.spread, some.distance, label=NAMES[str(score)], **look)
        ax.axhline(0.5, linestyle=":", color=figures.GREY, label="predicted: band above 0.5, one edge below 0.1")
        ax.axhline(0.1, linestyle=":", color=figures.GREY)
        ax.set(xscale="log", yscale="log", xlabel="relative standard deviation of the costs")
        ax.set(ylabel=r"$\|T_i - T_j\|$ over the displacement")
        made.legend(*ax.get_legend_handles_labels(), loc="outside upper center")
        figures.explain(
            made, "Marks: clouds, each with nets from several initial weights. A map and its mirror image: 2."
        )
    return made
