"""Figure: the defect of the area against the step, for random and for trained nets."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.control.halves import SYMPLECTIC
from regimes.experiments.control.hamiltonian_symplectic.config import RANDOM, TRAINED
from regimes.experiments.mean_field.powers import PowerLaws
from regimes.lab import figures
from regimes.lab.report import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

EXACT = Interval(0.0, 1e-12)  # defects of a symplectic method in float64
LAWS = PowerLaws({"area": "defect of the area", "volume": "defect of the volume"}, ("h", "h"), ("method", "method"))


def draw(rows: "DataFrame") -> "Figure":
    """The defect of the area against the step, for random and for trained nets."""
    made, panels = figures.figure(1, 2, width=figures.DOUBLE, height=3.9, sharey=True)
    methods = list(dict.fromkeys(rows.method))
    parts: list[Any] = [rows[rows.nets == nets] for nets in (RANDOM, TRAINED)]
    orders = [LAWS.exponents(some, "area") for some in parts]
    alike = [one for one in methods if one in SYMPLECTIC]
    labels = {one: figures.with_exponents(one, [each.get(one) for each in orders]) for one in methods}
    labels |= {one: one for one in alike}
    with figures.style():
        for ax, nets, some in zip(panels, (RANDOM, TRAINED), parts, strict=True):
            for number, method in enumerate(methods):
                values = LAWS.values(some, "area", method)
                if method in alike:
                    values = figures.beside_by(values, alike.index(method), len(alike), 1.04)
                figures.curve(ax, values, number=number, label=labels[method])
            ax.axhline(EXACT.high, color=figures.GREY, linestyle=":", linewidth=1)
            ax.set(xscale="log", yscale="log", xlabel="step h", title=f"{nets} nets")
            figures.ticks_at(ax.xaxis, sorted(set(rows.h)))
        panels[0].set(ylabel="‖JᵀΩJ − Ω‖ / ‖Ω‖ of a layer")
        figures.legend(made, *panels, title="method: order in h, of random and trained nets", ncols=3)
        seeds = rows.seed.nunique()
        words = f"Geometric means of {seeds} networks, Frobenius norms; {figures.intervals('bands', seeds)}. Dotted: "
        figures.explain(
            made, words + "1e-12. At 1e-16 the marks of symplectic methods at a step are drawn side by side."
        )
    return made
