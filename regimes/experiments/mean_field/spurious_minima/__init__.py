"""How often does gradient descent end in a spurious local minimum, and do a few more neurons end that?

Teacher Σ_i relu(e_i·x) with k = d orthonormal neurons, x ~ N(0, I_d), student Σ_j relu(w_j·x) with m neurons, output
weights 1 in both and not trained; R = ½ E(f − y)² and its gradient in closed form. As published: w_j ~ N(0, I/d),
gradient descent with step 0.1 until 2π‖∂R/∂w_j‖ ≤ 1e-9 for every neuron, spurious if R > 1e-3 there. Where R has come
below 1e-5 the run ends earlier, at a global minimum. Runs that have not ended count both ways. The published shares are
of 1000 starts; ours are to lie within 0.1 of them, which is wider than both binomial intervals together.

That an end is a local minimum: the smallest eigenvalue of its Hessian is positive, for the first ends of each size.
It is not a minimum over measures, and the first variation h(θ) = E(f − y) relu(θ·x) says so. At a point where the
gradient is 0, E(f − y)f = Σ_j h(w_j) = 0, as relu is 1-homogeneous. So Σ_i h(e_i) = E(f − y)y = −E(f − y)² = −2R, and
    k min h / R ≤ −2.
A neuron r θ with |θ| = 1 changes R by r h(θ) + r²/4 exactly, so one at the lowest point lowers R by (min h)².
At an end with R ≈ 0 there is no such point: h(θ) ≥ −√(2R) (E relu²)^½ = −√R by Cauchy and Schwarz.

Then descent goes on with the neuron that was added, and once more where it ends in a minimum that is spurious again:
four such neurons should lead nearly all runs to R ≈ 0. (Trial runs at k = 10 and 19, of other seeds, needed one or more
than one.) The control is one neuron at a random point where R falls too: it says whether the place matters, or only
that there is one neuron more. Starts of different sizes are drawn independently, those of one seed as well, and count
as so many trials.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.spurious_minima.config import GLOBAL
from regimes.experiments.mean_field.spurious_minima.config import Config as Config
from regimes.experiments.mean_field.spurious_minima.figure import draw as draw
from regimes.experiments.mean_field.spurious_minima.numbers import (
    PUBLISHED,
    cured,
    cured_at_last,
    share,
    shares,
    spurious,
    unended,
)
from regimes.experiments.mean_field.spurious_minima.runs import measure as measure
from regimes.lab.averages import average
from regimes.lab.numbers import Number, cells, count, extent, judged, largest, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

NONE = "share of spurious minima with m = k + 2, all k"
CURVED = "smallest eigenvalue of the Hessian at spurious minima"
LOWEST = "−k min F'/R at spurious minima"
FALL = "fall of R by one neuron at the lowest point of F', over (min F')²"
CURED = "share of spurious minima from which at most four neurons there lead to R ≈ 0"


def share_of(k: int, extra: int) -> str:
    """The quantity of one published share."""
    return f"share of spurious minima, k = {k}, m = k{f' + {extra}' if extra else ''}"


STATEMENT = Statement(
    title="Two neurons more than the teacher end the spurious minima",
    claim="Gradient descent for two-layer ReLU nets as wide as their orthogonal teacher ends in spurious local minima "
    "ever more often the wider both are, mostly so from 15 neurons on; the share falls to 0 with one and two neurons "
    "more. None of them is a minimum over measures: the first variation shows where a neuron is missing.",
    source="[SafranShamir2018]",
    predictions=(
        *(Prediction(share_of(*key), Interval.around(known, 0.1), "published") for key, known in PUBLISHED.items()),
        Prediction(NONE, Interval(0.0, 0.02), "published"),
        Prediction(CURVED, Interval.at_least(0.0), "derived"),
        Prediction(LOWEST, Interval.at_least(2.0), "derived"),
        Prediction(FALL, Interval.around(1.0, 1e-6), "derived"),
        Prediction(CURED, Interval(0.9, 1.0), "after a pilot"),
    ),
)
GRID = ("teacher", "extra", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """The shares against the published ones, and what the first variation says at the ends."""
    found = shares(rows)
    ends, widest = spurious(rows), rows[rows.extra == 2]
    proved = ends.curvature.dropna()
    judgements: dict[str, Number | None] = {share_of(*key): found.get(key) for key in PUBLISHED}
    judgements |= {
        NONE: share(widest),
        CURVED: smallest(proved),
        LOWEST: extent(-ends.teacher * ends.lowest / ends.risk),
        FALL: extent((ends.fall / ends.lowest**2).dropna()),
        CURED: cured_at_last(rows),
    }
    rest: Any = rows[~(rows.risk > GLOBAL)]  # also where that is not known
    merits = {
        "starts": float(len(rows)),
        "runs that had not ended": count(unended(rows), rows.risk),
        "minima whose Hessian was computed": float(len(proved)),
        "share from which one neuron at the lowest point leads to R ≈ 0": cured(rows, "after_worst"),
        "share from which one at a random point does": cured(rows, "after_random"),
        "global minima: largest R": largest(rest.risk),
        "global minima: largest −min F'/√R": largest(-rest.lowest / rest.risk.clip(lower=1e-16) ** 0.5),
    }
    return judged(STATEMENT, judgements, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each k and m: the share of spurious minima beside the published one, and what was there."""
    import pandas

    lines = []
    for (k, extra), number in shares(rows).items():
        some = rows[(rows.teacher == k) & (rows.extra == extra)]
        line: dict[str, Any] = {
            "k": k,
            "m": k + extra,
            "starts": len(some),
            "not ended": count(unended(some), some.risk),
        }
        line |= cells("spurious", number)
        published = PUBLISHED.get((k, extra), 0.0 if extra == 2 else "")
        line |= {"published": published, "mean R there": average(spurious(some).risk) if some.stuck.any() else ""}
        line |= cells("R ≈ 0 after one neuron at the lowest point", cured(some, "after_worst"))
        line |= cells("after one at a random point", cured(some, "after_random"))
        line |= cells("after at most four at lowest points", cured_at_last(some))
        lines.append(line)
    return pandas.DataFrame(lines)
