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
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from regimes.conventions import generator
from regimes.data.classification import classification
from regimes.lab import figures
from regimes.lab.config import Settings
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import Mean, Slope, geometric_mean_interval, loglog_slope
from regimes.models.initialise import initialise, xavier
from regimes.models.vgg import vgg11
from regimes.tangent.kernel import ntk
from regimes.tangent.spectrum import merge_outputs, spectrum
from regimes.threads import threads_for
from regimes.training.work import typical_work

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

GAP = "λ_k/λ_{k+1}, k outputs"
SLOPE = "slope of log λ_i against log i beyond the first k"
WEIGHTS = 64  # random stream of the initial weights
SHOWN = 60  # eigenvalues kept beyond the first 20, evenly spaced in log i
MEMORY = 2 * 2**30  # bytes for Jacobians

STATEMENT = Statement(
    claim="The tangent kernel of a convolutional net on images has as many large eigenvalues as outputs, a gap of "
    "about an order of magnitude after them, and then a tail like 1/i.",
    source="[ChizatOyallonBach2019] Fig. 7b",
    predictions=(
        Prediction(GAP, Interval(math.sqrt(10), 10 * math.sqrt(10)), "after a pilot"),
        Prediction(SLOPE, Interval(-1.5, -0.5), "after a pilot"),
    ),
)
GRID = ("width", "seed")
BATCHED = ()


class Config(Settings):
    """Data and widths; configs/tangent_spectrum_cnn.yaml is the real size."""

    dataset: Literal["digits", "mnist", "cifar10"] = "digits"
    images: int = Field(30, ge=12)
    width: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4)
    gain: float = Field(1.0, gt=0)
    seeds: int = Field(2, ge=2)


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Of each net the eigenvalues, from the largest down, with their number i, all of them divided by the first."""
    return [_eigenvalues(config, point["width"], point["seed"]) for point in points]


def _eigenvalues(config: Config, width: int, seed: int) -> list[dict[str, Any]]:
    data = classification(config.dataset, train_size=config.images, test_size=1, seed=seed).to(dtype=torch.float64)
    net = vgg11(data.shape, data.classes, width=width)
    net = initialise(net, xavier, config.gain, generator=generator(seed, WEIGHTS)).double()
    x = data.normalise(data.train.x)
    with threads_for(typical_work(net, x, config.images)):
        kernel = merge_outputs(ntk(net, x, memory=MEMORY))
    values = spectrum(kernel).values.flip(0)
    last = int((values > 0).sum())
    numbers = {*range(1, 21), *np.geomspace(20, last, SHOWN).round().astype(int).tolist()}
    return [
        {"index": i, "eigenvalue": float(values[i - 1] / values[0]), "outputs": data.classes, "count": len(values)}
        for i in sorted(numbers)
    ]


def judge(rows: "DataFrame") -> Judgement:
    """Gap and slope at the largest width, over seeds; those of the other widths as figures of merit."""
    merits, measured = {}, {}
    for width, some in rows.groupby("width"):
        ratio, slope = gap(some), tail(some)
        measured = {GAP: ratio.interval, SLOPE: slope.interval}  # the last width is the largest
        merits |= {f"{GAP}, width {width}": ratio.value, f"{SLOPE}, width {width}": slope.value}
    return STATEMENT.judge(measured, merits=merits)


def gap(rows: Any) -> Mean:
    """λ_k/λ_{k+1} for k outputs, geometric mean over seeds."""
    above, below = (
        rows[rows["index"] == rows.outputs + more].set_index("seed").eigenvalue.sort_index() for more in (0, 1)
    )
    return geometric_mean_interval(above / below)


def tail(rows: Any) -> Slope:
    """Slope of log λ_i against log i for k < i ≤ a tenth of all, k outputs, one a seed."""
    some = rows[(rows["index"] > rows.outputs) & (rows["index"] <= rows["count"] / 10)]
    return loglog_slope(some["index"], some.eigenvalue, groups=some.seed.to_numpy())


def table(rows: "DataFrame") -> "DataFrame":
    """Some eigenvalues of each width, geometric means over seeds."""
    import pandas

    chosen = (2, 10, 11, 20)
    lines = []
    for width, some in rows.groupby("width"):
        means = {i: geometric_mean_interval(some.eigenvalue[some["index"] == i]).value for i in chosen}
        lines.append({"width": width} | {f"λ_{i}/λ_1": value for i, value in means.items()})
    return pandas.DataFrame(lines).astype(object)


def draw(rows: "DataFrame") -> "Figure":
    """Normalised eigenvalues against their number, one thin line a seed, with the predicted 1/i."""
    made, ax = figures.figure(height=3.0)
    with figures.style():
        for number, (width, some) in enumerate(rows.groupby("width")):
            for seed, one in some.groupby("seed"):
                label = f"width {width}" if seed == some.seed.min() else None
                ax.loglog(one["index"], one.eigenvalue, color=figures.PALETTE[number], linewidth=0.9, label=label)
        k, end = int(rows.outputs.iloc[0]), float(np.max(np.asarray(rows["count"])))
        height = float(np.median(np.asarray(rows.eigenvalue)[np.asarray(rows["index"]) == k + 1]))
        figures.reference_slope(ax, [k + 1.0, end], height, -1.0, "1/i")
        ax.axvline(k + 0.5, linestyle=":", color="#666666", label=f"{k} outputs")
        ax.set(xlabel="number i of the eigenvalue", ylabel=r"$\lambda_i\,/\,\lambda_1$", ylim=(1e-6, 2))
        ax.legend()
    return made
