"""Figure: what comes back to the input against the depth."""

from typing import TYPE_CHECKING

from regimes.experiments.control.no_vanishing_gradients.config import INITIAL
from regimes.lab import figures
from regimes.lab.numbers import each, geometric_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SHOWN = 1e-18  # the least that is drawn


def draw(rows: "DataFrame") -> "Figure":
    """What comes back to the input against the depth, a panel for each kind of weights."""
    kinds = list(dict.fromkeys(rows.weights)) or [INITIAL]
    made, panels = figures.figure(1, len(kinds), width=figures.DOUBLE, height=3.4, sharey=True, squeeze=False)
    with figures.style():
        for ax, weights in zip(panels[0], kinds, strict=True):
            for number, net in enumerate(dict.fromkeys(rows.net)):
                some = rows[(rows.net == net) & (rows.weights == weights)]
                values = each(some, "depth", lambda few: geometric_mean(few.sent.clip(lower=SHOWN)))
                figures.curve(ax, values, number=number, label=net, floor=SHOWN)
            ax.axhline(1.0, color=figures.GREY, linestyle=":", linewidth=1)
            ax.set(xscale="log", yscale="log", xlabel="layers N", title=f"{weights} weights")
            figures.ticks_at(ax.xaxis, sorted(set(rows.depth)))
        panels[0][0].set(ylabel=r"$\|\partial z_N / \partial z_0\|_F$ / √width")
        figures.legend(made, *panels[0], ncols=3)
        seeds = rows.seed.nunique()
        words = f"Geometric means of {seeds} networks; {figures.intervals('bands', seeds)}. "
        figures.explain(made, words + "Norms below 1e-18 count as that.")
    return made
