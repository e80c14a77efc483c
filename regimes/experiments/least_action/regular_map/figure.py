"""The figure: stretches of the maps seed by seed, and accuracy under noise."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.contrasts import NAMES, OTHERS
from regimes.experiments.least_action.small_nets.settings import ARMS
from regimes.lab import figures, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Stretches of least action's maps against those of the other arms, seed by seed; accuracy against noise."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.0)
    with figures.style():
        for ax, column, words in zip(axes, ("stretch", "inverse_stretch"), ("T", "T⁻¹"), strict=False):
            ends = []
            for other in OTHERS:
                number, (first, second) = ARMS.index(other), contrasts.pairs(rows, f"equal_{column}", other)
                look: dict[str, Any] = {"color": figures.PALETTE[number], "markersize": 3, "label": NAMES[other]}
                ax.plot(second, first, figures.MARKERS[number], **look)
                ends += [*first, *second]
            if ends:
                ax.plot([min(ends), max(ends)], [min(ends), max(ends)], ":", color=figures.GREY)
            ax.set(xscale="log", yscale="log", xlabel="plain training, or control", title=f"stretch of {words}")
        axes[0].set_ylabel("least action")
        axes[0].legend(loc="upper left")
        curve = {0.0: "equal_accuracy", **contrasts.noisy(rows)}
        for number, arm in enumerate(ARMS):
            found = {size: numbers.mean(100 * contrasts.of_arm(rows, arm, column)) for size, column in curve.items()}
            figures.curve(axes[2], numbers.known(found), number=number, bars=True, label=NAMES[arm])
        axes[2].set(xlabel="noise on the images", ylabel="test accuracy, %", title="accuracy under noise")
        axes[2].legend(loc="lower left")
        seeds = rows.seed.nunique()
        text = f"At equal training risk. Left and middle: a point a seed ({seeds}), geometric means over test points; "
        text += f"below the dotted line least action stretches less. {_over_pairs(rows)}"
        text += f"{figures.intervals('Bars', seeds)}."
        figures.explain(made, text)
    return made


def _over_pairs(rows: "DataFrame") -> str:
    """A sentence on the largest stretch, which the panels do not show; none where no net reached equal risk."""
    told = []
    for column, words in (("pair_stretch", "T"), ("pair_inverse_stretch", "T⁻¹")):
        found = numbers.known({NAMES[other]: contrasts.ratio(rows, f"equal_{column}", other) for other in OTHERS})
        if found:
            told.append(f"{words} {' and '.join(f'{one.value:.2f} ({name})' for name, one in found.items())}")
    return f"Largest stretch over pairs of points, over that of the other arm: {'; '.join(told)}. " if told else ""
