"""How far is a net of m neurons from its limit m → ∞, at all times of its training?

Nets, loss and limit are those of `torus`; the distance is ‖f^m_t − f_t‖ on the inputs. m independent particles start
from the law of the limit. Let a copy of each move in the field of the limit: these stay independent, so their net is
off by the error of a mean, of order m^−1/2 at every time, in any dimension. With Δ the root mean square way from
particle to copy and F the loss of the limit,
    Δ' ≤ C ‖f^m − f‖ + C √F Δ,
the second term because r enters the velocity as a factor of ∇φ. The first is damped, as the loss is convex in f. So
chaos propagates with e^{C ∫√F dt}: at any fixed time Δ and ‖f^m − f‖ are of order m^−1/2, and uniformly in time where
∫√F dt < ∞, that is where F ∝ t^−p with p > 2. By [ChenRotskoff2020] the fluctuations then stay bounded by those of
independent copies, and vanish at last. After the last time T no more can come than √(2F^m) + √(2F), as no
loss rises: with this bound below the largest distance, the supremum over all times is measured. On inputs of the
training the start is the largest; the positions, and an input that is held out, show what accumulates.
Without decay nothing holds: from two atoms, masses ½ and ½, the limit ends in a saddle of the loss; m particles share
the atoms unevenly, by m^−1/2, and leave it after a time of order log m. The exponent of the supremum is 0.

What the rate measures is the sampling of the start: a particle in each of m arcs has errors of order m^−3/2 in smooth
functions, and 1/m in W2. W2 to the copies is Δ at most, −½ in any dimension D. W2 between two seeds, or to the law, is
that of m independent points whose density lies between two positive numbers [Divol2021]: −½ for D = 1; √(log m/m) for
D = 2, whose exponent at m = 130, the middle of 33 ... 513, is −½ + 1/(2 log m) = −0.40; −1/D for D > 2. The equation
for the density on the circle is a second truth, of order 2 in the width of its cells. A pilot with seeds from 1000 on
chose sizes and tolerances, and whether angles are taken modulo 2π (they are not: the largest W2 in 3-d would meet the
size of the torus).
"""

from typing import TYPE_CHECKING

from regimes.experiments.mean_field.propagation_of_chaos.config import (
    ATOMS,
    PLANE,
    ROUGH,
    SMOOTH,
    SPACE,
    STRATIFIED,
)
from regimes.experiments.mean_field.propagation_of_chaos.config import Config as Config
from regimes.experiments.mean_field.propagation_of_chaos.figure import draw as draw
from regimes.experiments.mean_field.propagation_of_chaos.numbers import WORDS, along, exponent, order, spread
from regimes.experiments.mean_field.propagation_of_chaos.runs import measure as measure
from regimes.lab.numbers import Number, cells, judged
from regimes.lab.report import Interval, Judgement, Origin, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

# Problem, column, value of the exponent in m, and where it is from.
EXPONENTS: tuple[tuple[str, str, float, Origin], ...] = (
    (SMOOTH, "distance", -0.5, "published"),
    (SMOOTH, "fresh", -0.5, "derived"),
    (SMOOTH, "displacement", -0.5, "derived"),
    (SMOOTH, "to_equation", -0.5, "published"),
    (STRATIFIED, "distance", -1.5, "derived"),
    (ATOMS, "early", -0.5, "derived"),
    (ATOMS, "distance", 0.0, "derived"),
    (SPACE, "distance", -0.5, "published"),
    (SPACE, "displacement", -0.5, "derived"),
    (SMOOTH, "to_copies", -0.5, "derived"),
    (SPACE, "to_copies", -0.5, "derived"),
    (SMOOTH, "to_others", -0.5, "published"),
    (PLANE, "to_others", -0.4, "derived"),
    (SPACE, "to_others", -1 / 3, "published"),
    (STRATIFIED, "to_law", -1.0, "derived"),
)
DECAYS = {SMOOTH: Interval(2.0, float("inf")), ROUGH: Interval(0.0, 2.0), ATOMS: Interval(-0.1, 0.1)}
AFTER = f"{SMOOTH}: bound on any later distance, over the largest"
ORDER = f"{SMOOTH}: order of the finite volumes in the width of their cells"


def words(problem: str, column: str) -> str:
    """An exponent in m, in words."""
    return f"{problem}: exponent in m, {WORDS[column]}"


def decay_words(problem: str) -> str:
    """The exponent of the loss, in words."""
    return f"{problem}: p of the limit's loss ∝ t^−p"


STATEMENT = Statement(
    title="Nets of m neurons stay m^−1/2 away from their limit",
    claim="m particles from independent starts stay of order m^−1/2 away from their limit, over all times where "
    "the loss decays faster than t^−2; a stratified start is nearer; where the loss does not decay the limit is lost.",
    source="[ChenRotskoff2020], [Divol2021]",
    predictions=(
        *(Prediction(decay_words(problem), interval, "derived") for problem, interval in DECAYS.items()),
        Prediction(AFTER, Interval(0.0, 1.0), "derived"),
        *(
            Prediction(words(problem, column), Interval.around(value, 0.1), origin)
            for problem, column, value, origin in EXPONENTS
        ),
        Prediction(ORDER, Interval.around(2.0, 0.2), "derived"),
    ),
)
GRID = ("problem", "width", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """The exponents in m and in t, the order of the finite volumes, and what is known beyond the last time."""
    found: dict[str, Number | None] = {
        words(problem, column): exponent(rows, problem, column) for problem, column, *_ in EXPONENTS
    }
    found |= {decay_words(problem): spread(rows, problem, "decay") for problem in DECAYS}
    found |= {AFTER: spread(rows, SMOOTH, "after"), ORDER: order(rows, SMOOTH)}
    merits: dict[str, float | Number | None] = {
        f"{words(ROUGH, column)} (no theorem)": exponent(rows, ROUGH, column) for column in ("distance", "displacement")
    }
    for column, text in {"at_start": "at the start", "at_end": "at the last time"}.items():
        merits[f"{SMOOTH}: distance of the outputs {text}, over the largest, median"] = spread(rows, SMOOTH, column)
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each problem and m: the distances, largest over the times, geometric means over the seeds."""
    import pandas

    lines = []
    for problem in dict.fromkeys(rows.problem):
        values = {column: along(rows, problem, column) for column in WORDS}
        for width in sorted({width for found in values.values() for width in found}):
            line = {"problem": problem, "m": width}
            for column, words in WORDS.items():
                line |= cells(words, values[column].get(width))
            lines.append(line)
    return pandas.DataFrame(lines)
