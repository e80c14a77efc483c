"""Does a depth coordinate help? Particles (θ, τ) against plain descent, on problems small enough to try all steps.

Lu et al. train, beside the parameters θ of each residual block, its time τ, and sort blocks by it; a block acts for as
long as the gap to the block before. Here nets are the particles of `regimes.meanfield.depth_times`, L blocks of M
neurons on the uniform grid, with the gap weights of the trainer's timed blocks. Arms, from the same start:
    fixed     θ alone is trained: a plain residual net;
    times     θ and τ, sorted at each step;
    weights   θ and a free weight for each block, in place: as many numbers as τ, without depth.
Full batch, a step r of the flow; times and weights take `relative`·r. At equal r the risk falls faster by
relative·L |∂E/∂τ|² a step, to first order: a small r should favour trained times. But the map from τ to weights,
L(τ^l − τ^{l−1}), multiplies the curvature of E in the weights by up to 4L², so that the largest stable step is smaller.
And where two blocks change places the gap before them passes from one to the other at once: the risk jumps.
What counts is the risk after equally many steps when each arm has the best of its steps. These are chosen for each arm
on a quarter of the problems; the others are judged. A run that diverges has all of its risk left; shares of the risk
below 10⁻¹² count as that. Whether blocks change places depends on the relative step: merits show it for each.

The interval of the same small step was set after a pilot (6 other seeds), the others before it. In the pilot trained
times were ahead at the small step, and behind at the best ones: that prediction was left as it was.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.depth_coordinate.config import FIXED, TIMES, WEIGHTS
from regimes.experiments.mean_field.depth_coordinate.config import Config as Config
from regimes.experiments.mean_field.depth_coordinate.config import points as points
from regimes.experiments.mean_field.depth_coordinate.figure import draw as draw
from regimes.experiments.mean_field.depth_coordinate.numbers import (
    at_best,
    at_rate,
    best,
    by_relative,
    changed_places,
    finished,
    ratio,
)
from regimes.experiments.mean_field.depth_coordinate.runs import measure as measure
from regimes.lab.numbers import cells, geometric_mean, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

SAME = "risk left with trained times over fixed ones, both at the smallest step"
BEST = "risk left with trained times over fixed ones, each at its best steps"
LIKE_WEIGHTS = "risk left with trained times over trained weights, each at its best steps"
MOVED = "share of nets with trained times, at the best steps, in which blocks have changed places"
STATEMENT = Statement(
    title="Training the times of blocks, too, lowers the risk faster",
    claim="Gradient descent on particles (θ, τ) lowers the risk of a small residual net further, in as many steps, "
    "than descent on θ alone; at the best steps blocks change places on the way.",
    source="[Lu2020] Algorithm 1",
    predictions=(
        Prediction(SAME, Interval(0.0, 1.0), "after a pilot"),
        Prediction(BEST, Interval(0.0, 1.0), "chosen"),
        Prediction(LIKE_WEIGHTS, Interval(0.5, 2.0), "chosen"),
        Prediction(MOVED, Interval(0.5, 1.0), "chosen"),
    ),
)
GRID = ("arm", "relative", "rate", "seed")
BATCHED = ("relative", "rate", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Ratios paired by problem, on the problems that have not chosen the steps."""
    found = finished(rows)
    tuned = {arm: at_best(found, arm) for arm in (FIXED, TIMES, WEIGHTS)}
    small = float(found.rate.min())
    times = tuned[TIMES]
    numbers = {
        SAME: ratio(at_rate(found, TIMES, small), at_rate(found, FIXED, small)),
        BEST: ratio(times, tuned[FIXED]),
        LIKE_WEIGHTS: ratio(times, tuned[WEIGHTS]),
        MOVED: changed_places(times),
    }
    merits: dict[str, Any] = {"problems judged": float(times.seed.nunique()) if len(times) else None}
    for relative, number in by_relative(found, TIMES).items():
        merits[f"relative step {relative:g}, all r: share of nets in which blocks have changed places"] = number
    merits["trained weights over fixed ones, each at its best steps"] = ratio(tuned[WEIGHTS], tuned[FIXED])
    return judged(STATEMENT, numbers, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each arm and step r: its best relative step, and what is left of the risk on the problems judged."""
    import pandas

    found, lines = finished(rows), []
    for arm in dict.fromkeys(found.arm):
        some = found[found.arm == arm]
        chosen = best(some)
        for rate in sorted(set(some.rate)):
            judged_here = at_rate(found, arm, rate)
            line: dict[str, Any] = {"arm": arm, "step r": rate}
            relative = float(judged_here.relative.iloc[0]) if len(judged_here) else 0.0
            line["relative step"] = relative if relative else ""
            line |= cells("share of the risk left", geometric_mean(judged_here.left))
            line["diverged"] = _hits(judged_here.left >= 1, judged_here.left)
            line["blocks changed places"] = _hits(judged_here.moved > 0, judged_here.moved) if arm == TIMES else ""
            line["best of the arm"] = "yes" if chosen is not None and chosen[1] == rate else ""
            lines.append(line)
    return pandas.DataFrame(lines)


def _hits(hits: Any, of: Any) -> str:
    """How many there are, of how many; empty where there are none to count or one is not known."""
    return f"{int(hits.sum())} of {len(of)}" if len(of) and of.notna().all() else ""
