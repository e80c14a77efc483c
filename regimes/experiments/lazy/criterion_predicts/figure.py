"""The figure: distances against predictors."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.criterion_predicts.ranks import nets
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PREDICTORS = {
    "kappa": "κ",
    "inverse_alpha": "1/α",
    "motion": "weight motion of the tangent model",
    "bound": "K² κ",
    "second_order": "½ ‖D²h‖ ‖v‖²/α",
}


def draw(rows: "DataFrame") -> "Figure":
    """Distance against κ, against the weight motion, and against the second-order term; one colour an α."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.2, sharey=True)
    found = nets(rows)
    with figures.style():
        for ax, name in zip(axes, ("kappa", "motion", "second_order"), strict=True):
            for place, alpha in enumerate(found.alpha):
                some = found.rows[found.rows.alpha == alpha]
                look: dict[str, Any] = {"color": figures.PALETTE[place], "marker": figures.MARKERS[place]}
                ax.plot(some[name], some.distance, ls="", ms=3.5, label=f"α = {alpha:g}", **look)
            ax.set(xscale="log", yscale="log", xlabel=PREDICTORS[name].replace(" of the", "\nof the"))
            if found.count:
                parts = [getattr(found, of)(name)[0] for of in ("over_all", "within")]
                ax.set_title("ρ = {}, within an α {}".format(*map(figures.signed, parts)), fontsize=8)
        axes[0].set_ylabel("distance from the tangent model")
        if found.count:
            made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(found.alpha))
        figures.explain(made, f"One mark a model: {found.count} nets, each at every α. ρ: Spearman's rank correlation.")
    return made
