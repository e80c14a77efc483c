"""Does the measured lazy criterion κ = ‖h(w_0) − y‖ ‖D²h(w_0)‖ / ‖Dh(w_0)‖² follow the laws that can be derived?

Known values. A model linear in its weights has D²h = 0, so κ = 0. h_i(w) = b_i·w + ½ wᵀA_i w has D²h = (A_i), of which
the norm max_φ ‖Σ φ_i A_i‖ over unit φ has a closed form if there is one A, if all A_i commute, or if they anticommute
(`laws`). There the estimate has to be right to 1 %, and the bounds have to bracket. Anticommuting matrices are the
control: the bounds are √3 apart there, and only the search from below can come to the truth.

Factor α. κ_{αh} = (1/α) ‖αh(w_0) − y‖ ‖D²h‖/‖Dh‖² = ‖h(w_0) − y/α‖ ‖D²h‖/‖Dh‖². Centred, h(w_0) = 0: exactly 1/α.
Not centred, κ stops at ‖h(w_0)‖ ‖D²h‖/‖Dh‖² from α = ‖y‖/‖h(w_0)‖ on, with relative corrections of ‖y‖/(α ‖h(w_0)‖):
a large factor alone makes no net lazy.
Scale λ of the weights, h homogeneous of degree q: h, Dh, D²h have the degrees q, q − 1, q − 2, so
κ(λw_0) = λ^-q ‖λ^q h(w_0) − y‖ ‖D²h‖/‖Dh‖²: exponent −q if centred, 0 for large λ if not.

Width. h = α(m) Σ_j φ(θ_j) with m independent neurons, E φ = 0, Dφ and D²φ bounded. As m grows
    E ‖h(w_0)‖² = m α² E ‖φ‖²;  ‖Dh‖² = α² ‖Σ_j Dφ_j Dφ_jᵀ‖ ~ m α² by the law of large numbers;
    ‖D²h‖ = α max_j ‖D²φ(θ_j)‖ ~ α, since no second derivative couples two neurons.
    κ ~ √(‖y‖² + m α² E ‖φ‖²) · α/(m α²) = √(E ‖φ‖²/m + ‖y‖²/(mα)²), of the order m^-1/2 + (mα)^-1.
For α = m^-s: exponent −1/2 if s <= 1/2, s − 1 above; the smaller term is a share O(m^-|2s − 1|) of the square of the
other, which moves an exponent by 0.01 or so here. Version 4 of the paper has (mα)^-1/2 in place of (mα)^-1, an
upper bound that is not sharp: it would allow −1/4 and −1/8 for s = 1/2 and 3/4. Neurons with unbounded weights would
add a factor √log m to ‖D²h‖; here a_j = ±1, ‖b_j‖ = 1.

Predictions ±0.05 were set beforehand. A pilot with other seeds (from 1000 on) chose the widths and the number of seeds,
so that intervals become short enough; it changed no prediction.
Activations are smooth, since D²h of a ReLU net misses its kinks.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.criterion_scaling.config import Config as Config
from regimes.experiments.lazy.criterion_scaling.figure import draw as draw
from regimes.experiments.lazy.criterion_scaling.figure import exponents
from regimes.experiments.lazy.criterion_scaling.laws import EXPONENTS, QUADRATIC
from regimes.experiments.lazy.criterion_scaling.runs import measure as measure
from regimes.experiments.lazy.criterion_scaling.runs import points as points
from regimes.lab.numbers import Number, cells, extent, geometric_mean, judged, largest, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

ROUNDING = 1e-9
LINEAR, RIGHT = "linear models: largest κ, upper bound", "quadratic models: estimate over the closed form, all"
LOW, HIGH = (
    "quadratic models: largest lower bound / closed form",
    "quadratic models: smallest upper bound / closed form",
)
LAWS = {law: f"exponent of κ in {law}" for law in EXPONENTS}
STATEMENT = Statement(
    title="The lazy criterion κ is measured rightly and scales as derived",
    claim="The measured κ is 0 for linear models, right to 1 % and within its bounds for quadratic ones; it falls as "
    "1/α, as λ^-q for nets of degree q, and as m^-1/2 + (mα)^-1 with the width m; not centred it stops in α and λ.",
    source="[ChizatOyallonBach2019] for κ and its laws in α, λ and m; closed forms and the sharp width law are ours",
    predictions=(
        Prediction(LINEAR, Interval(0.0, 1e-12), "derived"),
        Prediction(RIGHT, Interval(0.99, 1.01), "derived"),
        Prediction(LOW, Interval(0.0, 1 + ROUNDING), "derived"),
        Prediction(HIGH, Interval.at_least(1 - ROUNDING), "derived"),
        *(Prediction(LAWS[law], Interval.around(value, 0.05), "derived") for law, (value, _) in EXPONENTS.items()),
    ),
)
GRID = ("law", "factor", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Known values and exponents against those derived; exponents of both bounds are merits."""
    linear, quadratic = rows[rows.law == "linear"], rows[rows.law.isin(list(QUADRATIC))]
    found: dict[str, Number | None] = {
        LINEAR: largest(linear.high),
        RIGHT: extent(quadratic.estimate / quadratic.truth),
        LOW: largest(quadratic.low / quadratic.truth),
        HIGH: smallest(quadratic.high / quadratic.truth),
    }
    found |= {LAWS[law]: number for law, number in exponents(rows).items()}
    merits: dict[str, Number | None] = {}
    for law, some in quadratic.groupby("law", sort=False):
        merits[f"upper bound / closed form, {law}, largest"] = largest(some.high / some.truth)
    for column in ("low", "high"):
        merits |= {
            f"exponent of the {column}er bound in {law}".replace("higher", "upper"): number
            for law, number in exponents(rows, column).items()
            if law.startswith("m,")
        }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """κ for each law and factor, its bounds, and the two norms behind it: geometric means over the seeds."""
    import pandas

    def typical(values: Any) -> float | str:
        number = geometric_mean(values) if (values > 0).all() else None
        return "" if number is None else number.value

    lines = [
        {"law": law, "factor": factor}
        | cells("κ", geometric_mean(some.estimate) if (some.estimate > 0).all() else largest(some.estimate))
        | {"lower bound": typical(some.low), "upper bound": typical(some.high)}
        | {"‖Dh‖": typical(some.slope), "‖D²h‖": typical(some.bend)}
        for law in dict.fromkeys(rows.law)
        for factor, some in rows[rows.law == law].groupby("factor", sort=False)
    ]
    return pandas.DataFrame(lines)
