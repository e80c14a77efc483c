"""How fast does a residual net tend to its differential equation as the depth L grows?

Independent weights, M a block: the mean of a block's step is 1/L times the mean field, and its fluctuation has the size
1/(L√M). L independent fluctuations add up to 1/√(L M); the Euler method for the mean adds 1/L:
    distance = O(1/L + 1/√(L M)).
At a fixed M the fluctuation leads and the exponent in L is −½; for M = L both are 1/L and it is −1. Weights that are a
smooth function of depth have no fluctuation: the exponent is −1 at every M, towards the equation of these M particles.
At M = 2 the Euler term is a part 1/√(L/M) of the other at most, and it adds in squares: the slope over L = 16 ... 1024
is off by less than 0.03. Hence ±0.05 and, for the others, ±0.1, as their corrections are of relative size 1/L.
"""

from typing import TYPE_CHECKING

from regimes.experiments.mean_field.depth_limit.config import FIXED, SMOOTH, SQUARE
from regimes.experiments.mean_field.depth_limit.config import Config as Config
from regimes.experiments.mean_field.depth_limit.runs import measure as measure
from regimes.experiments.mean_field.powers import PowerLaws
from regimes.lab.numbers import geometric_mean, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

EXPONENTS = {
    FIXED: ("independent weights, fixed width: exponent in L", Interval.around(-0.5, 0.05)),
    SQUARE: ("independent weights, as wide as deep: exponent in L", Interval.around(-1.0, 0.1)),
    SMOOTH: ("weights smooth in depth, fixed width: exponent in L", Interval.around(-1.0, 0.1)),
}
STATEMENT = Statement(
    title="Deep nets tend to their equation like 1/√(LM), 1/L if smooth",
    claim="The last states of a residual net of L blocks of M neurons with independent weights are O(1/L + 1/√(LM)) "
    "away from the mean equation; with weights smooth in depth they are O(1/L) away from their own.",
    source="[Chizat2025]",
    predictions=tuple(Prediction(words, interval, "published") for words, interval in EXPONENTS.values()),
)
GRID = ("weights", "layers", "seed")
BATCHED = ("seed",)
LAWS = PowerLaws({"distance": "distance"}, ("layers", "L"), ("weights", "weights"), "distance_error")


def judge(rows: "DataFrame") -> Judgement:
    """The exponent for each kind of weights."""
    found = {EXPONENTS[kind][0]: one for kind, one in LAWS.exponents(rows, "distance").items()}
    return judged(STATEMENT, found, {"distance that the states move, geometric mean": geometric_mean(rows.moved)})


def table(rows: "DataFrame") -> "DataFrame":
    """The distance for each kind of weights and depth."""
    return LAWS.table(rows)


def draw(rows: "DataFrame") -> "Figure":
    """Distance against depth for each kind of weights; the exponents are in the legend."""
    return LAWS.draw(rows, "number L of blocks", "distance to the limit", "weights: exponent of L")
