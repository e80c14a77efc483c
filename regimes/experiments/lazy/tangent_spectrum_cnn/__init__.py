"""What are the eigenvalues of the tangent kernel of a convolutional net on images, before training?

They say what a lazy net learns fast: under gradient flow the part of the error along the i-th eigenvector of the kernel
decays at a rate proportional to λ_i. Published for CIFAR-10 (500 images, 10 outputs): normalised to λ_1 = 1, the first
ten eigenvalues, one an output, stand about an order of magnitude above the rest, which fall roughly as 1/i.

Here: the kernel of VGG-11 without batch norm at its first weights (Xavier normal, biases 0) over (image, output) pairs,
in float64, for several widths; its eigenvalues are the squared singular values of the Jacobian. Nothing is trained, so
only the number of images (150 at the real size) and the width (4 and 8 channels at the first layer, 64 in the
published trainings; that of the published figure is not known to us) differ.

Predictions, judged at the largest width: λ_10/λ_11 within half an order of ten, geometric mean over seeds; slope of
log λ_i against log i for i from 11 to a tenth of all eigenvalues in [−1.5, −0.5]. A trial with 40 images of another
seed, at 8 channels, had shown 5 and −1.1.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.tangent_spectrum_cnn.config import Config as Config
from regimes.experiments.lazy.tangent_spectrum_cnn.runs import measure as measure
from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, judged, paired, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

GAP = "λ_k/λ_{k+1}, k outputs"
SLOPE = "slope of log λ_i against log i beyond the first k"
PUBLISHED = {GAP: ("gap, about 10", 10.0), SLOPE: ("tail, about 1/i", -1.0)}

STATEMENT = Statement(
    title="A CNN's tangent kernel has a gap after its first k eigenvalues",
    claim="The tangent kernel of a convolutional net on images has as many large eigenvalues as outputs, a gap after "
    "them, and then, up to a tenth of all, a tail that falls roughly like 1/i.",
    source="[ChizatOyallonBach2019] Fig. 7b",
    predictions=(
        Prediction(GAP, Interval(math.sqrt(10), 10 * math.sqrt(10)), "after a pilot"),
        Prediction(SLOPE, Interval(-1.5, -0.5), "after a pilot"),
    ),
)
GRID = ("width", "seed")
BATCHED = ()
LINES = ("-", "--", ":", "-.")


def gap(rows: Any) -> Number | None:
    """λ_k/λ_{k+1} for k outputs, geometric mean over seeds."""
    above, below = (rows[rows["index"] == rows.outputs + more].set_index("seed").eigenvalue for more in (0, 1))
    return geometric_mean(paired(above, below, lambda a, b: (a / b).sort_index()))


def tail(rows: Any, share: float = 0.1) -> Number | None:
    """Slope of log λ_i against log i for k < i ≤ a share of all, k outputs, one a seed."""
    some = rows[(rows["index"] > rows.outputs) & (rows["index"] <= share * rows["count"])]
    return slope(some["index"], some.eigenvalue, some.seed)


def judge(rows: "DataFrame") -> Judgement:
    """Gap and slope at the largest width, over seeds; those of the other widths beside them."""
    widest = rows.width.max()
    gaps, tails = each(rows, "width", gap), each(rows, "width", tail)
    merits = {}
    for width in gaps | tails:
        merits |= {f"{GAP}, width {width}": gaps.get(width), f"{SLOPE}, width {width}": tails.get(width)}
        merits[f"the same slope up to nine tenths of all, width {width}"] = tail(rows[rows.width == width], 0.9)
    found = {GAP: gaps.get(widest), SLOPE: tails.get(widest)}
    notes = tuple(
        f"The published {words}, lies outside the measured interval."
        for name, (words, value) in PUBLISHED.items()
        if (number := found[name]) is not None and not Interval(value, value).inside(number.interval)
    )
    return judged(STATEMENT, found, merits, notes)


def table(rows: "DataFrame") -> "DataFrame":
    """Some eigenvalues of each width, geometric means over seeds."""
    import pandas

    chosen = rows[rows["index"].isin((2, 10, 11, 20))]
    means = each(chosen, ["width", "index"], lambda some: geometric_mean(some.eigenvalue))
    lines: dict[int, dict[str, Any]] = {width: {"width": width} for width, _ in means}
    for (width, index), number in means.items():
        lines[width][f"λ_{index}/λ_1"] = number.value
    return pandas.DataFrame(list(lines.values())).astype(object)


def draw(rows: "DataFrame") -> "Figure":
    """Normalised eigenvalues against their number, one thin line a seed, with the predicted 1/i."""
    made, ax = figures.figure(height=3.3)
    with figures.style():
        for number, (width, some) in enumerate(rows.groupby("width")):
            look = {"color": figures.PALETTE[number], "linestyle": LINES[number % len(LINES)], "linewidth": 1.0}
            for seed, one in some.groupby("seed"):
                label = f"width {width}" if seed == some.seed.min() else None
                ax.loglog(one["index"], one.eigenvalue, label=label, **look)
        k, end = int(rows.outputs.iloc[0]), float(np.max(np.asarray(rows["count"])))
        height = float(np.median(np.asarray(rows.eigenvalue)[np.asarray(rows["index"]) == k + 1]))
        line = figures.reference_slope(ax, [k + 1.0, end], height, -1.0, "1/i")
        line.set_color("black")
        ax.axvline(k + 0.5, linestyle=":", color=figures.GREY, label=f"{k} outputs")
        ax.set(xlabel="number i of the eigenvalue", ylabel=r"$\lambda_i\,/\,\lambda_1$", ylim=(1e-6, 2))
        ax.legend()
        figures.explain(made, "One line a seed.")
    return made
