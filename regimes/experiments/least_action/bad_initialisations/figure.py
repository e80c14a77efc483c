"""What least action gains from each initialisation, against how far plain training moves the data from there."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.bad_initialisations.course import advantages, growth
from regimes.experiments.least_action.small_nets.contrasts import ENDS, NAMES, OTHERS
from regimes.lab import figures
from regimes.lab.averages import middle
from regimes.lab.numbers import Number

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LAWS = {"kaiming": "Kaiming"}


def draw(rows: "DataFrame") -> "Figure":
    """A point a start, and the median of each initialisation, after the protocol's steps and at equal risk."""
    made, axes = figures.figure(2, 2, width=figures.DOUBLE, height=5.9)
    with figures.style():
        for row, (prefix, words) in zip(axes, ENDS.items(), strict=True):
            for ax, other in zip(row, OTHERS, strict=True):
                found = advantages(rows, other, prefix)
                for number, (law, some) in enumerate(found.groupby("law", sort=False)):
                    look: dict[str, Any] = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number]}
                    ax.plot(some.moved, some.advantage, linestyle="", markersize=2, alpha=0.5, **look)
                    typical = some.groupby("gain")[["moved", "advantage"]].agg(middle)
                    ax.plot(
                        typical.moved,
                        typical.advantage,
                        linestyle="",
                        markersize=6,
                        label=LAWS.get(str(law), str(law)),
                        **look,
                    )
                ax.axhline(0.0, color="black", linewidth=0.8)
                ax.set(xscale="log", title=f"{words}\n{_words(growth(rows, other, prefix))}")
                ax.set(xlabel="transport cost of plain training", ylabel=f"gain over {NAMES[other]}, points")
        made.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        text = (
            f"Small marks: {rows.seed.nunique()} seeds; large ones: medians of an initialisation. ρ: Spearman's rank "
            "correlation over the initialisations of a seed, mean over seeds; 95 % intervals resample laws and seeds."
        )
        figures.explain(made, text)
    return made


def _words(number: Number | None) -> str:
    if number is None:
        return "ρ not known"
    ends = f" [{figures.signed(number.interval.low)}, {figures.signed(number.interval.high)}]" if number.bounded else ""
    return f"ρ = {figures.signed(number.value)}{ends}"
