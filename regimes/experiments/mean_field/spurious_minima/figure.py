"""Figure of the spurious minima: how often, and what the first variation says there."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.spurious_minima.numbers import PUBLISHED, shares, spurious
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Left: share of spurious minima against m − k; right: lowest F' against R at all ends."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.2)
    found = shares(rows)
    with figures.style():
        sizes = sorted({k for k, _ in found})
        for number, k in enumerate(sizes):
            apart = 0.06 * (number - (len(sizes) - 1) / 2)
            numbers = {extra + apart: share for (size, extra), share in found.items() if size == k}
            figures.curve(left, numbers, number=number, bars=True, label=f"k = {k}")
            known = {extra: share for (size, extra), share in PUBLISHED.items() if size == k and (k, extra) in found}
            left.plot(
                [extra + apart for extra in known], list(known.values()), linestyle="", marker="_", markersize=14,
                color=figures.PALETTE[number],
            )  # fmt: skip
            ends = spurious(rows[rows.teacher == k])
            look: dict[str, Any] = {"color": figures.PALETTE[number], "marker": figures.MARKERS[number]}
            right.plot(ends.risk / k, -ends.lowest, linestyle="", markersize=3, label=f"k = {k}", **look)
        left.set(xlabel="m − k, neurons more than the teacher", ylabel="share of spurious minima", ylim=(-0.03, 1.03))
        left.set_xticks(sorted({extra for _, extra in found}))
        left.legend()
        if rows.stuck.any():
            places = [float((spurious(rows).risk / spurious(rows).teacher).agg(each)) for each in ("min", "max")]
            right.plot(places, [2 * place for place in places], color="black", linewidth=0.8, label="−min F' = 2R/k")
            right.set(xscale="log", yscale="log")
        right.set(xlabel="R / k at spurious minima", ylabel="−min F' on the unit sphere")
        right.legend()
        text = "Bars: 95 % intervals of the shares; dashes: published. Right: no minimum may lie below the line"
        figures.explain(made, f"{text}, and each lies above 0: a neuron is missing there.")
    return made
