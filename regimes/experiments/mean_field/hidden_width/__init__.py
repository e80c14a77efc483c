"""How far are deep nets of depth L, hidden width M and embedding D from their limit, before and after training?

The net. X_{l+1} = X_l + (√D/(L M)) Σ_j u_j σ(v_j·X_l/√D), X in R^D, all entries O(1) and Gaussian at the start, output
w·X_L/D; a few steps of gradient descent with the step η L M, at which each neuron moves by O(1). See `runs`.

Fluctuations between nets that differ by their weights alone. The L M neurons are independent at the start and stay so
up to what they see of each other through the states (propagation of chaos). So a sum over all of them fluctuates by
1/√(L M), and it matters in no other way how L M is shared out: M = 1 will do.
* Hidden: each entry of X_L is such a sum with the factor √D, so the entries fluctuate by √(D/(L M)), the bound of
  [Chizat2025] for these nets: exponents −½, −½, +½ in L, M, D.
* Output: w·X_L/D averages D entries whose fluctuations are independent at the start: exponents −½, −½, 0. They stay so
  (derived here). A step adds to X(x) the sum over samples x' of D Ĉ p', with p' = w r'/D and Ĉ = (1/(L M)) Σ_j
  (v-part: σσ' I; u-part: u uᵀ ..); along w that is a mean of L M numbers O(1), without D. So the bound √(D/(L M)) is
  reached by the states and not by this output.
* Second order: the length of X_L grows by |δX|²/D = O(D/(L M)), which shifts fluctuations by as much relative to
  themselves. Shapes with D > L M/2 are left out; a residual scale of σ/(L M) without the √D has no such limit for D.
Each exponent is the coefficient of a regression of the logarithm on log L, log M and log D over all shapes, by seed.

Distance to the limit. The mean over the weights is off by the Euler method's 1/L once training has made the equation
move, and by the second order, D/(L M). In all O(1/L + 1/√(L M)): exponent −1 in L at M = L, and −½ at M = 1, where the
other term adds c²/L in squares relative to the first. A pilot with D = 4 had c² = 15 for the output, mostly from
D/(L M), and at M = L a relative correction of 2/L. So these nets have D = 2, depths begin at 128 and at 16, and slopes
are off by 0.01 and 0.03. (`depth_limit` has this before training; here it is a trained net against the trained limit,
in which all errors of training meet.)

Intervals: ±0.05 as the goal was set, ±0.1 for M = L as in `depth_limit`. The pilot, with seeds from 1000 on, chose
sizes, steps and targets, too, so that the limit can be computed.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.hidden_width.config import BOX, NARROW, SQUARE
from regimes.experiments.mean_field.hidden_width.config import Config as Config
from regimes.experiments.mean_field.hidden_width.config import points as points
from regimes.experiments.mean_field.hidden_width.numbers import AXES, exponents, rates, usual
from regimes.experiments.mean_field.hidden_width.pictures import picture
from regimes.experiments.mean_field.hidden_width.runs import measure as measure
from regimes.lab.numbers import each, geometric_mean, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FLUCTUATIONS = {  # column: in words, exponents of L, M and D
    "hidden_0": ("hidden states before training", (-0.5, -0.5, 0.5)),
    "output_0": ("output before training", (-0.5, -0.5, 0.0)),
    "hidden": ("hidden states after training", (-0.5, -0.5, 0.5)),
    "output": ("output after training", (-0.5, -0.5, 0.0)),
}
DISTANCES = {
    NARROW: ("M = 1", Interval.around(-0.5, 0.05)),
    SQUARE: ("M = L", Interval.around(-1.0, 0.1)),
}
PARTS = {"hidden": "hidden states", "output": "output"}


def _fluctuation(column: str, axis: str) -> str:
    return f"fluctuation of the {FLUCTUATIONS[column][0]}: exponent of {AXES[axis]}"


def _distance(part: str, shapes: str) -> str:
    return f"trained {PARTS[part]} to the limit, {DISTANCES[shapes][0]}: exponent of L"


STATEMENT = Statement(
    title="Deep nets fluctuate as if L·M wide, before and after training",
    claim="Nets of depth L, hidden width M and embedding D with residual scale √D/(LM) fluctuate by √(D/(LM)) in "
    "hidden states and by 1/√(LM) in the output, before and after training, and are O(1/L + 1/√(LM)) off their limit.",
    source="[Chizat2025]; exponents of the output in D derived here",
    predictions=(
        *(
            Prediction(_fluctuation(column, axis), Interval.around(exponent, 0.05), "derived")
            for column, (_, laws) in FLUCTUATIONS.items()
            for axis, exponent in zip(AXES, laws, strict=True)
        ),
        *(
            Prediction(_distance(part, shapes), interval, "published")
            for shapes, (_, interval) in DISTANCES.items()
            for part in PARTS
        ),
    ),
)
GRID = ("shapes", "layers", "width", "inputs", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Exponents of the fluctuations in the box, and of the distances to the limit."""
    box = rows.query("shapes == @BOX")
    found = {_fluctuation(column, axis): one for column in FLUCTUATIONS for axis, one in exponents(box, column).items()}
    found |= {_distance(part, shapes): rates(rows, shapes, part) for shapes in DISTANCES for part in PARTS}
    left = geometric_mean(box.risk / box.risk_0) if len(box) else None
    return judged(STATEMENT, found, {"share of the risk left by training, geometric mean": left})


def table(rows: "DataFrame") -> "DataFrame":
    """For each shape: fluctuations and distances to the limit, geometric means over the seeds."""
    import pandas

    lines = []
    for key, some in rows.groupby(["shapes", *AXES], sort=False):
        shape: Any = key
        line: dict[str, Any] = dict(zip(("shapes", *AXES.values()), shape, strict=True))
        for column, (words, _) in FLUCTUATIONS.items():
            line[words] = usual(some[column])
        for part, words in PARTS.items():
            known = shape[0] != BOX and f"{part}_error" in some
            line[f"trained {words} to the limit"] = usual(some[f"{part}_error"]) if known else ""
        lines.append(line)
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """Fluctuations of all shapes after training on one line each, and distances to the limit against depth."""
    box = rows.query("shapes == @BOX")
    found = {
        name: each(rows[rows.shapes == name], "layers", lambda at: geometric_mean(at.output_error))
        for name in DISTANCES
        if (rows.shapes == name).any()
    }
    return picture(box, {DISTANCES[name][0]: (one, rates(rows, name, "output")) for name, one in found.items()})
