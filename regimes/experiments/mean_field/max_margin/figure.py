"""Figure of the maximal margins: how they are approached in the plane, and test errors against the dimension."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.max_margin.numbers import BOTH, OUTPUT, errors, in_plane
from regimes.lab import figures
from regimes.lab.intervals import POSITIVE
from regimes.lab.numbers import each, mean, means

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

CURVES = (
    (BOTH, "variation_share", "both layers: variation norm"),
    (OUTPUT, "output_share", "output layer: norm of its kernel"),
    (OUTPUT, "variation_share", "output layer: variation norm"),
)


def draw(rows: "DataFrame") -> "Figure":
    """Left: margins over the largest ones against the mean least y f; right: test error against d."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.1)
    with figures.style():
        for number, (trained, column, label) in enumerate(CURVES):
            looks: Any = in_plane(rows, trained)
            looks = looks[looks.least > 0]
            whole = looks.groupby("level").seed.transform("nunique") == rows.seed.nunique()
            looks = looks[whole]
            places = means(looks.groupby("level").least)
            found = each(looks, "level", lambda some, column=column: mean(some[column], within=POSITIVE))
            figures.curve(left, {float(places[level]): one for level, one in found.items()}, number=number, label=label)
        left.axhline(1.0, color="black", linewidth=0.8)
        left.set(xscale="log", xlabel="least margin min y f", ylabel="normalised margin / the largest", ylim=(0, 1.05))
        left.legend()
        for number, trained in enumerate((BOTH, OUTPUT)):
            found = {d: error for (kind, d), error in errors(rows).items() if kind == trained and d > 2}
            figures.curve(right, found, number=2 * number, bars=True, label=trained)
        right.set(xlabel="dimension d of the inputs", ylabel="test error", ylim=(-0.01, None))
        figures.ticks_at(right.xaxis, sorted({d for _, d in errors(rows) if d > 2}))
        right.legend()
        seeds = rows.seed.nunique()
        text = f"Means of {seeds} sets of samples; {figures.intervals('bands and bars', seeds)}"
        figures.explain(
            made,
            f"{text}. Left: four arcs of the circle; right: y = sign of $x_1x_2$.",
        )
    return made
