"""Kernels of random finite nets against their limits of infinite width: fluctuation m^{−1/2}, bias of the mean 1/m.

Two-layer nets f = m^{−1/2} Σ_j a_j σ(b_j·x), a, b ~ N(0, 1): the tangent kernel (NTK) and the covariance of the output
over a (NNGP) are means over independent neurons, so their expectation is the limit at EVERY width m, and they scatter
around it by O(m^{−1/2}). Measured: the largest entry of (mean over seeds − limit) in standard errors, at each width,
and the slope of log ‖Θ_m − Θ_∞‖/‖Θ_∞‖ (Frobenius) against log m, one slope a seed. The kernels are taken by
regimes.tangent.kernel.ntk from the module TwoLayer, the limits from the closed forms.

Deep nets, NTK parametrisation, `depth` hidden layers: each layer is a nonlinear function of a kernel that scatters by
O(m^{−1/2}), which moves the mean by O(1/m). This bias is far below the scatter of one net, so that three things are
done: many nets, evaluated as ensembles (nets in proportion to m, which keeps the relative error the same at all
widths); not the norm of the deviation, which scatter alone would fill, but its component along ONE fixed direction v,
which is linear and so unbiased; and for v the direction in which the bias is seen best, C⁻¹b, with the mean deviation
b and the covariance C of the entries from other nets, of the smallest width. (For a ReLU the diagonal has no bias but
most of the scatter: v subtracts it.) The slope of log bias against log m is a weighted fit, its interval from the
standard errors over the nets; without a bias of at least three standard errors at each width the slope is unknown.

`cross_check` compares the limits with those of neural-tangents, where installed (a figure of merit, no prediction).
The sizes were set after pilot runs, the predictions follow from theory.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from regimes.activations import Activation, activation
from regimes.conventions import generator
from regimes.data.synthetic import sphere
from regimes.lab.config import Settings
from regimes.lab.figures import DOUBLE, MARKERS, PALETTE, figure, reference_slope, style
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import loglog_slope, mean_interval
from regimes.models.two_layer import TwoLayer, ntk_scale
from regimes.tangent import neural_tangents
from regimes.tangent.infinite import Kernels, dense_kernels, two_layer_nngp, two_layer_ntk
from regimes.tangent.kernel import ntk
from regimes.tangent.random_nets import random_dense_kernels

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

ACTIVATIONS = ("relu", "erf")
KERNELS = ("ntk", "nngp")
SEEN = 3.0  # a bias below this many standard errors is not seen

MEAN = "two layers: largest |mean − limit| in standard errors"


def _scatter(kernel: str, name: str) -> str:
    return f"two layers, {name}: slope of the scatter of the {kernel.upper()}"


def _bias(kernel: str, name: str) -> str:
    return f"deep, {name}: slope of the bias of the {kernel.upper()}"


STATEMENT = Statement(
    claim="Tangent kernel and output covariance of random nets tend to their limits as the width m grows: two-layer "
    "nets have them in the mean at every width and scatter by m^{−1/2}; the mean of deeper nets is off by 1/m.",
    source="[JacotGabrielHongler2018]",
    predictions=(
        Prediction(MEAN, Interval(0.0, 5.0), "derived"),
        *(
            Prediction(_scatter(k, name), Interval.around(-0.5, 0.05), "derived")
            for name in ACTIVATIONS
            for k in KERNELS
        ),
        *(Prediction(_bias(k, name), Interval.around(-1.0, 0.2), "derived") for name in ACTIVATIONS for k in KERNELS),
    ),
)
GRID = ("network", "activation", "width", "seed")
BATCHED = ("seed",)
JOINT = True  # the rows of a call hold the deviation of their mean: it is not split over machines


class Config(Settings):
    """A seed is one two-layer net, or a block of `nets` deep ones; `blocks` of them at the smallest width."""

    width_two_layer: tuple[int, ...] = Field((32, 64, 128), min_length=2)
    width_deep: tuple[int, ...] = Field((8, 16, 32), min_length=2)
    seeds: int = Field(20, ge=2)
    blocks: int = Field(20, ge=2)
    nets: int = Field(200, ge=50)
    pilot: int = Field(4000, ge=500)
    samples: int = Field(6, ge=1)
    inputs: int = Field(4, ge=1)
    depth: int = Field(3, ge=1)
    sigma_w: float = Field(1.5, gt=0)
    sigma_b: float = Field(0.5, ge=0)
    cross_check: bool = False


def points(config: Config) -> list[dict[str, Any]]:
    """Deep nets get blocks in proportion to their width."""
    two_layer = [("two_layer", width, config.seeds) for width in config.width_two_layer]
    narrowest = min(config.width_deep)
    deep = [("deep", width, config.blocks * width // narrowest) for width in config.width_deep]
    return [
        {"network": network, "activation": name, "width": width, "seed": seed}
        for name in ACTIVATIONS
        for network, width, seeds in (*two_layer, *deep)
        for seed in range(seeds)
    ]


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a seed: relative deviations from the limits, of one kind of net at one width."""
    first = points[0]
    function = {"two_layer": _two_layer, "deep": _deep}[first["network"]]
    return function(config, activation(first["activation"]), first["width"], [point["seed"] for point in points])


def _inputs(config: Config) -> Tensor:
    """Points on the sphere of radius √d, the same for all nets."""
    return config.inputs**0.5 * sphere(config.samples, config.inputs, generator=generator(0, 1))


def _entries(kernel: Tensor, limit: Tensor) -> Tensor:
    """Upper triangle of (Θ − Θ_∞)/‖Θ_∞‖."""
    row, column = torch.triu_indices(len(limit), len(limit))
    return ((kernel - limit) / limit.norm())[..., row, column]


def _two_layer(config: Config, unit: Activation, width: int, seeds: list[int]) -> list[dict[str, Any]]:
    x = _inputs(config)
    limits = Kernels(two_layer_nngp(x, activation=unit), two_layer_ntk(x, activation=unit))
    found: dict[str, list[Tensor]] = {kernel: [] for kernel in KERNELS}
    for seed in seeds:
        source = generator(seed, 2, width)
        net = TwoLayer(config.inputs, width, activation=unit, scale=ntk_scale(width), generator=source)
        hidden = unit.value(net.preactivations(x)).detach()
        found["ntk"].append(ntk(net, x, outputs="trace"))
        found["nngp"].append(hidden @ hidden.T / width)
    rows: list[dict[str, Any]] = [{} for _ in seeds]
    for kernel in KERNELS:
        stack, limit = torch.stack(found[kernel]), getattr(limits, kernel)
        entries = _entries(stack, limit)
        errors = entries.std(0) / len(seeds) ** 0.5
        largest = float((entries.mean(0).abs() / errors).max())
        for row, net_kernel in zip(rows, stack, strict=True):
            row[f"{kernel}_scatter"] = float((net_kernel - limit).norm() / limit.norm())
            row[f"{kernel}_standard_errors"] = largest
    return rows


def _deep(config: Config, unit: Activation, width: int, seeds: list[int]) -> list[dict[str, Any]]:
    x = _inputs(config)
    options = {"depth": config.depth, "activation": unit, "sigma_w": config.sigma_w, "sigma_b": config.sigma_b}
    limits = dense_kernels(x, **options)
    narrowest = min(config.width_deep)
    chunks = [min(500, config.pilot - start) for start in range(0, config.pilot, 500)]
    source = generator(0, 3)
    pilot = [random_dense_kernels(x, nets=nets, width=narrowest, generator=source, **options) for nets in chunks]
    directions = {}
    for kernel in KERNELS:
        limit = getattr(limits, kernel)
        entries = torch.cat([_entries(getattr(part, kernel), limit) for part in pilot])
        direction = torch.linalg.solve(entries.T.cov(), entries.mean(0))
        directions[kernel] = direction / direction.norm()
    rows = []
    for seed in seeds:
        nets = random_dense_kernels(x, nets=config.nets, width=width, generator=generator(seed, 4, width), **options)
        row: dict[str, Any] = {"sources": _difference(config, x, limits, options)} if seed == seeds[0] else {}
        for kernel in KERNELS:
            limit = getattr(limits, kernel)
            row[f"{kernel}_bias"] = float((_entries(getattr(nets, kernel), limit) @ directions[kernel]).mean())
            scatter = (getattr(nets, kernel) - limit).flatten(1).norm(dim=1) / limit.norm()
            row[f"{kernel}_scatter"] = float(scatter.square().mean().sqrt())
        rows.append(row)
    return rows


def _difference(config: Config, x: Tensor, limits: Kernels, options: dict[str, Any]) -> float | None:
    """Largest relative difference between the two sources of the limits; None where it is not asked for or possible."""
    if not config.cross_check:
        return None
    try:
        others = neural_tangents.dense_kernels(x, **options)
    except ModuleNotFoundError:
        return None
    return max(float(((a - b) / b).abs().max()) for a, b in zip(limits, others, strict=True))


def _means(rows: Any, name: str, kernel: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Widths, mean biases (positive at the smallest width, by the choice of v) and their standard errors over seeds."""
    deep = rows[(rows.network == "deep") & (rows.activation == name)]
    found = deep.groupby("width")[f"{kernel}_bias"].agg(["mean", "sem"])
    return found.index.to_numpy(), found["mean"].to_numpy(), found["sem"].to_numpy()


def bias_slope(width: np.ndarray, mean: np.ndarray, error: np.ndarray) -> Interval:
    """95 % interval of the slope of log mean against log width, weights (mean/error)².

    Residuals larger than the errors allow widen it; (−∞, ∞) if a bias is not seen.
    """
    if (mean < SEEN * error).any():
        return Interval(-np.inf, np.inf)
    x, weight = np.log(width), (mean / error) ** 2
    centred = x - np.average(x, weights=weight)
    spread = float((weight * centred**2).sum())
    slope = float((weight * centred * np.log(mean)).sum()) / spread
    residual = np.log(mean) - np.average(np.log(mean), weights=weight) - slope * centred
    excess = float((weight * residual**2).sum()) / max(1, len(x) - 2)
    return Interval.around(slope, 1.96 * (max(1.0, excess) / spread) ** 0.5)


def judge(rows: Any) -> Judgement:
    """Largest deviation of a mean, slopes of the scatter (one a seed), slopes of the bias."""
    two_layer = rows[rows.network == "two_layer"]
    largest = float(max(two_layer[f"{kernel}_standard_errors"].max() for kernel in KERNELS))
    measured = {MEAN: Interval(largest, largest)}
    for name in ACTIVATIONS:
        part = two_layer[two_layer.activation == name]
        for kernel in KERNELS:
            slope = loglog_slope(part.width, part[f"{kernel}_scatter"], groups=part.seed)
            measured[_scatter(kernel, name)] = slope.interval
            measured[_bias(kernel, name)] = bias_slope(*_means(rows, name, kernel))
    merits = {}
    if "sources" in rows and rows.sources.notna().any():
        merits["largest relative difference of the limits to neural-tangents"] = float(rows.sources.max())
    return STATEMENT.judge(measured, merits=merits)


def table(rows: Any) -> "pandas.DataFrame":
    """One line for each kind of net, activation and width; the mean of the kernel against its limit in words."""
    import pandas

    lines = []
    for (network, name, width), part in rows.groupby(["network", "activation", "width"], sort=False):
        line: dict[str, Any] = {"network": network, "activation": name, "width": width, "seeds": len(part)}
        for kernel in KERNELS:
            line[f"{kernel} scatter"] = part[f"{kernel}_scatter"].mean()
            if network == "two_layer":
                off = f"at most {part[f'{kernel}_standard_errors'].max():.1f} standard errors"
            else:
                off = f"{part[f'{kernel}_bias'].mean():.2e} ± {1.96 * part[f'{kernel}_bias'].sem():.0e} along v"
            line[f"{kernel} mean is off by"] = off
        lines.append(line)
    return pandas.DataFrame(lines)


def draw(rows: Any) -> "Figure":
    """Scatter of two-layer nets and bias of deep ones against the width."""
    with style():
        drawn, (left, right) = figure(1, 2, width=DOUBLE, height=2.9)
        two_layer = rows[rows.network == "two_layer"]
        for color, name in zip(PALETTE, ACTIVATIONS, strict=False):
            for marker, line, kernel in zip(MARKERS, ("-", ":"), KERNELS, strict=False):
                label = f"{kernel.upper()}, {'ReLU' if name == 'relu' else name}"
                look = {"color": color, "marker": marker, "linestyle": line, "label": label, "capsize": 2}
                part = two_layer[two_layer.activation == name].groupby("width")[f"{kernel}_scatter"]
                means = {width: mean_interval(values) for width, values in part}
                height = np.array([mean.value for mean in means.values()])
                left.errorbar(list(means), height, [m.interval.high - m.value for m in means.values()], **look)
                widths, bias, error = _means(rows, name, kernel)
                right.errorbar(widths, bias, 1.96 * error, **look)
        for axis, slope, kind, network in ((left, -0.5, "−1/2", "two_layer"), (right, -1.0, "−1", "deep")):
            axis.set(xscale="log", yscale="log", xlabel="width m")
            widths = np.sort(rows[rows.network == network].width.unique())
            top = max(float(line.get_ydata()[0]) for line in axis.get_lines() if len(line.get_ydata()) == len(widths))
            reference_slope(axis, widths, 1.4 * top, slope, "")
            middle = widths[len(widths) // 2]
            height = 1.5 * top * (middle / widths[0]) ** slope
            axis.text(middle, height, f"slope {kind}", ha="left", va="bottom", fontsize=8)
            axis.set_xticks(widths, [str(width) for width in widths])
            axis.xaxis.minorticks_off()
        left.set(ylabel="‖Θ − Θ∞‖ / ‖Θ∞‖ of one net", title="Two layers: scatter")
        right.set(ylabel="(E Θ − Θ∞)·v / ‖Θ∞‖", title="Deep: bias of the mean")
        drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn
