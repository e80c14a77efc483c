"""How far does the tangent kernel of a two-layer net move in a fixed flow time, as the width m grows?

Set-up. α (h − h(w_0)) with h = (1/m) Σ_j a_j σ(b_j·x), σ = softplus, both layers trained by particle flow up to time T.
Quantity: the relative drift ‖Θ_T − Θ_0‖/‖Θ_0‖ on the training points, Frobenius norm; its exponent in m.

Derivation. Θ = (1/m) Σ_j φ_j φ_jᵀ, where φ_j = (σ(b_j·x), a_j σ'(b_j·x) x). A neuron moves by α^-1 times φ_j applied to
the residuals, which is O(1) in v = α(w − w_0). To first order the kernel changes by
    (1/m) Σ_j (1/α) D(φ_j φ_jᵀ) v_j, a sum whose terms are odd in a_j,
and to second order by (1/m) Σ_j O(1/α²).
* `ntk`, α = √m, a_j ~ N(0, 1): the odd terms have mean 0, so their sum is O(√m), and both orders are O(1/m).
* `ntk, one sign`, α = √m, a_j = |N(0, 1)|: the odd terms have a mean, so the first order is O(1/√m), which is what the
  general bounds for the NTK scaling allow. This needs a σ that is not odd, here softplus: if σ is odd, the sign of a_j
  can be moved into b_j, whose law is symmetric, and this net is the one above.
* `mean-field`, α = 1: O(1), however wide the net.
The limits are approached with relative corrections of order 1/√m or 1/m, hence intervals of ±0.1 and ±0.05.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.kernel_drift.config import MEAN_FIELD, ONE_SIGN, SYMMETRIC
from regimes.experiments.lazy.kernel_drift.config import Config as Config
from regimes.experiments.lazy.kernel_drift.runs import measure as measure
from regimes.lab import figures
from regimes.lab.numbers import Number, cells, each, geometric_mean, judged, largest, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

EXPONENTS = {
    SYMMETRIC: ("1/√m, output weights of both signs: exponent of the drift in m", Interval.around(-1.0, 0.1)),
    ONE_SIGN: ("1/√m, output weights of one sign: exponent of the drift in m", Interval.around(-0.5, 0.05)),
    MEAN_FIELD: ("1/m: exponent of the drift in m", Interval.around(0.0, 0.05)),
}
STATEMENT = Statement(
    title="Wide nets keep their tangent kernel under 1/√m, not under 1/m",
    claim="In a fixed flow time the kernel of a two-layer net moves, relative to itself, by O(1/m) under the 1/√m "
    "scaling, by O(1/√m) if moreover all output weights have one sign, and by O(1) under the 1/m scaling.",
    source="[JacotGabrielHongler2018] and [ChizatOyallonBach2019] for the scalings; exponents derived here",
    predictions=tuple(Prediction(words, interval, "derived") for words, interval in EXPONENTS.values()),
)
GRID = ("width", "scaling", "seed")
BATCHED = ("scaling", "seed")
LOOKS = {
    SYMMETRIC: {"number": 0, "label": r"$1/\sqrt{m}$, both signs"},
    ONE_SIGN: {"number": 2, "label": r"$1/\sqrt{m}$, one sign", "linestyle": "-."},
    MEAN_FIELD: {"number": 1, "label": "$1/m$", "linestyle": "--"},
}


def exponents(rows: "DataFrame") -> dict[str, Number]:
    """Exponent of the drift in m for each scaling: one a seed, with Student's interval over the seeds."""

    def of(some: Any) -> Number | None:
        return slope(some.width, some.drift, some.seed, some.drift_error)

    return each(rows, "scaling", of, sort=False)


def judge(rows: "DataFrame") -> Judgement:
    """The exponents against those derived."""
    found = {EXPONENTS[scaling][0]: one for scaling, one in exponents(rows).items()}
    merits = {
        "largest error / drift": largest(rows.drift_error / rows.drift),
        "share of the risk left, geometric mean": geometric_mean(rows.risk / rows.risk_before),
    }
    return judged(STATEMENT, found, merits)


def drifts(rows: "DataFrame", scaling: str) -> dict[int, Number]:
    """The drift by width: geometric means over the seeds."""
    return each(rows[rows.scaling == scaling], "width", lambda at: geometric_mean(at.drift))


def table(rows: "DataFrame") -> "DataFrame":
    """The drift for each width and scaling."""
    import pandas

    lines = [
        {"m": width, "scaling": scaling} | cells("‖Θ_T − Θ_0‖/‖Θ_0‖", number)
        for scaling in dict.fromkeys(rows.scaling)
        for width, number in drifts(rows, scaling).items()
    ]
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """Drift against width on double logarithmic axes; the exponents are in the legend."""
    made, ax = figures.figure(height=3.2)
    with figures.style():
        found = exponents(rows)
        for scaling in dict.fromkeys(rows.scaling):
            look = dict(LOOKS[scaling])
            label = figures.with_exponent(str(look.pop("label")), found.get(scaling))
            figures.curve(ax, drifts(rows, scaling), label=label, **look)
        ax.set(xscale="log", yscale="log", xlabel="width m", ylabel=r"$\|\Theta_T - \Theta_0\| \,/\, \|\Theta_0\|$")
        ax.legend(title="scaling: exponent of m", loc="upper left", bbox_to_anchor=(0.0, -0.2))
        seeds = rows.seed.nunique()
        figures.explain(made, f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}.")
    return made
