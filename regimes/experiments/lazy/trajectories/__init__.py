"""Paths of neurons in the plane: a small initialisation sends them to the teacher's directions, a large one does not.

d = 2, 15 training samples uniform on the unit circle; teacher of three ReLU neurons with ‖a_j b_j‖ = 1 and random
signs; student f = Σ_j a_j relu(b_j·x) of 16 neurons, no scaling: b_j uniform on the unit circle, a_j ~ U(0, 1),
doubled ((a, b) and (−a, b), so 8 drawn neurons), all weights times τ = 0.1 (not lazy) or 2 (lazy); 100000 steps of
size 0.005 of full-batch gradient descent on the square risk with ½; weights looked at at 100 times, equally spaced
in log time.

The paper says 20 neurons, its code 16: 16 here (configuration `neurons`). The code as committed multiplies by 0.2,
its comment and the paper give 0.1; 0.1 here. The poster prints the two labels the wrong way round. One published
seed; here `seeds` of them, the same data and the same unscaled initialisation for both τ, and intervals over seeds.
float64.

Predictions, made before the run. Both nets fit the data: risk at the end at most 1% of the risk of f = 0. Mass
balance gives ‖w − w0‖ ≫ ‖w0‖ when τ² is far below the teacher's mass over m: at least twice at τ = 0.1, at most a
quarter at τ = 2. Share of the mass Σ_j |a_j|‖b_j‖ whose neuron lies within 20° of a teacher neuron of its own sign
(chance: about 1/6): at least half at τ = 0.1, at most a third at τ = 2. All are judged on means over seeds, geometric
ones of the risk, which runs that fit exactly pull down: so the runs that do not fit, and those at τ = 0.1 with less
than half of their mass near the teacher, are counted.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.trajectories import numbers
from regimes.experiments.lazy.trajectories.config import LARGE, SMALL
from regimes.experiments.lazy.trajectories.config import Config as Config
from regimes.experiments.lazy.trajectories.figure import draw as draw
from regimes.experiments.lazy.trajectories.runs import measure as measure
from regimes.lab.numbers import cells, judged, worst
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

FIT = "risk at the end over the risk of f = 0, worse of the two τ"
SMALL_MOTION = f"‖w − w0‖/‖w0‖ at τ = {SMALL:g}"
LARGE_MOTION = f"‖w − w0‖/‖w0‖ at τ = {LARGE:g}"
SMALL_SHARE = f"share of mass within 20° of the teacher at τ = {SMALL:g}"
LARGE_SHARE = f"share of mass within 20° of the teacher at τ = {LARGE:g}"

STATEMENT = Statement(
    title="Neurons find the teacher from a small start, not a large one",
    claim="In most runs, neurons with a small initialisation (τ = 0.1) move to the teacher's directions; with a large "
    "one (τ = 2) training is lazy: in most runs, the same data are fitted by neurons that hardly move.",
    source="[ChizatOyallonBach2019] Fig. 1a,b",
    predictions=(
        Prediction(FIT, Interval.at_most(numbers.FITTED), "chosen"),
        Prediction(SMALL_MOTION, Interval.at_least(2.0), "chosen"),
        Prediction(LARGE_MOTION, Interval.at_most(0.25), "chosen"),
        Prediction(SMALL_SHARE, Interval.at_least(0.5), "chosen"),
        Prediction(LARGE_SHARE, Interval.at_most(1 / 3), "chosen"),
    ),
)
GRID = ("tau", "seed")
BATCHED = ("tau", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Intervals over seeds: geometric for the fit and the motion, of means for the shares."""
    fit, motion, share = numbers.fit(rows), numbers.motion(rows), numbers.share(rows)
    fits = [fit[tau] for tau in (SMALL, LARGE) if tau in fit]
    found = {
        SMALL_MOTION: motion.get(SMALL),
        LARGE_MOTION: motion.get(LARGE),
        SMALL_SHARE: share.get(SMALL),
        LARGE_SHARE: share.get(LARGE),
    }
    worse = worst(fits, lambda number: number.interval.high) if len(fits) == 2 else None
    merits: dict[str, Any] = {
        "seeds": float(numbers.ends(rows).seed.nunique()),
        **found,
        "share of mass within 20° of the teacher at the start": numbers.share(rows, "share_start").get(SMALL),
        f"runs at τ = {SMALL:g} that end above {numbers.FITTED:.0%} of the risk of f = 0": numbers.unfitted(
            rows, SMALL
        ),
        f"runs at τ = {LARGE:g} that end above {numbers.FITTED:.0%} of the risk of f = 0": numbers.unfitted(
            rows, LARGE
        ),
        f"runs at τ = {SMALL:g} with less than half of their mass within 20°": numbers.elsewhere(rows, SMALL),
    }
    return judged(STATEMENT, {FIT: worse} | found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """At the end of training: geometric means over seeds of risk and motion, means of the share; 95 % intervals."""
    import pandas

    columns = {
        "risk / risk of f = 0": numbers.fit(rows),
        "‖w − w0‖/‖w0‖": numbers.motion(rows),
        "share of mass within 20°": numbers.share(rows),
    }
    lines: dict[float, dict[str, Any]] = {tau: {"τ": tau} for found in columns.values() for tau in found}
    for name, found in columns.items():
        for tau, line in lines.items():
            line |= cells(name, found.get(tau))
    return pandas.DataFrame(list(lines.values()))
