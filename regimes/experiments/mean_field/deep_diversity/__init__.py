"""Gradient flow over deep measures: the support of ρ decides whether it ends at the global minimum.

Local = global. Where the flow θ' = −∇_θ δE/δρ(θ, t) stands still, ∇_u δE/δρ = ε a(v, c) is 0 at each particle, with
a = mean_n σ(v·X_n + c) p_n. If the support at one depth t is full, a(v, c) = 0 for all (v, c); such features tell all
states apart, so p(t) = 0, and then E = 0 (see `adjoint_bound`). If no depth has full support, a stationary ρ may have
E > 0: a is 0 on the support only. δE/δρ elsewhere tells: S = −min of δE/δρ(θ, t) over |u| <= 1, averaged over depth,
which is then the Frank-Wolfe gap, is 0 at a global minimum and positive at all others (`descent_direction`).

Here such a measure is known. The samples are symmetric under x_1 → −x_1 and the readout has no part in x_1. So the
hyperplane u_1 = v_1 = 0 is invariant under the flow, and nets in it give samples that differ in x_1 alone one output:
E >= ½ mean variance of their targets, in closed form. As its support fills the hyperplane, `flat` should come down to
just that bound, where S is 0 inside the hyperplane and not outside. It is computed in the hyperplane: rounding would
leave it. All arms have as many particles:
    full   support in all directions of θ;           thin   the same, but only 10⁻³ deep around the hyperplane;
    flat   in the hyperplane;                        ball   in a ball of radius 10⁻² around one θ(t);
and, from where `flat` and `ball` have ended, a tenth of the mass of one single cell moved to new particles of full
support (`flat, then full`, `ball, then full`), or of the hyperplane as a control (`flat, then flat`).

The thin support is full in the sense of the theorem; it only takes a time that grows like log(1/thickness) to leave.
That of a ball is, too: the theory excludes no slow escape, and says nothing about a given time. How far flows get in
the time they have was seen in a pilot (6 other seeds, this size and a smaller one). Those predictions came after it.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.deep_diversity.config import BALL, BALL_FULL, FLAT, FLAT_FLAT, FLAT_FULL, FULL, THIN
from regimes.experiments.mean_field.deep_diversity.config import Config as Config
from regimes.experiments.mean_field.deep_diversity.figure import draw as draw
from regimes.experiments.mean_field.deep_diversity.numbers import by_arm, column, ends, ratio
from regimes.experiments.mean_field.deep_diversity.runs import measure as measure
from regimes.lab.averages import most
from regimes.lab.numbers import cells, extent, geometric_mean, judged, largest, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

FULL_LEFT = "full: share of the risk of f = 0 that is left"
FLAT_LEAST = "flat, also when flat particles are added: least risk over the closed-form bound"
FLAT_MOST = "flat, also when flat particles are added: largest risk over the closed-form bound"
FLAT_INSIDE = "flat: steepness S inside the hyperplane over S everywhere"
FLAT_STEEP = "steepness S at the end of flat over that at the end of full"
RESCUED = "flat, then full at one depth: risk over that of flat"
BALL_WORSE = "ball: risk over that of full"
BALL_RESCUED = "ball, then full at one depth: risk over that of ball"
STATEMENT = Statement(
    title="A deep measure of full support finds the global minimum",
    claim="The flow of a measure over parameters and depth goes to the global minimum from full support; from support "
    "in a hyperplane it ends at a spurious one, which δE/δρ tells and full support at one single depth undoes.",
    source="[Lu2020]",
    predictions=(
        Prediction(FULL_LEFT, Interval(0.0, 0.02), "after a pilot"),
        Prediction(FLAT_LEAST, Interval.at_least(1 - 1e-9), "derived"),
        Prediction(FLAT_MOST, Interval(1 - 1e-9, 1.05), "after a pilot"),
        Prediction(FLAT_INSIDE, Interval(0.0, 0.05), "after a pilot"),
        Prediction(FLAT_STEEP, Interval.at_least(5.0), "after a pilot"),
        Prediction(RESCUED, Interval(0.0, 0.1), "after a pilot"),
        Prediction(BALL_WORSE, Interval.at_least(2.0), "after a pilot"),
        Prediction(BALL_RESCUED, Interval(0.0, 0.5), "after a pilot"),
    ),
)
GRID = ("arm", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Geometric means of ratios, paired by seed; extremes of all seeds for what holds in every one."""
    flats = ends(rows, FLAT, FLAT_FLAT)
    over = flats.risk / flats.bound
    flat = ends(rows, FLAT)
    found = {
        FULL_LEFT: by_arm(rows, column("risk", "zero")).get(FULL),
        FLAT_LEAST: smallest(over),
        FLAT_MOST: largest(over),
        FLAT_INSIDE: extent(flat.steep_inside / flat.steep),
        FLAT_STEEP: ratio(rows, "steep", FLAT, FULL),
        RESCUED: ratio(rows, "risk", FLAT_FULL, FLAT),
        BALL_WORSE: ratio(rows, "risk", BALL, FULL),
        BALL_RESCUED: ratio(rows, "risk", BALL_FULL, BALL),
    }
    merits = {
        "seeds": float(ends(rows).seed.nunique()),
        "thin: risk over that of full": ratio(rows, "risk", THIN, FULL),
        "bound over the risk of f = 0": geometric_mean(flat.bound / flat.zero),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line an arm: geometric means over the seeds, and the worst seed."""
    import pandas

    columns = {
        "risk / risk of f = 0": column("risk", "zero"),
        "risk / bound of the hyperplane": column("risk", "bound"),
        "steepness S": column("steep"),
    }
    lines = []
    for arm in dict.fromkeys(ends(rows).arm):
        line: dict[str, Any] = {"arm": arm}
        for words, values in columns.items():
            line |= cells(words, by_arm(rows, values).get(arm))
        some = ends(rows, arm)
        lines.append(line | {"worst seed: risk / risk of f = 0": most(some.risk / some.zero)})
    return pandas.DataFrame(lines)
