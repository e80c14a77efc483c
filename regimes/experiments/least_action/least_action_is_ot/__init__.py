"""Does a residual net that pays for its motion become an optimal-transport map?

Minimised: risk + w·A/V. A = L Σ_k E‖v_k‖² is the action of the L blocks in unit time (`LeastAction` with λ = V/(wL), no
growth), V = E‖x − Ex‖² the variance of the cloud α that T moves, so w has no unit; w = 0 is the risk alone.

Why T should be optimal. A ≥ E‖T(x) − x‖², equal if and only if all paths are straight and evenly paced. If the risk
knows T♯α only, put the optimal map from α to T♯α, on straight and even paths, in place of T: the risk is the same and
A falls to W₂²(α, T♯α), so at a minimiser with any w > 0 it was there already: gap 0, whatever w.
With labels this holds CLASS BY CLASS and no further. A classifier's risk knows the law of the pairs (T(x), label), not
T♯α: images may be exchanged among points of one class, but exchanged between classes they carry wrong labels. So T is
optimal within each class, and over the whole cloud it may be far from that: classes that have to cross pay for it
(problem `crossing`, whose whole-cloud gap at the minimiser is known and large). Read as a statement on the whole
cloud, the claim holds for risks without labels only. Both gaps are measured; `gap` is the one within classes.

The problems and their nets are described in `problems`. Some have a known minimiser T_w.

A minimiser is not what descent must find. Linear maps on Gaussians have reversed stationary points, T with a
negative direction, as long as w < (deviation of ν)/(deviation of α) there. Ratios here are at most 2 (line: slope at
most 3), the largest weight of the real size is 3: the predictions on known problems speak of that weight.

Predictions, made before any run of the real size. ε = 10 % counts as the relative error of a trained net's
displacement: distance to T_w at most ε; gap, excess action and crookedness of the paths are of second order in an
error, at most ε² = 0.01. No floor from sampling: an optimal map's pairing is optimal on any finite set of its points.
The Jacobian of a piecewise linear net is not bounded by errors of its values; the asymmetry of T − id (0 for a
gradient, 1 for unstructured matrices; unlike that of T it does not fall as T nears the identity) at most ε, a third of
a Jacobian in norm. Where T has little room between points, gap 0 says nothing: `gap_null` is the gap of the same
displacements dealt to other points of the class. Where these would pass, too, the test is blind, and a small gap or
ratio is no support (interval open above). A run whose net of weight 0 has a gap of at most ε² already (as one seed of
`line`) has nothing to lower: it is left out of the ratios and orders of gaps, not of the rest. Source: [Karkar2020].
"""

import math
from typing import TYPE_CHECKING

from regimes.experiments.least_action.least_action_is_ot.course import Config as Config
from regimes.experiments.least_action.least_action_is_ot.course import measure as measure
from regimes.experiments.least_action.least_action_is_ot.figure import draw as draw
from regimes.experiments.least_action.least_action_is_ot.problems import IMAGES, KNOWN
from regimes.experiments.least_action.least_action_is_ot.quality import table as table
from regimes.experiments.least_action.least_action_is_ot.trends import Ends, gap_mean, gap_ratio, order, telling
from regimes.lab import numbers
from regimes.lab.intervals import CORRELATION, POSITIVE, SHARE
from regimes.lab.numbers import Number
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

ERROR = 0.1  # relative error of a trained displacement
GAP = "relative gap within classes at the largest weight, worst known problem"
RATIO = "that gap over the one at weight 0, worst known problem"
DISTANCE = "‖T − T_w‖ / ‖T_w − id‖ at the largest weight, worst known problem"
STRAIGHTNESS = "straightness of the paths at the largest weight, worst known problem"
EXCESS = "action / cost of the map − 1 at the largest weight, worst known problem"
ASYMMETRY = "asymmetry of T − id at the largest weight, worse of plane and space"
ORDER = "Spearman correlation of weight and gap, worst known problem"
CROSSED = "crossing: gap over the whole cloud, largest weight where the true one is above 1/2"
CROSSED_OFF = "crossing: that gap minus the one of T_w"
CIRCLES = "circles: Spearman correlation of weight and gap"
CIRCLES_RATIO = "circles: gap at the largest weight that keeps the accuracy, over the one at weight 0"
CIRCLES_MULTIPLIER = "circles: gap by the method of multipliers over the one at weight 0"
IMAGES_ORDER = "images: Spearman correlation of weight and asymmetry of T − id"
IMAGES_GAP = "images: relative gap at the largest weight that keeps the accuracy"

STATEMENT = Statement(
    title="A least-action net is an optimal-transport map",
    claim="A net that minimises transport cost and risk is an optimal-transport map along straight evenly paced paths: "
    "within each class, and over the whole cloud if the risk does not know labels.",
    source="[Karkar2020] section 3, with the classes told apart",
    predictions=(
        Prediction(GAP, Interval.at_most(ERROR**2), "derived"),
        Prediction(RATIO, Interval.at_most(0.1), "chosen"),
        Prediction(DISTANCE, Interval.at_most(ERROR), "chosen"),
        Prediction(STRAIGHTNESS, Interval.at_least(1 - ERROR**2), "derived"),
        Prediction(EXCESS, Interval.at_most(ERROR**2), "derived"),
        Prediction(ASYMMETRY, Interval.at_most(ERROR), "chosen"),
        Prediction(ORDER, Interval.at_most(-0.5), "chosen"),
        Prediction(CROSSED, Interval.at_least(0.5), "derived"),
        Prediction(CROSSED_OFF, Interval.around(0.0, 0.05), "derived"),
        Prediction(CIRCLES, Interval.at_most(-0.5), "chosen"),
        Prediction(CIRCLES_RATIO, Interval.at_most(0.1), "chosen"),
        Prediction(CIRCLES_MULTIPLIER, Interval.at_most(0.1), "chosen"),
        Prediction(IMAGES_ORDER, Interval.at_most(-0.5), "chosen"),
        Prediction(IMAGES_GAP, Interval.at_most(ERROR**2), "derived"),
    ),
)
GRID = ("problem", "weight", "seed")
BATCHED = ("weight", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """Means over the seeds at the weights the predictions speak of; of the worst problem."""
    ends = Ends.read(rows)
    told = ends.told()
    gap, ratio = telling(gap_mean, ERROR**2), telling(gap_ratio, ERROR)
    found = {
        GAP: ends.worst(gap),
        RATIO: ends.worst(ratio, told),
        DISTANCE: ends.worst_mean("distance", POSITIVE),
        STRAIGHTNESS: ends.worst_mean("straightness", SHARE, sign=-1.0),
        EXCESS: ends.worst_mean("excess_action", Interval(-1.0, math.inf)),
        ASYMMETRY: ends.worst_mean("displacement_asymmetry", POSITIVE, of=("plane", "space")),
        ORDER: ends.worst(lambda some: order(some, "gap"), told, whole=True),
        CROSSED: numbers.mean(ends.crossed().gap_whole, within=SHARE),
        CROSSED_OFF: numbers.mean(ends.crossed().gap_whole - ends.crossed().gap_whole_true, within=CORRELATION),
        CIRCLES: order(ends.of("circles", told), "gap"),
        CIRCLES_RATIO: ratio(ends.usable(("circles",), told)),
        CIRCLES_MULTIPLIER: ratio(ends.of("circles", told, scheme="multiplier")),
        IMAGES_ORDER: order(ends.of(*IMAGES), "displacement_asymmetry"),
        IMAGES_GAP: gap(ends.usable(IMAGES)),
    }
    merits: dict[str, float | Number | None] = {
        "runs": float(len(ends.rows)),
        "runs whose gaps are certified": numbers.count(ends.rows.certified, ends.rows.certified),
        "seeds with a gap above ε² at weight 0": numbers.count(told.weight == 0, told.first_gap),
        "largest excess of a known problem's objective over its minimum, largest weight": numbers.largest(
            ends.top(*KNOWN).excess_objective
        ),
        "crossing: whole-cloud gap of T_w there": numbers.mean(ends.crossed().gap_whole_true),
        "circles: largest weight that keeps the accuracy": numbers.largest(ends.usable(("circles",)).weight),
        "images: largest weight that keeps the accuracy": numbers.largest(ends.usable(IMAGES).weight),
        "images: gap of dealt-out displacements there": numbers.mean(ends.usable(IMAGES).gap_null),
        **ends.dealt(),
    }
    return numbers.judged(STATEMENT, found, merits, ends.blind())
