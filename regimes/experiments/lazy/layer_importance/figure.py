"""Means by α, and the figure of layer_importance."""

from typing import TYPE_CHECKING, Any

from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, mean, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LAZY_FROM = 10.0  # scales from which the exponent in α is taken


def at_each(rows: Any, column: str) -> dict[float, Number]:
    """Geometric means over the seeds by α."""
    return each(rows, "alpha", lambda at: geometric_mean(at[column]))


def layers(rows: Any, quantity: str) -> list[str]:
    """The columns of a quantity, layer by layer."""
    return [column for column in rows.columns if column.startswith(f"{quantity}_") and column[-1].isdecimal()]


def exponent(rows: Any) -> Number | None:
    """Exponent of the gap in α, from LAZY_FROM on."""
    lazy = rows[rows.alpha >= LAZY_FROM]
    return slope(lazy.alpha, lazy.gap, lazy.seed)


def draw(rows: "DataFrame") -> "Figure":
    """The gap and the effective number of layers against α, and the loss of accuracy by layer at both ends of α."""
    made, (gap, number, drop) = figures.figure(1, 3, width=figures.DOUBLE, height=3.2)
    with figures.style():
        for place, (name, some) in enumerate(rows.groupby("activation", sort=False)):
            label = figures.with_exponent(str(name), exponent(some))
            figures.curve(gap, at_each(some, "gap"), number=place, label=label)
            figures.curve(number, at_each(some, "effective"), number=place, label=str(name))
            for alpha, line in ((some.alpha.min(), "-"), (some.alpha.max(), "--")):
                at = some[some.alpha == alpha]
                found = {layer: mean(at[column]) for layer, column in enumerate(layers(rows, "drop"), 1)}
                known = {layer: one for layer, one in found.items() if one is not None}
                figures.curve(drop, known, number=place, unit=100.0, label=f"{name}, α = {alpha:g}", linestyle=line)
        gap.set(xscale="log", yscale="log", xlabel="scale α", ylabel=r"$\|\Sigma_l \Delta_l - f\| \,/\, \|f\|$")
        number.set(
            xscale="log", xlabel="scale α", ylabel="effective number of layers", ylim=(1, len(layers(rows, "drop")))
        )
        drop.set(xlabel="layer put back to its start", ylabel="loss of accuracy, points")
        drop.set_xticks(range(1, len(layers(rows, "drop")) + 1))
        for ax, title in ((gap, f"exponent of α ≥ {LAZY_FROM:g}"), (number, None), (drop, None)):
            ax.legend(title=title, loc="upper left", bbox_to_anchor=(-0.05, -0.25))
        seeds = rows.seed.nunique()
        text = f"Means of {seeds} seeds, geometric on the left and in the middle; {figures.intervals('bands', seeds)}. "
        text += "f: how training changed the output; $\\Delta_l$: what of that goes when layer l alone is put back."
        figures.explain(made, text)
    return made
