"""Does the support of the first measure decide whether the flow ends in a global minimum?

The theorems speak of m → ∞ neurons. Lifts that are 2-homogeneous, as ReLU with u = (a, b): the support of the first
measure has to separate a small sphere of all u from a large one, as a sphere around 0 does (Theorem 3.3). Lifts that
are 1-homogeneous in the output weight a alone, as erf: the support has to separate a = −r from a = r over all b, as
{0} × R^d does (Theorem 3.5). If the flow then converges, its limit is a global minimum over all measures.

Here y is a teacher of five neurons, three of output weight 1 and two of −1. ReLU has the penalty λ ∫ |u|²/2 dμ, in two
and in ten dimensions, so that the least F is not known beforehand; erf has none, in the plane. Inputs are N(0, I), the
risk and F' are in closed form. The same m neurons begin with the full support (`everywhere`), or with one that lacks
something: b in a half space, b within 15 degrees of one direction (cap), only positive a (one sign), copies of four
neurons (few points); and as a sixth, as few neurons as the teacher has, drawn everywhere.

Whether a limit is global is told by the certificate: F' at its lowest point and the bound of the mass of a minimiser
give, by convexity, a number that no measure is below. In the plane that is a proof; in ten dimensions the lowest point
is the best that a search finds. A limit within 0.001 of the risk of f = 0 of that number is called global. At any other
the lowest point shows which neuron is missing: one of mass −F'/E σ² lowers F by F'²/(2 E σ²), exactly, as F is
quadratic.

Derived: a sign never changes (a² − |b|² is conserved up to a factor), so from one sign no limit is global, as the
teacher needs both; but it is global among the measures of its own sign, whose support is full. Copies of four neurons
stay four neurons: then too few are left. That separation is needed is not claimed: half of the directions suffice
too, as neurons turn. These and the shares of the other starts were seen in trial runs of other seeds. Teachers and
starts in two and in ten dimensions are drawn independently; those of ReLU and erf in the plane are not, and count once.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.diversity.config import Config as Config
from regimes.experiments.mean_field.diversity.figure import draw as draw
from regimes.experiments.mean_field.diversity.numbers import (
    ends,
    falls,
    in_its_sign,
    merits,
    over,
    share,
    shares,
    slack,
)
from regimes.experiments.mean_field.diversity.runs import measure as measure
from regimes.lab.averages import middle
from regimes.lab.numbers import Number, among, cells, extent, judged, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

FULL = {name: f"{name}, full support: share of limits proved global" for name in ("relu 2-d", "erf 2-d")}
FULL["relu 10-d"] = "relu 10-d, full support: share of limits found global by a search"
HALF = "ReLU, half of the directions: share of limits found global"
CAP = "relu 2-d, a cap of directions: share of limits proved global"
SIGN = "ReLU, one sign: share of limits found global"
OWN = "ReLU, one sign: share of limits found global among measures of that sign"
POINTS = "copies of four neurons: share of limits found global"
HOLDS = "smallest F less the largest lower bound for the same teacher, over F of f = 0, in the plane"
FALL = "fall of F by the missing neuron at limits that are not global, over F'²/(2 E σ²)"
STATEMENT = Statement(
    title="Flows from a full support end in the global minimum",
    claim="Of particle flows of two-layer nets whose first measure has the full support, a share of 0.7 or more ends "
    "in a global minimum over measures; with as many neurons on a support that lacks a sign, directions or diversity "
    "many or all do not. The first variation tells which, by a proof in the plane and by a search in ten dimensions, "
    "and shows the neuron that is missing.",
    source="[ChizatBach2018] Theorems 3.3 and 3.5",
    predictions=(
        Prediction(FULL["relu 2-d"], Interval(0.85, 1.0), "after a pilot"),
        Prediction(FULL["relu 10-d"], Interval(0.7, 1.0), "after a pilot"),
        Prediction(FULL["erf 2-d"], Interval(0.7, 1.0), "after a pilot"),
        Prediction(HALF, Interval(0.7, 1.0), "after a pilot"),
        Prediction(CAP, Interval(0.0, 0.8), "after a pilot"),
        Prediction(SIGN, Interval(0.0, 0.1), "derived"),
        Prediction(OWN, Interval(0.8, 1.0), "after a pilot"),
        Prediction(POINTS, Interval(0.0, 0.1), "after a pilot"),
        Prediction(HOLDS, Interval.at_least(-1e-9), "derived"),
        Prediction(FALL, Interval.around(1.0, 1e-4), "derived"),
    ),
)
GRID = ("problem", "start", "seed")
BATCHED = ("seed",)


def points(config: Config) -> list[dict[str, Any]]:
    """All problems and starts, but for erf: it is odd, so half of the directions, or one sign, lack nothing."""
    return [
        {"problem": problem, "start": start, "seed": seed}
        for problem in config.problem
        for start in config.start
        if not (problem.startswith("erf") and start in ("half", "one sign"))
        for seed in range(config.seeds)
    ]


def judge(rows: "DataFrame") -> Judgement:
    """Shares of global limits by start, and whether bounds and falls are what convexity says."""
    last, found = ends(rows), shares(rows)
    relu = last[last.problem.str.startswith("relu")]
    numbers: dict[str, Number | None] = {FULL[name]: found.get((name, "everywhere")) for name in FULL}
    numbers |= {
        HALF: share(relu[relu.start == "half"]),
        CAP: found.get(("relu 2-d", "cap")),
        SIGN: share(relu[relu.start == "one sign"]),
        OWN: in_its_sign(rows),
        POINTS: share(last[last.start == "few points"]),
        HOLDS: smallest(slack(rows)),
        FALL: extent(falls(rows)),
    }
    return judged(STATEMENT, numbers, merits(last))


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each problem and start: how many limits are global, how far from it the others are."""
    import pandas

    last, found, spurious = ends(rows), shares(rows), shares(rows, "spurious")
    lines = []
    for (problem, start), number in found.items():
        some = last[(last.problem == problem) & (last.start == start)]
        line: dict[str, Any] = {"problem": problem, "start": start, "runs": len(some)}
        line |= cells("found global", number) | cells("known not to be", spurious.get((problem, start)))
        line["median of (F − least known F) / F(f = 0)"] = middle((some.value - some.best) / some["first"])
        line["median of lowest F' / F(f = 0)"] = middle(some.lowest / some["first"])
        missing = among(some.near, some.spurious, over(some, "spurious"))
        line["median angle of the missing neuron to the teacher's, degrees"] = middle(missing) if len(missing) else ""
        lines.append(line)
    return pandas.DataFrame(lines)
