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

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from regimes.experiments.least_action.known_least.exact import RISKS, below, least, line
from regimes.experiments.least_action.known_least.nets import net, train
from regimes.lab import figures, numbers
from regimes.lab.config import Settings
from regimes.lab.intervals import POSITIVE
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

DISTANCE = 1.0
FIRST = {"hinge": (0.5, 0.01), "square": (1.0, 0.05), "logistic": (1.0, 0.05)}  # λ at the start, and its growth
OCTAVE = {risk: f"{risk}: octave ratio of the growth of λ" for risk in RISKS}
COURSE = "λ at the end over that of the exact course, worst risk"
RESIDUAL = "hinge: objective over the least one − 1"
PREDICTED = {"hinge": Interval.at_most(0.7), "square": Interval(1.15, 1.4), "logistic": Interval(1.3, 1.65)}
STATEMENT = Statement(
    title="The multiplier rests for the hinge, not for other risks",
    claim="The multiplier of least action comes to rest for the hinge loss; for the square loss it grows like t^(1/3) "
    "and for cross-entropy like √(t log t), where margins have to be paid by transport.",
    source="[Karkar2020] section 4, method of multipliers; exponents derived here",
    predictions=(
        *(Prediction(OCTAVE[risk], interval, "derived") for risk, interval in PREDICTED.items()),
        Prediction(COURSE, Interval.around(1.0, 0.1), "derived"),
        Prediction(RESIDUAL, Interval.at_most(0.05), "chosen"),
    ),
)
GRID = ("risk", "seed")
BATCHED = ("seed",)


class Config(Settings):
    """Risks, nets and training; configs/multiplier_diverges.yaml is the real size."""

    risk: tuple[Literal["hinge", "square", "logistic"], ...] = Field(
        ("hinge", "square", "logistic"), description="risks by whose value λ grows"
    )
    seeds: int = Field(2, ge=1, description="clouds and initial weights")
    samples: int = Field(16, ge=4, description="points of a cloud")
    blocks: int = Field(3, ge=1, description="residual blocks")
    hidden: int = Field(8, ge=1, description="neurons of each block")
    warm: int = Field(20, ge=0, description="steps of full-batch Adam before λ grows")
    steps: int = Field(64, ge=4, multiple_of=4, description="steps while λ grows: T")
    rate: float = Field(0.01, gt=0, description="learning rate, a cosine to 0 over all steps")


def exact_course(y: Tensor, signs: Tensor, risk: str, looks: list[int]) -> Tensor:
    """λ at the looks if the net were the minimiser at every step, of each run."""
    first, growth = FIRST[risk]
    start = torch.full((len(y),), first, dtype=torch.float64)

    def grown(multiplier: Tensor, _: int) -> Tensor:
        return multiplier + growth * least(y, signs, line, RISKS[risk], multiplier).risk

    course = list(accumulate(range(max(looks)), grown, initial=start))
    return torch.stack([course[look] for look in looks])


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: λ after a quarter, half and all of the steps, that of the exact course, and the last objective."""
    name = points[0]["risk"]
    clouds = [below(config.samples, DISTANCE, point["seed"]) for point in points]
    x, signs = (torch.stack(part) for part in zip(*clouds, strict=True))
    nets = [net(point["seed"], blocks=config.blocks, hidden=config.hidden) for point in points]
    first, growth = FIRST[name]
    looks = [config.steps // 4, config.steps // 2, config.steps]
    how: dict[str, Any] = {"steps": config.warm + config.steps, "warm": config.warm, "rate": config.rate}
    start = torch.full((len(points),), first, dtype=torch.float64)
    found = train(nets, x, signs, RISKS[name], line, start, growth=growth, looks=looks, **how)
    exact, last = exact_course(x[..., 1], signs, name, looks), found.multiplier[-1]
    objective = found.risk + found.transport / last
    columns = {
        **{f"multiplier_{part}": found.multiplier[place] for place, part in enumerate(("quarter", "half", "end"))},
        **{f"exact_{part}": exact[place] for place, part in enumerate(("quarter", "half", "end"))},
        "risk_end": found.risk,
        "excess": objective / least(x[..., 1], signs, line, RISKS[name], last).objective - 1,
    }
    return [{key: float(column[run]) for key, column in columns.items()} for run in range(len(points))]


def octaves(some: Any, what: str = "multiplier") -> Any:
    """(λ(T) − λ(T/2))/(λ(T/2) − λ(T/4)) of each run; 0 where λ rested before."""
    late, early = (some[f"{what}_{a}"] - some[f"{what}_{b}"] for a, b in (("end", "half"), ("half", "quarter")))
    return (late / early).where(early > 0, 0.0)


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
    known = [one for one in off.values() if one is not None]
    found[COURSE] = max(known, key=lambda one: abs(one.value - 1), default=None)
    found[RESIDUAL] = numbers.mean(rows[rows.risk == "hinge"].excess, within=Interval(-1.0, float("inf")))
    return numbers.judged(STATEMENT, found, merits)


def draw(rows: "DataFrame") -> "Figure":
    """λ after a quarter, half and all of the steps, with that of the exact course."""
    made, ax = figures.figure(height=3.3)
    parts = {"quarter": 0.25, "half": 0.5, "end": 1.0}
    with figures.style():
        for number, (risk, some) in enumerate(rows.groupby("risk", sort=False)):
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
