"""The figure of lazy_ode, and the exponents that its legends and the verdict share."""

from typing import TYPE_CHECKING

from regimes.experiments.mean_field.lazy_ode.config import CORRELATED, MIRRORED
from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LOOKS = {CORRELATED: {"number": 0}, MIRRORED: {"number": 1, "linestyle": "--"}}


def exponent(rows: "DataFrame", column: str) -> Number | None:
    """The exponent in α over the scales above 1: one a seed, with Student's interval over the seeds."""
    some = rows.query("alpha > 1")
    return slope(some.alpha, some[column], some.seed) if len(some) else None


def draw(rows: "DataFrame") -> "Figure":
    """Both distances and the change of the kernels against α at the largest depth; exponents are in the legends."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.3)
    deepest = rows[rows.layers == rows.layers.max()]
    panels = {
        "to_ode": "to the lazy ODE",
        "to_tangent": "to the whole net's tangent model",
        "kernel": "blocks' kernels",
    }
    with figures.style():
        for ax, (column, title) in zip(axes, panels.items(), strict=True):
            for law, some in deepest.groupby("law", sort=False):
                values = each(some, "alpha", lambda at, column=column: geometric_mean(at[column]))
                label = figures.with_exponent(str(law), exponent(deepest.query("law == @law"), column))
                figures.curve(ax, values, label=label, **LOOKS[str(law)])
            ax.set(xscale="log", yscale="log", xlabel="scale α", title=title)
            ax.set_ylabel("relative change" if column == "kernel" else "distance of the outputs")
            ax.legend(title="law: exponent of α", loc="upper left", bbox_to_anchor=(-0.05, -0.25))
        axes[1].set_ylim(*(limit * deepest.to_tangent.median() for limit in (0.1, 10)))
        seeds, depth = rows.seed.nunique(), rows.layers.max()
        explained = f"L = {depth}. Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}."
        figures.explain(made, explained)
    return made
