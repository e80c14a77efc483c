"""Which margin does a wide two-layer ReLU net maximise when it is trained on separable data?

Under exponential or logistic loss the flow of a 2-homogeneous net grows without end, and what converges is its
direction. If both layers are trained from a measure of full support, f/∫|a|‖b‖ dμ tends to the largest margin
    γ₁ = max min_i y_i ∫ relu(θ·x_i) dμ(θ)   over signed measures of ∫ |dμ| ≤ 1 on the unit sphere
(variation norm). If the output layer alone is trained, f over its norm (1/m Σ a²)^½ tends to that of the support
vector machine with the kernel of the fixed neurons. So the same samples give different classifiers: the first adapts
to the two directions that matter among d, the second does not.

The flow is that of log Σ e^{−y f}, which is the one of exponential loss in another time. Nets of both layers are looked
at where min y f reaches given levels: there the soft margin is within (log n)/level of the hard one, relative. In the
plane γ₁ comes from a linear program over 1440 directions, and the margin of the output layer from the least norm in
a convex hull: neither knows of the flow. No net can be above γ₁, whatever it was trained by.

Trial runs (other seeds) had both margins within 4 % of the largest ones, the variation-norm margin of the output layer
at 0.9 γ₁, and at d = 20 errors of 0 and 0.1: the intervals are set after them. The neurons keep their number, 200, and
the steps their size: what is left of the gap is both, and the level. A first run had twice the step, 0.01. There the
gap grew again from level 20 to 50, which was the step's doing: a check of four seeds with half and a quarter of it did
not see it. So the run was done again with half of it, and twice as many steps.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.max_margin.config import Config as Config
from regimes.experiments.mean_field.max_margin.figure import draw as draw
from regimes.experiments.mean_field.max_margin.numbers import BOTH as BOTH_LAYERS
from regimes.experiments.mean_field.max_margin.numbers import OUTPUT as OUTPUT_LAYER
from regimes.experiments.mean_field.max_margin.numbers import at_level, closing, ends, errors, in_plane
from regimes.experiments.mean_field.max_margin.runs import measure as measure
from regimes.lab.intervals import CORRELATION, POSITIVE
from regimes.lab.numbers import Number, cells, count, judged, largest, mean, paired, smallest, spread
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

FROM, LAST, TO, WIDE = 2.0, 20.0, 50.0, 20  # LAST: the level before TO
BOTH = "plane, both layers: variation-norm margin over the largest one"
OUTPUT = "plane, output layer: margin of its kernel over the largest one"
OTHER = "plane, output layer: variation-norm margin over the largest one"
NEARER = f"plane, both layers: gap to the largest margin at min y f = {TO:g}, over that at {FROM:g}"
ABOVE = "plane: largest of all variation-norm margins, over the largest possible"
ERROR = f"d = {WIDE}: test error of the output layer less that of both layers"
STATEMENT = Statement(
    title="Both layers maximise the margin in variation norm",
    claim="Wide ReLU nets trained to large margins come near the largest margin in variation norm if both layers move, "
    "and near that of the fixed kernel if the output layer alone does; on data of 20 dimensions of which two matter "
    "the former generalise better.",
    source="[ChizatBach2020]",
    predictions=(
        Prediction(BOTH, Interval(0.93, 1.0001), "after a pilot"),
        Prediction(OUTPUT, Interval(0.97, 1.0001), "after a pilot"),
        Prediction(OTHER, Interval(0.0, 0.95), "after a pilot"),
        Prediction(NEARER, Interval(0.0, 0.5), "after a pilot"),
        Prediction(ABOVE, Interval.at_most(1.0001), "derived"),
        Prediction(ERROR, Interval(0.03, 1.0), "after a pilot"),
    ),
)
GRID = ("inputs", "trained", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Margins in the plane against the largest ones, and the errors in many dimensions."""
    output = in_plane(rows, OUTPUT_LAYER)
    at_last = at_level(rows, OUTPUT_LAYER, output.level.max())
    wide = ends(rows[rows.inputs == WIDE])
    one, other = (wide[wide.trained == trained].set_index("seed").error for trained in (OUTPUT_LAYER, BOTH_LAYERS))
    found: dict[str, Number | None] = {
        BOTH: mean(at_level(rows, BOTH_LAYERS, TO).variation_share, within=POSITIVE),
        OUTPUT: mean(at_last.output_share, within=POSITIVE),
        OTHER: mean(at_last.variation_share, within=POSITIVE),
        NEARER: closing(rows, FROM, TO),
        ABOVE: largest([*in_plane(rows, BOTH_LAYERS).variation_share, *output.variation_share]),
        ERROR: mean(paired(one, other, lambda output, both: output - both), within=CORRELATION),
    }
    levels = ends(rows[rows.trained == BOTH_LAYERS]).level
    merits = {
        "runs": float(len(ends(rows))),
        f"runs of both layers that had not reached min y f = {TO:g}": count(levels < TO, levels),
        "output layer: least min y f at the end": smallest(ends(rows[rows.trained == OUTPUT_LAYER]).least),
    } | spread(f"plane, both layers: gap at min y f = {TO:g}, over that at {LAST:g}", closing(rows, LAST, TO))
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each dimension and what was trained: margins at the end and test error."""
    import pandas

    found = errors(rows)
    lines = []
    for (trained, d), error in found.items():
        some = ends(rows[(rows.trained == trained) & (rows.inputs == d)])
        line: dict[str, Any] = {"d": d, "trained": trained, "runs": len(some)}
        line |= cells("variation-norm margin", mean(some.variation)) | cells("margin of the kernel", mean(some.output))
        line |= cells("test error", error)
        lines.append(line)
    return pandas.DataFrame(lines).sort_values(["d", "trained"])
