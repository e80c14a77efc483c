"""In which sense is the risk of a two-layer net convex?

A net is a measure μ over neurons (a, b), f_μ = ∫ a σ(b·x) dμ is linear in μ, and the risk F(μ) = ½ mean |f_μ − y|² is
convex in f. Along mixtures (1 − s)μ + sν it is therefore a convex parabola, and at the middle
    F(½μ + ½ν) − ½(F(μ) + F(ν)) = −⅛ mean |f_μ − f_ν|²  exactly.
Training moves neurons: its geometry is that of Wasserstein geodesics, along which every neuron goes straight to the one
that optimal transport pairs it with. There f is not linear, and F need not be convex. For two nets that training has
brought to a small risk from two starts, the mean of the ends is small, while half way the neurons are something else:
the risk there should be above that mean. (That it is in more than half of the pairs is a choice, not a derivation.) So
the convexity in μ alone does not say why training finds the minimum. Nets of all widths have the samples of their seed:
the interval is over the seeds.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.convexity.config import TRAINED
from regimes.experiments.mean_field.convexity.config import Config as Config
from regimes.experiments.mean_field.convexity.runs import measure as measure
from regimes.lab import figures
from regimes.lab.averages import middle
from regimes.lab.numbers import Number, cells, extent, judged, largest, share
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

EXCESS = "mixtures: risk at the middle less the mean of the ends, over that mean"
PARABOLA = "mixtures: the same difference over −⅛ mean |f_μ − f_ν|²"
GEODESIC = "geodesics between trained nets: share whose middle lies above the mean of the ends"
STATEMENT = Statement(
    title="The risk is convex along mixtures of nets, not along geodesics",
    claim="The risk of two-layer nets never violates midpoint convexity along mixtures of measures; along Wasserstein "
    "geodesics between trained nets it does.",
    source="[ChizatBach2018]",
    predictions=(
        Prediction(EXCESS, Interval(-1.0, 0.0), "derived"),
        Prediction(PARABOLA, Interval.around(1.0, 1e-6), "derived"),
        Prediction(GEODESIC, Interval(0.5, 1.0), "chosen"),
    ),
)
GRID = ("nets", "width", "seed")
BATCHED = ("seed",)
WAYS = ("mixture", "geodesic")


def excess(rows: Any, way: str) -> "Series":
    """Risk at the middle less the mean of the ends, over that mean."""
    mean = (rows.one + rows.other) / 2
    return rows[way] / mean - 1


def violations(rows: Any, way: str) -> Number | None:
    """The share of pairs whose middle lies above the mean of the ends; pairs of one seed have the same samples."""
    over = excess(rows, way)
    return share(over > 0, over, rows.seed)


def judge(rows: "DataFrame") -> Judgement:
    """The largest excess of a mixture, its closed form, and the share of geodesics that violate convexity."""
    ends = (rows.one + rows.other) / 2
    found = {
        EXCESS: extent(excess(rows, "mixture")),
        PARABOLA: extent((rows.mixture - ends) / (-rows.outputs / 8)),
        GEODESIC: violations(rows[rows.nets == TRAINED], "geodesic"),
    }
    trained: Any = rows[rows.nets == TRAINED]
    worst = trained[["one", "other"]].max(axis=1, skipna=False) / trained.teacher
    return judged(STATEMENT, found, {"trained nets: largest risk over that of f = 0": largest(worst)})


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each kind of nets and width: the share of violations on either way."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["nets", "width"], sort=False)
    for (kind, width), some in groups:
        line: dict[str, Any] = {"nets": kind, "m": width, "pairs": len(some)}
        for way in WAYS:
            line |= cells(f"{way}: middle above the mean", violations(some, way))
        line["geodesic: median of middle / mean"] = middle(excess(some, "geodesic") + 1)
        lines.append(line)
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """Risk at the middle over the mean of the ends, a point a pair, on both ways."""
    kinds = list(dict.fromkeys(rows.nets))
    made, axes = figures.figure(1, len(kinds), width=figures.DOUBLE, height=2.8, squeeze=False, sharey=True)
    with figures.style():
        for ax, kind in zip(axes[0], kinds, strict=True):
            some = rows[rows.nets == kind]
            for number, way in enumerate(WAYS):
                look: dict[str, Any] = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number]}
                apart = 0.4 * (number - 0.5) + 0.3 * (
                    some.seed / max(1, some.seed.max()) - 0.5
                )  # a place for each seed
                places = some.width * 2.0**apart
                ax.plot(places, excess(some, way) + 1, linestyle="", markersize=2, label=way, **look)
            ax.axhline(1.0, color="black", linewidth=0.8)
            ax.set(xscale="log", yscale="log", xlabel="width m", title=f"nets as {kind}")
            ax.set_xticks(sorted(set(some.width)), [str(width) for width in sorted(set(some.width))])
            ax.minorticks_off()
        axes[0][0].set_ylabel("risk at the middle / mean of the ends")
        axes[0][0].legend()
        figures.explain(
            made,
            f"A point for each of {rows.seed.nunique()} pairs of nets a width; above the line the risk is not convex.",
        )
    return made
