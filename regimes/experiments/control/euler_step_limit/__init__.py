"""Up to which step does a method keep the contraction of gradient nets, and is the limit sharp?

f(z) = −Aᵀσ(Az + b) with 0 ≤ σ' ≤ 1 obeys ⟨Δf, Δz⟩ ≤ −‖Δf‖²/‖A‖², Δ the difference of two states: with s = Az + b,
⟨Δf, Δz⟩ = −⟨Δσ, Δs⟩ ≤ −‖Δσ‖² ≤ −‖AᵀΔσ‖²/‖A‖². For an Euler step this gives
    ‖Δz + hΔf‖² ≤ ‖Δz‖² + h (h − 2/‖A‖²) ‖Δf‖²,
so no pair is carried apart if h ≤ 2/‖A‖². Of a pair with all slopes 1 along the first singular direction the step makes
h‖A‖² − 1 times the distance, which is the most that any pair has beyond the limit: proved, and sharp, where such states
are attained or approached (A square and invertible, all σ here).
Other methods: h ≤ 2r/‖A‖² with r the radius of circle contractivity, proved in `control.stability` for every tableau;
r = ∞ for the algebraically stable ones (implicit Euler, midpoint, Gauss). For r = 0 (Dormand-Prince) it says nothing.
Beyond the real stability interval x of the method, h‖A‖² > x, a pair expands near a state at rest with all slopes 1, as
there is one if σ(0) = 0 and σ'(0) = 1 (tanh, identity). Expansion had first been predicted for all σ, and a run at
what were then the real settings (nets of width 4) refuted that: with other σ the stages after the first leave the
states where the slopes are 1, and no pair was found in many nets. The prediction was then restricted to tanh and the
identity, and the run repeated with nets of width 5. The number of the first prediction is reported beside the others.
Between 2r and x nothing is proved for a net of one layer. What the search finds there is reported and not predicted.
Counter-example: z + hσ(Bz + b) carries pairs apart at every h, as its field has a positive one-sided constant.
"Expands" is a growth above 1 + 1e-6: the search goes down to distances of 1e-4 of the states, and long implicit steps
lose digits. All growths are attained by a pair, so those found below the largest one are no proof of contraction.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.control.euler_step_limit.config import Config as Config
from regimes.experiments.control.euler_step_limit.drawing import draw as draw
from regimes.experiments.control.euler_step_limit.runs import BEYOND, METHODS, OPEN, WITHIN
from regimes.experiments.control.euler_step_limit.runs import measure as measure
from regimes.lab.averages import least, most
from regimes.lab.numbers import Number, count, extent, judged, largest, share, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

EXPANDS = 1e-6
EULER_WITHIN = "Euler, h ≤ 2/‖A‖²: largest growth of a distance found, less 1"
EULER_BEYOND = "Euler, h > 2/‖A‖²: least over nets of the growth found, less 1"
EULER_FACTOR = "Euler, h > 2/‖A‖²: growth found over h‖A‖² − 1"
OTHERS_WITHIN = "other methods, h ≤ 2r/‖A‖²: largest growth found, less 1"
OTHERS_BEYOND = "other methods, beyond the real interval, σ = tanh or s: least growth found, less 1"
FIRST = "other methods, beyond the real interval, all σ: least growth found, less 1 (first predicted ≥ 1e-06)"
COUNTER = "plain residual nets at all these steps: least growth found, less 1"
STATEMENT = Statement(
    title="Euler's step is contractive up to 2/‖A‖², others' up to 2r/‖A‖²",
    claim="A step of a Runge-Kutta method for z' = −Aᵀσ(Az + b) carries no two states apart if h ≤ 2r/‖A‖², r its "
    "radius of circle contractivity; for Euler's method r = 1, and beyond 2/‖A‖² some pair is carried apart.",
    source="[DahlquistJeltsch2006], [Celledoni2021]; the growth beyond the limit is derived here",
    predictions=(
        Prediction(EULER_WITHIN, Interval.at_most(EXPANDS), "derived"),
        Prediction(EULER_BEYOND, Interval.at_least(EXPANDS), "derived"),
        Prediction(EULER_FACTOR, Interval(0.95, 1 + EXPANDS), "derived"),
        Prediction(OTHERS_WITHIN, Interval.at_most(EXPANDS), "published"),
        Prediction(OTHERS_BEYOND, Interval.at_least(EXPANDS), "after a pilot"),
        Prediction(COUNTER, Interval.at_least(EXPANDS), "derived"),
    ),
)
AT_REST = ("tanh", "identity")  # σ(0) = 0 and σ'(0) = 1
GRID = ("method", "activation", "place", "seed")
BATCHED = ("place", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """The largest and least growths of the zones; of the open one what was found."""
    some: Any = rows[rows.half > 0]
    euler, others = some[some.method == "Euler"], some[some.method != "Euler"]
    above: Any = euler[euler.zone == BEYOND]
    beyond: Any = others[others.zone == BEYOND]
    moving: Any = beyond[~beyond.activation.isin(AT_REST)]
    found: dict[str, Number | None] = {
        EULER_WITHIN: largest(euler[euler.zone == WITHIN].growth - 1),
        EULER_BEYOND: smallest(above.growth - 1),
        EULER_FACTOR: extent(above.growth / (2 * above.half - 1)),
        OTHERS_WITHIN: largest(others[others.zone == WITHIN].growth - 1),
        OTHERS_BEYOND: smallest(beyond[beyond.activation.isin(AT_REST)].growth - 1),
        COUNTER: smallest(euler.plain - 1),
    }
    merits: dict[str, Any] = {
        FIRST: smallest(beyond.growth - 1),
        "other methods, beyond the real interval, other σ: share of nets with an expanding pair": share(
            moving.growth > 1 + EXPANDS, moving.growth
        ),
    }
    for method in dict.fromkeys(others[others.zone == OPEN].method):
        between: Any = others[(others.zone == OPEN) & (others.method == method)]
        steps = 2 * between.half.where(between.growth.notna())
        merits[f"{method}, between 2r/‖A‖² and the real interval: largest growth found"] = largest(between.growth)
        merits[f"{method}: shortest expanding step found, h‖A‖²"] = smallest(steps[~(between.growth <= 1 + EXPANDS)])
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Of each method and step: growths over nets and activations, and how many nets have a pair that expands."""
    import pandas

    lines = []
    for method in (name for name in METHODS if name in set(rows.method)):
        own: Any = rows[(rows.method == method) & (rows.half > 0)]
        for (half, zone), some in own.groupby(["half", "zone"]):
            line: dict[str, Any] = {"method": method, "h‖A‖²": 2 * float(half), "zone": zone, "nets": len(some)}
            line |= {"largest growth found": most(some.growth), "least": least(some.growth)}
            lines.append(line | {"nets with an expanding pair": count(some.growth > 1 + EXPANDS, some.growth)})
    return pandas.DataFrame(lines)
