"""Kernels of random finite nets against their limits of infinite width: fluctuation m^{−1/2}, bias of the mean 1/m.

Two-layer nets f = m^{−1/2} Σ_j a_j σ(b_j·x), a, b ~ N(0, 1): the tangent kernel (NTK) and the covariance of the output
over a (NNGP) are means over independent neurons, so their expectation is the limit at EVERY width m, and they scatter
around it by O(m^{−1/2}). Measured: the largest entry of (mean over seeds − limit) in standard errors, at each width,
and the slope of log ‖Θ_m − Θ_∞‖/‖Θ_∞‖ (Frobenius) against log m, one slope a seed.

Deep nets, NTK parametrisation, `depth` hidden layers: each layer is a nonlinear function of a kernel that scatters by
O(m^{−1/2}), which moves the mean by O(1/m). This bias is measured along one fixed direction v of the kernel's entries,
in which it is seen best; `runs` says how. The slope of log bias against log m is a weighted fit, its interval from the
standard errors over the nets; without a bias of at least three standard errors at each width the slope is unknown.

`cross_check` compares the limits with those of neural-tangents, where installed (no prediction speaks of that).
The sizes were set after pilot runs, the predictions follow from theory.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.infinite_width.bias import bias_slope, biases
from regimes.experiments.lazy.infinite_width.config import ACTIVATIONS
from regimes.experiments.lazy.infinite_width.config import Config as Config
from regimes.experiments.lazy.infinite_width.config import points as points
from regimes.experiments.lazy.infinite_width.figure import draw as draw
from regimes.experiments.lazy.infinite_width.runs import KERNELS
from regimes.experiments.lazy.infinite_width.runs import measure as measure
from regimes.lab.averages import average, most
from regimes.lab.numbers import judged, largest, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

MEAN = "two layers: largest |mean − limit| in standard errors"


def _scatter(kernel: str, name: str) -> str:
    return f"two layers, {name}: slope of the scatter of the {kernel.upper()}"


def _bias(kernel: str, name: str) -> str:
    return f"deep, {name}: slope of the bias of the {kernel.upper()}"


STATEMENT = Statement(
    title="Kernels of random nets tend to their limits with the width",
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


def judge(rows: "DataFrame") -> Judgement:
    """Largest deviation of a mean, slopes of the scatter (one a seed), slopes of the bias."""
    two_layer: Any = rows[rows.network == "two_layer"]
    found = {MEAN: largest(two_layer[[f"{kernel}_standard_errors" for kernel in KERNELS]] if len(two_layer) else [])}
    for name in ACTIVATIONS:
        some = two_layer[two_layer.activation == name]
        for kernel in KERNELS:
            found[_scatter(kernel, name)] = slope(some.width, some[f"{kernel}_scatter"], some.seed)
            found[_bias(kernel, name)] = bias_slope(biases(rows, name, kernel))
    merits = {}
    if "sources" in rows and rows.sources.notna().any():
        merits["largest relative difference of the limits to neural-tangents"] = float(rows.sources.max())
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """One line for each kind of net, activation and width; the mean of the kernel against its limit in words."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["network", "activation", "width"], sort=False)
    for (network, name, width), some in groups:
        line: dict[str, Any] = {"network": network, "activation": name, "width": width, "seeds": len(some)}
        for kernel in KERNELS:
            line[f"{kernel} scatter"] = average(some[f"{kernel}_scatter"])
            if network == "two_layer":
                off = f"at most {most(some[f'{kernel}_standard_errors']):.1f} standard errors"
            else:
                bias = biases(some, name, kernel)[width]
                off = f"{bias.value:.2e} ± {bias.interval.high - bias.value:.0e} along v"
            line[f"{kernel} mean is off by"] = off
        lines.append(line)
    return pandas.DataFrame(lines)
