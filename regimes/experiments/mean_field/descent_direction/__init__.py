"""From any measure over parameters and depth whose risk is not 0: is there a direction in which the risk falls?

The adjoint is not 0 while the risk is not (see `adjoint_bound`), and particles (v, c) tell apart any two functions of
the states. So some particle has δE/δρ ≠ 0, and moving mass to the best one lowers the risk: no measure with E > 0 is a
local minimum over measures. For random ρ this is tried with the best of finitely many particles: the risk falls by
λ gap to first order, gap > 0, so E(λ) < E for a small λ, and a step of the line search lowers the risk.

Control: mass moved to one random particle of the same size in every cell lowers the risk, at the same small λ, for
about half of the measures. That of the best particle is not luck.

Descent by such steps must then end at the global minimum, here 0, as such a net fits n random targets. How fast is not
derived; after the steps of the real size less than a tenth of the risk is to be left (chosen).
"""

from typing import TYPE_CHECKING

from regimes.experiments.mean_field.descent_direction.config import Config as Config
from regimes.experiments.mean_field.descent_direction.runs import measure as measure
from regimes.lab import figures
from regimes.lab.numbers import Number, extent, geometric_mean, judged, mean
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FALL = "relative fall of the risk at the first step"
FIRST = "fall of the risk at a share of 1e-4, over share × gap"
LEFT = "share of the risk that is left after the steps"
STATEMENT = Statement(
    title="Over measures, a deep net can descend wherever its risk is not 0",
    claim="From every measure over the parameters and the depth of a ResNet with E > 0, moving mass to the single best "
    "particle of each depth lowers the risk, and such steps lead towards 0.",
    source="[Lu2020]",
    predictions=(
        Prediction(FALL, Interval(1e-6, 1.0), "derived"),
        Prediction(FIRST, Interval.around(1.0, 0.05), "derived"),
        Prediction(LEFT, Interval(0.0, 0.1), "chosen"),
    ),
)
GRID = ("seed",)
BATCHED = ("seed",)


def descent(rows: "DataFrame") -> dict[int, Number]:
    """The share of the risk that is left, by step: geometric means over the measures."""
    steps = sorted(int(name.removeprefix("risk_")) for name in rows.columns if name.startswith("risk_"))
    found = {step: geometric_mean(rows[f"risk_{step}"] / rows.risk) for step in steps}
    return {step: one for step, one in found.items() if one is not None}


def judge(rows: "DataFrame") -> Judgement:
    """The falls of all measures, and what is left at the end."""
    left = descent(rows)
    found = {
        FALL: extent(1 - rows.risk_1 / rows.risk),
        FIRST: extent(rows.first_order),
        LEFT: left[max(left)],
    }
    merits = {
        "measures": float(len(rows)),
        "share of measures whose risk falls by chance": mean(rows.falls_by_chance),
        "gap over risk, geometric mean": geometric_mean(rows.gap / rows.risk),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """The share of the risk that is left after some of the steps."""
    import pandas

    left = descent(rows)
    lines = [
        {"step": step, "share of the risk left": number.value, "95 %": str(number.interval) if number.bounded else ""}
        for step, number in left.items()
        if step in {0, 1, 2, 5, 10, 20, 50, max(left)}
    ]
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """The risk along the descent, for each measure and in the mean."""
    made, ax = figures.figure(height=3.0)
    with figures.style():
        left = descent(rows)
        courses = rows[[f"risk_{step}" for step in left]].to_numpy(dtype=float) / rows[["risk"]].to_numpy(dtype=float)
        ax.plot(list(left), courses.T, color="0.8", linewidth=0.5)
        figures.curve(ax, left, label="geometric mean", marker=None)
        ax.set(yscale="log", xlabel="steps", ylabel="risk / risk at the start")
        ax.legend()
        figures.explain(made, f"Grey: each of {len(rows)} measures; {figures.intervals('band', len(rows))}.")
    return made
