"""Is a deep convolutional net on images lazy once its output is scaled up, and does it then classify worse?

The net is VGG-11 without batch norm, centred so that h(w0) = 0: f = α(h(w) − h(w0)), trained on R(f)/α². At α = 1 that
is usual training; as α grows, so the theory, the weights hardly move, no ReLU changes its state, and the outputs
become those of the tangent model f̄ = Dh(w0)·δ, which is trained here as well, by the same optimiser on the same batches
(its course does not depend on α). Published for this net and training (Fig. 3a): stability of activations rises to
100 %, and test accuracy falls from 88.2 % at α = 1 to 54.7 % at the largest α. (The 89.7 and 61.7 % of Fig. 3b are of a
wider net, trained otherwise.)

Stability of activations: the share of (unit, test image) pairs whose pre-activation has at the end the sign it had at
the start, averaged over the ReLU layers. Protocol and departures from the published one are in `runs`.

Predictions, made before the run, of means over seeds with 95 % intervals (geometric for distances): stability at the
largest α at least 0.999, and higher than at α = 1; test and training accuracy at α = 1 above those at the largest α,
paired by seed (the rate was chosen when the opposite order had been seen at another, see `runs`); ‖f − f̄‖/‖f̄‖ on test
images at the largest α at most 0.01 in float64 and at least 0.1 in float32.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.lazy_cnn import numbers
from regimes.experiments.lazy.lazy_cnn.config import Config as Config
from regimes.experiments.lazy.lazy_cnn.config import points as points
from regimes.experiments.lazy.lazy_cnn.figure import draw as draw
from regimes.experiments.lazy.lazy_cnn.runs import measure as measure
from regimes.lab.averages import averages
from regimes.lab.numbers import judged, mean
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

STABLE = "stability of activations at the largest α"
RISE = "stability at the largest α less that at the smallest"
TEST = "test accuracy at the smallest α less that at the largest"
TRAIN = "training accuracy at the smallest α less that at the largest"
TANGENT = "distance to the tangent model at the largest α, float64"
FLOAT32 = "distance to the tangent model at the largest α, float32"

STATEMENT = Statement(
    title="A scaled VGG-11 becomes its tangent model and classifies worse",
    claim="As the output scale α grows, a centred convolutional net becomes its tangent model, its activations stop to "
    "change, and it classifies training and test images worse than at α = 1; at the largest α, 10⁷, float32 loses this "
    "to rounding.",
    source="[ChizatOyallonBach2019] Fig. 3a",
    predictions=(
        Prediction(STABLE, Interval(0.999, 1.0), "published"),
        Prediction(RISE, Interval.at_least(0.0), "published"),
        Prediction(TEST, Interval.at_least(0.0), "after a pilot"),
        Prediction(TRAIN, Interval.at_least(0.0), "after a pilot"),
        Prediction(TANGENT, Interval.at_most(0.01), "chosen"),
        Prediction(FLOAT32, Interval.at_least(0.1), "chosen"),
    ),
)
GRID = ("seed", "precision", "alpha")
BATCHED = ()
RESUMABLE = True  # within a point


def judge(rows: "DataFrame") -> Judgement:
    """The two ends of the α axis; differences paired by seed, unfinished seeds left out."""
    whole = numbers.finished(rows)
    double, usual = numbers.of(whole, "float64"), numbers.from_usual(whole)
    found = {
        STABLE: numbers.last(numbers.stability(whole, "float64")),
        RISE: numbers.last(numbers.gained(usual, "float64", "stability")),
        TEST: numbers.last(numbers.lost(usual, "float64", "test_accuracy")),
        TRAIN: numbers.last(numbers.lost(usual, "float64", "train_accuracy")),
        TANGENT: numbers.last(numbers.distance(whole, "float64")),
        FLOAT32: numbers.last(numbers.distance(whole, "float32")),
    }
    merits: dict[str, Any] = {"seeds": float(whole.seed.nunique())}
    merits |= {"smallest α": float(double.alpha.min()), "largest α": float(double.alpha.max())}
    ends = {name: double[double.alpha == merits[name]] for name in ("smallest α", "largest α")}
    for column, words in (("test_accuracy", "test accuracy"), ("train_accuracy", "training accuracy")):
        merits |= {f"{words}, {name}": mean(some[column]) for name, some in ends.items()}
        merits[f"{words}, tangent model"] = mean(ends["largest α"][f"tangent_{column}"])
    merits |= {f"stability, {name}": mean(some.stability) for name, some in ends.items()}
    merits |= {f"{name}: geometric mean": found[name] for name in (TANGENT, FLOAT32)}
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> Any:
    """Arithmetic means over the seeds, for each number format and scale."""
    shown = ["train_accuracy", "test_accuracy", "stability", "motion", "distance"]
    return averages(rows, ["precision", "alpha"], shown).astype(object)
