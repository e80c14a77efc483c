"""Figure of the alignment statement."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.scaled_numbers import at_the_loss, exponent, true
from regimes.experiments.lazy.scaled_settings import SHUFFLED
from regimes.lab import figures
from regimes.lab.averages import average
from regimes.lab.intervals import CORRELATION
from regimes.lab.numbers import Number, each, geometric_mean, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def alignments(rows: Any, column: str) -> dict[float, Number]:
    """Means of a column by scale."""
    return each(rows, "alpha", lambda some: mean(some[column], within=CORRELATION))


def draw(rows: "DataFrame") -> "Figure":
    """Alignment after training against α, beside that before; the drift of the kernel against α."""
    kept = at_the_loss(rows)
    mine = true(kept)
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.9)
    with figures.style():
        for number, (part, words) in enumerate((("held", "held-out"), ("train", "training"))):
            after = figures.beside_by(alignments(mine, f"{part}_after"), number, 3, 1.1)
            figures.curve(left, after, number=number, bars=True, label=f"after, {words} images")
            before = average(mine[f"{part}_before"])
            left.axhline(before, color=figures.PALETTE[number], ls=":", lw=1.2, label=f"before, {words} images")
        other = figures.beside_by(alignments(kept[kept.labels == SHUFFLED], "held_after"), 2, 3, 1.1)
        figures.curve(left, other, number=3, bars=True, ls="none", label="after, trained on shuffled labels, held-out")
        left.set(xscale="log", xlabel="output scale α", ylabel="alignment with the labels", ylim=(0, None))
        drifts = each(mine, "alpha", lambda some: geometric_mean(some.drift))
        label = figures.with_exponent("exponent from α = 100 on", exponent(kept, "drift"))
        figures.curve(right, drifts, number=2, bars=True, label=label)
        if drifts:
            last = max(drifts)
            line = [alpha for alpha in sorted(drifts) if alpha >= last / 30]
            figures.reference_slope(right, line, 1.5 * drifts[line[0]].value, -1.0, "slope −1")
        right.set(xscale="log", yscale="log", xlabel="output scale α")
        right.set_ylabel(r"drift $\|\Theta_T - \Theta_0\| \,/\, \|\Theta_0\|$")
        for ax in (left, right):
            ax.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.2))
        seeds = rows.seed.nunique()
        text = f"Means of {seeds} seeds; {figures.intervals('bars', seeds)}. All nets at the same training loss."
        figures.explain(made, text)
    return made
