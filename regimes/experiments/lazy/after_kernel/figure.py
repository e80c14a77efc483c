"""Figure of the after-kernel statement."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.scaled_numbers import at_the_loss, exponent, true
from regimes.experiments.lazy.scaled_settings import SHUFFLED
from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FITS = {"net": ("net", 1, "--"), "start": ("kernel at the start", 0, ":"), "after": ("after kernel", 2, "-")}
APART = 1.12  # marks of neighbours at the same α
OTHER = "after kernel of a net trained on shuffled labels"
DISTANCES = {"after_start": ("after kernel, start kernel", 2, "-"), "net_start": ("net, start kernel", 0, ":"),
             "net_after": ("net, after kernel", 1, "--")}  # fmt: skip


def squares(rows: Any, fit: str) -> dict[float, Number]:
    """Mean square error of a fit over that of the start kernel, paired by seed, by scale."""
    return each(rows, "alpha", lambda some: geometric_mean(some[f"{fit}_square"] / some.start_square))


def draw(rows: "DataFrame") -> "Figure":
    """Mean square errors relative to the start kernel's, and distances of the three fits, against α."""
    kept = at_the_loss(rows)
    mine = true(kept)
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.9)
    with figures.style():
        for place, fit in enumerate(("net", "after")):
            label, number, line = FITS[fit]
            figures.curve(
                left,
                figures.beside_by(squares(mine, fit), place, 3, APART),
                number=number,
                bars=True,
                label=label,
                ls=line,
            )
        other = figures.beside_by(squares(kept[kept.labels == SHUFFLED], "after"), 2, 3, APART)
        figures.curve(
            left, other, number=3, bars=True, ls="none", label="after kernel of a net trained on shuffled labels"
        )
        left.axhline(1.0, color=figures.GREY, ls=":", lw=1.2, label="kernel at the start")
        left.set(
            xscale="log",
            xlabel="output scale α",
            ylabel="mean square error on held-out\nimages over the start kernel's",
        )
        for place, (column, (label, number, line)) in enumerate(DISTANCES.items()):
            found = each(mine, "alpha", lambda some, column=column: geometric_mean(some[column]))
            if column != "net_after":
                label = figures.with_exponent(label, exponent(kept, column))
            found = figures.beside_by(found, place, 3, APART)
            figures.curve(right, found, number=number, bars=True, label=label, ls=line)
        right.set(xscale="log", yscale="log", xlabel="output scale α", ylabel="relative distance")
        left.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.2))
        right.legend(title="exponent from α = 100 on", loc="upper left", bbox_to_anchor=(-0.1, -0.2))
        seeds = rows.seed.nunique()
        text = "Held-out images, all fits at one training loss. Marks at an α stand side by side. "
        text += f"Geometric means of {seeds} seeds; "
        figures.explain(made, text + figures.intervals("bars", seeds) + ".")
    return made
