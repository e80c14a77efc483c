"""Does the multiplier of least action come to rest?

λ grows by the risk, and the net minimises risk + L Σ‖v_k‖²/λ. If the net were always at the minimiser ("exact course":
a recursion for λ alone, with the exact least risk of `known_least`), then λ would obey λ' = growth · R(λ), R(λ) the
risk of the minimiser. What λ does is a question of the risk. Class + starts at height −1 and has to be carried over the
line y = 0; the score is β y, β fixed.

* Hinge: the risk is 0 from a margin of 1 on, with a slope up to there. From a finite λ* on R(λ) = 0: an exact penalty,
  λ* is the multiplier of the constraint "risk = 0" (Karush-Kuhn-Tucker). λ comes to rest.
* Square: the risk is 0 at margin 1, but so is its slope. The residual of the minimiser is O(1/λ), its risk O(1/λ²):
  λ' ∝ λ⁻² and λ ∝ t^(1/3). A constraint whose gradient vanishes where it holds has no multiplier: λ diverges here, too,
  unlike what one may expect of a risk that can be 0.
* Logistic (cross-entropy): the risk is never 0. The margin m of the minimiser has r'(m) ∝ m/λ, so R ∝ log λ/λ and λ
  grows like √(t log t): faster than the log t that follows if margins cost no transport (risk ∝ 1/t).

The octave ratio tells them apart: (λ(T) − λ(T/2))/(λ(T/2) − λ(T/4)) is 2^a for λ ∝ t^a, 1 for λ ∝ log t, and goes to 0
where λ comes to rest.

Predictions, made before any run of a net: octave ratio at most 0.7 (hinge: well below the 1 of a logarithm), in [1.15,
1.4] (square: 2^(1/3) = 1.26), in [1.3, 1.65] (logistic: √2 = 1.41, and its logarithm); λ at the end over that of the
exact course in [0.9, 1.1] for the worst of the three; with the hinge the objective at the end within 5 % of the least
one, the residual of its optimality conditions. λ starts at 1 and grows by 0.05 of the risk a step; for the hinge at
0.5, below λ*, and by 0.01, so that the net can follow. The net is trained at the first λ before.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.known_least.courses import Config as Config
from regimes.experiments.least_action.known_least.courses import measure as measure
from regimes.experiments.least_action.known_least.exact import RISKS
from regimes.lab import figures, numbers
from regimes.lab.intervals import POSITIVE
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

OCTAVE = {risk: f"{risk}: octave ratio of the growth of λ" for risk in RISKS}
COURSE = "λ at the end over that of the exact course, worst risk"
RESIDUAL = "hinge: objective over the least one − 1"
PREDICTED = {"hinge": Interval.at_most(0.7), "square": Interval(1.15, 1.4), "logistic": Interval(1.3, 1.65)}
STATEMENT = Statement(
    title="λ rests for the hinge loss alone, and keeps to its exact course",
    claim="The multiplier of least action comes to rest for the hinge loss; for the square loss it grows like t^(1/3) "
    "and for cross-entropy like √(t log t), where margins have to be paid by transport. For each of them it ends "
    "within 10 % of where it ends if the net is at the minimiser at every step.",
    source="[Karkar2020] section 4, method of multipliers; exponents derived here",
    predictions=(
        *(Prediction(OCTAVE[risk], interval, "derived") for risk, interval in PREDICTED.items()),
        Prediction(COURSE, Interval.around(1.0, 0.1), "derived"),
        Prediction(RESIDUAL, Interval.at_most(0.05), "chosen"),
    ),
)
GRID = ("risk", "seed")
BATCHED = ("seed",)


def octaves(some: Any, what: str = "multiplier") -> Any:
    """(λ(T) − λ(T/2))/(λ(T/2) − λ(T/4)) of each run; 0 where λ rested in both, NaN where λ is unknown or fell."""
    late, early = (some[f"{what}_{a}"] - some[f"{what}_{b}"] for a, b in (("end", "half"), ("half", "quarter")))
    return (late / early).mask((late == 0) & (early == 0), 0.0).mask((late < 0) | (early < 0))


def judge(rows: "DataFrame") -> Judgement:
    """Means over the seeds."""
    found: dict[str, numbers.Number | None] = {}
    merits: dict[str, float | numbers.Number | None] = {"seeds": float(rows.seed.nunique())}
    off = {}
    for risk in RISKS:
        some = rows[rows.risk == risk]
        found[OCTAVE[risk]] = numbers.mean(octaves(some), within=POSITIVE)
        off[risk] = numbers.geometric_mean(some.multiplier_end / some.exact_end)
        merits[f"{risk}: octave ratio of the exact course"] = numbers.mean(octaves(some, "exact"))
        merits[f"{risk}: λ at the end over that of the exact course"] = off[risk]
        merits[f"{risk}: λ at the end"] = numbers.geometric_mean(some.multiplier_end)
    found[COURSE] = numbers.worst(off.values(), lambda one: max(one.interval.high - 1, 1 - one.interval.low))
    found[RESIDUAL] = numbers.mean(rows[rows.risk == "hinge"].excess, within=Interval(-1.0, float("inf")))
    if any(one is None for one in off.values()):
        found[COURSE] = None  # a risk that was not run may be the worst
    return numbers.judged(STATEMENT, found, merits)


def draw(rows: "DataFrame") -> "Figure":
    """λ after a quarter, half and all of the steps, with that of the exact course."""
    made, ax = figures.figure(height=3.3)
    parts = {"quarter": 0.25, "half": 0.5, "end": 1.0}
    groups: Any = rows.groupby("risk", sort=False)
    with figures.style():
        for number, (risk, some) in enumerate(groups):
            found = {at: numbers.geometric_mean(some[f"multiplier_{part}"]) for part, at in parts.items()}
            figures.curve(ax, numbers.known(found), number=number, bars=True, label=str(risk), linestyle="none")
            exact = [float(some[f"exact_{part}"].mean()) for part in parts]
            ax.plot(list(parts.values()), exact, ":", color=figures.PALETTE[number], linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="share of the steps", ylabel="multiplier λ")
        ax.set_xticks(list(parts.values()), ["1/4", "1/2", "1"])
        ax.minorticks_off()
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        seeds = rows.seed.nunique()
        text = (
            f"Marks: geometric means of {seeds} seeds; {figures.intervals('bars', seeds)}. Dotted: if the net were the"
        )
        figures.explain(made, f"{text} minimiser at every step.")
    return made
