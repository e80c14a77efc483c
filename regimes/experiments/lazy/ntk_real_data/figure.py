"""Figure of the statement on real images."""

from typing import TYPE_CHECKING

from regimes.experiments.lazy.ntk_real_data import numbers
from regimes.experiments.lazy.ntk_real_data.config import FINITE, INFINITE, NET, TUNED
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

TITLES = {"digits": "digits", "mnist": "MNIST"}
LOOKS = {NET: ("net", 1, "--"), FINITE: ("kernel at its start", 2, "-."), INFINITE: ("infinite kernel", 0, "-"),
         TUNED: ("tuned infinite kernel", 3, ":")}  # fmt: skip


def draw(rows: "DataFrame") -> "Figure":
    """Test error against the number of images for each data set; the distance to the infinite fit against the width."""
    datasets = list(dict.fromkeys(rows.dataset))
    made, axes = figures.figure(1, len(datasets) + 1, width=figures.DOUBLE, height=3.6)
    some = numbers.arms(rows)
    with figures.style():
        for ax, dataset in zip(axes, datasets, strict=False):
            for arm, (label, number, line) in LOOKS.items():
                mine = some[(some.dataset == dataset) & (some.arm == arm)]
                widest = mine[mine.width == mine.width.max()]
                if not len(widest):
                    continue
                label = f"{label}, m = {widest.width.max()}" if arm in (NET, FINITE) else label
                found = figures.beside_by(numbers.errors(widest), number, len(LOOKS), 1.06)
                figures.curve(ax, found, number=number, bars=True, unit=100.0, label=label, linestyle=line)
            values = [
                100 * max(one.value, 1e-3)
                for _, mine in some[some.dataset == dataset].groupby(["arm", "width"])
                for one in numbers.errors(mine).values()
            ]
            if values:
                figures.logarithmic(ax, values)
            ax.set(xscale="log", xlabel="training images n", ylabel="test error, %")
            figures.ticks_at(ax.xaxis, sorted(set(some[some.dataset == dataset].n)))
            ax.set_title(TITLES[dataset])
        last = axes[-1]
        for number, dataset in enumerate(datasets):
            found = numbers.distances(rows, dataset)
            label = figures.with_exponent(TITLES[dataset], numbers.exponent(rows, dataset))
            figures.curve(last, found, number=4 + number, bars=True, label=label)
        last.set(xscale="log", xlabel="width m", ylabel=r"$\|f_m - f_\infty\| \,/\, \|f_\infty\|$")
        drawn = {(d, m): one.value for d in datasets for m, one in numbers.distances(rows, d).items()}
        if drawn:
            widths = sorted({float(width) for _, width in drawn})
            figures.reference_slope(last, widths, 1.2 * max(drawn.values()), -0.5, "slope −1/2")
            figures.logarithmic(last, list(drawn.values()))
            figures.ticks_at(last.xaxis, widths)
        last.set_title("finite to infinite kernel")
        last.legend(title="exponent of m", loc="lower left", fontsize=7, handlelength=1.6)
        figures.legend(made, *axes[:-1], ncols=4, columnspacing=1.2, handlelength=1.6, fontsize=7.5)
        seeds = some.seed.nunique()
        figures.explain(
            made,
            f"Means of {seeds} seeds, fewer at large n; {figures.intervals('bars', seeds)}. Marks stand side by side.",
        )
    return made
