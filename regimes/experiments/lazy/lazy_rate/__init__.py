"""Theorem 2.2: on a fixed time interval, how far from w_0 and from its tangent model does a net of scale α travel?

Statement. If h(w_0) = 0, then for every fixed T, as α → ∞, with sup over t in [0, T],
    sup‖w_α − w_0‖ = O(1/α),    sup‖w_α − w̄_α‖ = O(1/α²),    sup‖αh(w_α) − αh̄(w̄_α)‖ = O(1/α).

Set-up. h(x) = (1/m) Σ_j a_j tanh(b_j·x), both layers trained by particle flow, which is the gradient flow of F_α in
the norm ‖w‖² = (1/m) Σ_j ‖(a_j, b_j)‖². Three starts with the same data:
* `centred`: h − h(w_0) is trained, from m Gaussian neurons. The hypothesis holds and nothing is special: the rates of
  the theorem are attained.
* `doubled`: m/2 Gaussian neurons (a, b) and their mirror images (−a, b). The hypothesis holds, and more: the exchange
  S(w) of each neuron with minus the output weight of its image keeps w_0 and turns h into −h. So F_{−α}(w) = F_α(Sw),
  the flow of −α is the mirror image of that of α, and the outputs f = αh(w_α) are even in 1/α. The term of order 1/α
  has to vanish: outputs come within O(1/α²) of the tangent model, better than the theorem promises; weights still
  move by 1/α and leave w̄ by 1/α². Judged is this exponent, which implies that of the theorem.
* `plain`: m Gaussian neurons as they are, h(w_0) ≠ 0, so αh(w_0) grows with α and the hypothesis fails. The theory
  then says: F_α = ½‖h − y/α‖² tends to ½‖h‖², whose flow from w_0 does not know α: it moves by O(1), and leaves the
  tangent flow by O(1), in the weights and in h; in the outputs αh that is O(α). The exponents are 0, 0 and +1:
  without h(w_0) = 0 a large scale is not lazy.
The protocol is in `runs`. Its integration error enters the exponents, and a verdict that rests on less than ten times
that error is not given.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.lazy_rate.config import Config as Config
from regimes.experiments.lazy.lazy_rate.runs import measure as measure
from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, judged, largest, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PARITY = "doubled: outputs, by parity"
QUANTITIES = {  # column: in tables, in figures, in words
    "weights": ("‖w − w₀‖", r"$\|w - w_0\|$", "motion of the weights"),
    "departure": ("‖w − w̄‖", r"$\|w - \bar w\|$", "weights to tangent model"),
    "outputs": ("‖αh(w) − αh̄(w̄)‖", r"$\|\alpha h(w) - \alpha\bar h(\bar w)\|$", "outputs to tangent model"),
}

STATEMENT = Statement(
    title="Scaled nets approach their tangent models like 1/α",
    claim="With h(w_0) = 0 and T fixed: ‖w_α − w_0‖ = O(1/α), ‖w_α − w̄_α‖ = O(1/α²), ‖αh(w_α) − αh̄(w̄_α)‖ = O(1/α).",
    source="[ChizatOyallonBach2019] Theorem 2.2",
    predictions=(
        Prediction("doubled: weights", Interval.around(-1.0, 0.05), "derived"),
        Prediction("doubled: departure", Interval.at_most(-1.9), "derived"),
        Prediction(PARITY, Interval.around(-2.0, 0.1), "derived"),
        Prediction("centred: weights", Interval.around(-1.0, 0.05), "derived"),
        Prediction("centred: departure", Interval.around(-2.0, 0.1), "derived"),
        Prediction("centred: outputs", Interval.around(-1.0, 0.05), "derived"),
        Prediction("plain: weights", Interval.around(0.0, 0.05), "derived"),
        Prediction("plain: departure", Interval.around(0.0, 0.05), "derived"),
        Prediction("plain: outputs", Interval.around(1.0, 0.05), "derived"),
    ),
)
GRID = ("start", "alpha", "seed")
BATCHED = ("start", "alpha", "seed")
LOOKS = {  # doubled and centred nearly coincide: one thick with open marks, the other thin on top of it
    "doubled": {"number": 0, "linewidth": 3.0, "markersize": 8, "fillstyle": "none"},
    "centred": {"number": 1, "linestyle": "--", "markersize": 3},
    "plain": {"number": 2},
}


def exponents(rows: "DataFrame", name: str) -> dict[str, Number]:
    """Exponent in α of one quantity for each start: one a seed, with Student's interval over the seeds."""

    def of(some: Any) -> Number | None:
        return slope(some.alpha, some[name], some.seed, some[f"{name}_error"])

    return each(rows, "start", of, sort=False)


def judge(rows: "DataFrame") -> Judgement:
    """The exponents against those of the theorem."""
    found: dict[str, Number | None] = {
        f"{start}: {name}": one for name in QUANTITIES for start, one in exponents(rows, name).items()
    }
    found[PARITY] = found.pop("doubled: outputs", None)
    worst = {f"largest error / {name}": largest(rows[f"{name}_error"] / rows[name]) for name in QUANTITIES}
    return judged(STATEMENT, found, worst)


def table(rows: "DataFrame") -> "DataFrame":
    """Exponent in α of each quantity for each start, and the initial output."""
    import pandas

    columns = {f"exponent of sup {words}": exponents(rows, name) for name, (words, *_) in QUANTITIES.items()}
    values: dict[str, Any] = {
        name: {start: one.value for start, one in found.items()} for name, found in columns.items()
    }
    largest = rows.groupby("start", sort=False).initial_output.max()
    values["largest ‖αh(w₀)‖"] = largest.where(largest > 1e-9, 0.0)
    return pandas.DataFrame(values).reindex(dict.fromkeys(rows.start)).rename_axis("start").reset_index()


def draw(rows: "DataFrame") -> "Figure":
    """One panel a quantity, against α on double logarithmic axes; the exponents are in the legends."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.3)
    with figures.style():
        for ax, (name, (_, words, title)) in zip(axes, QUANTITIES.items(), strict=True):
            found = exponents(rows, name)
            for start, some in rows.groupby("start", sort=False):
                means = each(some, "alpha", lambda at, name=name: geometric_mean(at[name]))
                label = figures.with_exponent(str(start), found.get(str(start)))
                figures.curve(ax, means, label=label, **LOOKS[str(start)])
            ax.set(xscale="log", yscale="log", xlabel="scale α", ylabel=f"sup {words}", title=title)
            ax.legend(title="start: exponent of α", loc="upper left", bbox_to_anchor=(-0.05, -0.25))
        seeds = rows.seed.nunique()
        figures.explain(made, f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}.")
    return made
