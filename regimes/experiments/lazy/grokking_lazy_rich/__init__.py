"""Grokking: does the delay between fitting and generalising come from lazy training, and so grow with α?

Set-up. The polynomial regression of [Kumar2024]: y = (β·x)²/D, a two-layer net with the activation h + εh²/2 and fixed
output weights, trained as α (h − h(w_0)); see `runs`. Delay: the ratio of the times at which the test and the training
loss pass one level, 0.2 or 0.5 of that of f = 0. A ratio of times does not depend on the rate of learning. Each run
ends at the same training loss. A run that ends before its test loss has passed the level is timed at its end, so its
delay is too small: tables print it as a lower bound, and predictions on a delay that needs it are not decided.

Derivation. To first order the net is its tangent model, which fits the samples first; it leaves its kernel in a time
that grows with α, as neurons move by O(1/α). The target has one direction, which the kernel at the start does not know:
it is invariant to rotations, so with n samples its test loss is on average at least (2/3)(1 − 1/D)(1 − n/N) of E y²,
N = D(D+1)/2 − 1 (lazy/rotations.py; 2/3 is the share of y that is quadratic and no constant). At the real size that is
0.27, above the level 0.2: what passes this level has changed its features. So the delay grows with α (published), and
the test loss that is left at one training loss grows, too.
Controls. At the smallest α features are learned while the samples are fitted: almost no delay. At α = 10,000 the test
loss is that of the tangent model at the same training loss, up to O(1/α), however long the training.

Predictions. A pilot of other seeds (from 1000 on), n = 320 and 480, α from 1/16 to 10,000, chose n and the grid of
α, on which all runs passed the level, and gave the intervals that say so. With n = 320 fewer samples make a delay at
small α, too: 1.7 to 3. So both delays are judged only on grids that reach as far as the pilot's did, from 1/16 to 32.
The exponents are mean slopes: on double logarithmic axes the delay bends up.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.grokking_lazy_rich.config import Config as Config
from regimes.experiments.lazy.grokking_lazy_rich.figure import draw as draw
from regimes.experiments.lazy.grokking_lazy_rich.numbers import LAZY_FROM, at_each, at_end, lazy_ratio, passed
from regimes.experiments.lazy.grokking_lazy_rich.runs import measure as measure
from regimes.experiments.lazy.grokking_lazy_rich.runs import work as work
from regimes.lab.numbers import cells, count, judged, largest, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

DELAY = "exponent in α of the delay, level 0.2"
OTHER = "exponent in α of the delay, level 0.5"
SMALL, LARGE = "delay at the smallest α, level 0.2", "delay at the largest α below 1,000, level 0.2"
LEFT = "exponent in α of the test loss at the same training loss"
TANGENT = "lazy control: test loss over that of the tangent model at the same training loss"
BOUND = "tangent model: test loss over its lower bound"
STATEMENT = Statement(
    title="Generalisation comes the later, the lazier the training is",
    claim="In polynomial regression by two-layer nets the delay between the fall of the training and of the test loss "
    "grows with the scale α of the output; there is almost none for small α, and a lazy net never generalises.",
    source="[Kumar2024]; bound and limit derived here",
    predictions=(
        Prediction(DELAY, Interval.at_least(0.0), "published"),
        Prediction(OTHER, Interval.at_least(0.0), "published"),
        Prediction(SMALL, Interval(0.0, 2.0), "after a pilot"),
        Prediction(LARGE, Interval.at_least(2.5), "after a pilot"),
        Prediction(LEFT, Interval.at_least(0.0), "after a pilot"),
        Prediction(TANGENT, Interval(0.95, 1.05), "derived"),
        Prediction(BOUND, Interval.at_least(1.0), "derived"),
    ),
)
GRID = ("seed", "alpha")
BATCHED = ("alpha",)


def judge(rows: "DataFrame") -> Judgement:
    """One slope a seed over all α below 1,000; geometric means over the seeds."""
    below: Any = rows[rows.alpha < LAZY_FROM]
    lazy: Any = rows[rows.alpha >= LAZY_FROM]
    found = {
        DELAY: slope(below.alpha, passed(below), below.seed, below.delay_error),
        OTHER: slope(below.alpha, passed(below, "_other"), below.seed, below.delay_other_error),
        SMALL: at_end(below, largest=False),
        LARGE: at_end(below, largest=True),
        LEFT: slope(below.alpha, below.test_end, below.seed),
        TANGENT: lazy_ratio(lazy, "test_end", "tangent_end"),
        BOUND: lazy_ratio(lazy, "tangent_end", "least"),
    }
    merits = {
        "runs below α = 1,000 whose test loss does not pass the level": count(below.met == 0, of=below.met),
        "runs from α = 1,000 on whose test loss passes the level": count(lazy.met > 0, of=lazy.met),
        "largest training loss at the end": largest(rows.train_end),
        "largest integration error / delay": largest(rows.delay_error / rows.delay),
        "bound on the test loss of the tangent model": float(rows.least.iloc[0]),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Times, delays and final test losses for each α; "≥" where a run ends before its test loss passes the level."""
    import pandas

    met = rows.groupby("alpha").met.mean()
    lines = []
    for alpha, delay in at_each(rows, "delay").items():
        line: dict[str, Any] = {"α": alpha}
        for words, column in (("t of training loss 0.2", "t_train"), ("t of test loss 0.2", "t_test")):
            line[words] = at_each(rows, column)[alpha].value
        line |= cells("delay", delay)
        if met[alpha] < 1:
            line |= {name: f"≥ {line[name]:.4g}" for name in ("t of test loss 0.2", "delay")} | {"delay, 95 %": ""}
        line |= {"share that passes": float(met[alpha])}
        lines.append(line | cells("test loss at the end", at_each(rows, "test_end")[alpha]))
    return pandas.DataFrame(lines)
