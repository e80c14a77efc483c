"""Where lazy training ends: kernel ridgeless regression with the net's own initial tangent kernel.

Statement. Gradient flow of the square risk to convergence, over-parameterised and lazy: on every input x,
    f_∞(x) → f_0(x) + Θ(x, X) Θ(X, X)⁻¹ (y − f_0(X)),    Θ the tangent kernel at w_0, f_0 = αh(w_0),
at the rate of the outputs in Theorem 2.4, O(1/α). f_0 = 0 where the net is doubled or centred.

Set-up. h(x) = (1/m) Σ_j a_j tanh(b_j·x), both layers trained by particle flow until the residual has shrunk by the
factor `residual`; distance = root mean square over test points of the unit sphere. The protocol is in `runs`. Four
starts:
* `centred` (h − h(w_0), m Gaussian neurons): rate 1/α, attained.
* `doubled` (m/2 neurons and their images (−a, b)): rate 1/α². The mirror symmetry that turns h into −h makes the
  outputs even in 1/α at all times (see lazy_rate), so also at the end.
* `plain` (m Gaussian neurons, m fixed): f_0 = αh(w_0) grows with α, F_α tends to ½‖h‖², the weights move by O(1), and
  the limit differs from the kernel's by O(α): exponent +1. The offset f_0 in the formula does not save it.
* `wide` (Gaussian neurons, m = α², so that αh is the classical net with 1/√m): f_0 is O(1), not 0, and the formula
  needs it. The theorem gives 1/α at most. The term of order 1/α is (1/α)(1/m) Σ_j q_j with q_j odd in a_j: a mean of
  m nearly centred numbers, of size 1/(α√m) = 1/α². So the expected exponent is −2 in α, −1 in m, which implies the
  bound. `wide without f₀` is the same distance for `wide` when the offset is left out of the formula: it does not
  decrease, exponent 0.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from regimes.experiments.lazy.ridgeless_limit.config import Config as Config
from regimes.experiments.lazy.ridgeless_limit.config import points as points
from regimes.experiments.lazy.ridgeless_limit.runs import measure as measure
from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, judged, largest, slope, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

WITHOUT, RANK = "wide without f₀: exponent", "smallest rank of Θ / n"

STATEMENT = Statement(
    title="A lazy net at convergence is kernel regression",
    claim="A lazy net at convergence is kernel ridgeless regression with its own initial tangent kernel, up to O(1/α).",
    source="[ChizatOyallonBach2019] Theorem 2.4 and section 2; exponents derived in the docstring",
    predictions=(
        Prediction("doubled: exponent", Interval.around(-2.0, 0.1), "derived"),
        Prediction("centred: exponent", Interval.around(-1.0, 0.05), "derived"),
        Prediction("plain: exponent", Interval.around(1.0, 0.05), "derived"),
        Prediction("wide: exponent", Interval.around(-2.0, 0.25), "derived"),
        Prediction(WITHOUT, Interval.around(0.0, 0.25), "derived"),
        Prediction(RANK, Interval(1.0, 1.0), "derived"),
    ),
)
GRID = ("start", "width", "alpha", "seed")
BATCHED = ("start", "alpha", "seed")  # of one width: the wide nets of each scale are an ensemble of their own


class Curve(NamedTuple):
    """What is judged and drawn of one start: mean distances by α, and their exponent."""

    distances: dict[float, Number]
    exponent: Number | None


def curves(rows: "DataFrame") -> dict[str, Curve]:
    """Distances on test points by start; exponents in α one a seed, with Student's interval over the seeds."""
    found = {}
    plans = [(start, start, "distance") for start in dict.fromkeys(rows.start)]
    for name, start, column in (*plans, ("wide without f₀", "wide", "without_offset")):
        some: Any = rows[rows.start == start]
        if len(some):
            means = each(some, "alpha", lambda at, column=column: geometric_mean(at[column]))
            found[name] = Curve(means, slope(some.alpha, some[column], some.seed, some.error))
    return found


def judge(rows: "DataFrame") -> Judgement:
    """The exponents against those of the theory; the kernel's rank in every run."""
    measured = {f"{name}: exponent": curve.exponent for name, curve in curves(rows).items()}
    measured[RANK] = smallest(rows["rank"])
    merits = {
        "largest error / distance": largest(rows.error / rows.distance),
        "largest condition of Θ": largest(rows.condition),
    }
    return judged(STATEMENT, measured, merits)


def draw(rows: "DataFrame") -> "Figure":
    """Distance to kernel ridgeless regression against α, on double logarithmic axes, with the exponents."""
    made, ax = figures.figure(height=3.9)
    with figures.style():
        for number, (name, curve) in enumerate(curves(rows).items()):
            label = figures.with_exponent(name, curve.exponent)
            figures.curve(ax, curve.distances, label=label, number=number)
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="scale α (wide nets: α = √width)",
            ylabel="distance to kernel regression\n(root mean square over test points)",
        )
        made.legend(title="start: exponent of α", loc="outside upper center", ncols=2)
        seeds = rows.seed.nunique()
        text = f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}."
        figures.explain(made, f"{text} Without f₀: the start is left out of the regression.")
    return made
