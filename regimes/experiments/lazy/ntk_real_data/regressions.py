"""Ridge regressions with infinite and finite kernels, all choices by the validation error.

Of candidates with the same validation error that with the smaller mean square error is taken. The ridge is added to
the diagonal as a multiple of the kernel's mean diagonal.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.experiments.lazy.ntk_real_data.config import Config
from regimes.experiments.lazy.ntk_real_data.samples import CLASSES, Parts, error, prepared
from regimes.models.mlp import MLP
from regimes.streams import RealData
from regimes.tangent.infinite import dense_kernels
from regimes.tangent.kernel import ntk

ROWS = 1000  # test images at a time
WINDOWS = (1, 3)


class Choice(NamedTuple):
    """What was chosen on validation images, with their error and mean square error there."""

    error: float
    square: float
    ridge: float
    depth: int
    window: int = 1
    unit: bool = False


def coefficients(kernel: Float[Tensor, "n n"], y: Float[Tensor, "n k"], ridge: float) -> Float[Tensor, "n k"]:
    """(K + ridge·mean diagonal·I)⁻¹ y."""
    matrix = kernel.clone()
    matrix.diagonal().add_(ridge * float(kernel.diagonal().mean()))
    return torch.cholesky_solve(y, torch.linalg.cholesky(matrix))


def choices(
    kernel: Float[Tensor, "n n"], across: Float[Tensor, "n1 n"], y: Tensor, held: Tensor, config: Config, **how: Any
) -> Iterator[Choice]:
    """One choice for each ridge, with its errors on the held-out samples."""
    for ridge in config.ridges:
        outputs = across @ coefficients(kernel, y, ridge)
        yield Choice(error(outputs, held), float((outputs - held).square().sum(1).mean()), ridge, **how)


def infinite(config: Config, samples: Parts, *, tuned: bool) -> dict[str, float]:
    """The infinite kernel: of the nets' depth on plain images; tuned: depth, filter and unit norm are chosen, too.

    All choices are made with the first `select` training images, and hold for all of them.
    """
    candidates = product(config.depths, WINDOWS, (False, True)) if tuned else [(config.depth, 1, False)]
    train, held, test = samples
    few = slice(0, config.select)
    found: list[Choice] = []
    for depth, window, unit in candidates:
        x, x_held = (prepared(part.x, window=window, unit=unit) for part in (train, held))
        options: dict[str, Any] = {"depth": depth, "activation": RELU}
        kernel, across = dense_kernels(x[few], **options).ntk, dense_kernels(x_held, x[few], **options).ntk
        how: dict[str, Any] = {"depth": depth, "window": window, "unit": unit}
        found += choices(kernel, across, train.y[few], held.y, config, **how)
    best = min(found)
    options = {"depth": best.depth, "activation": RELU}
    x, x_test = (prepared(part.x, window=best.window, unit=best.unit) for part in (train, test))
    fit = coefficients(dense_kernels(x, **options).ntk, train.y, best.ridge)
    outputs = torch.cat([dense_kernels(rows, x, **options).ntk @ fit for rows in x_test.split(ROWS)])
    return row(outputs, test.y, best)


def start(config: Config, inputs: int, width: int, seed: int) -> MLP:
    """The net of one seed at its first weights, in the NTK parametrisation."""
    draw = generator(seed, RealData.WEIGHTS, width, inputs)
    return MLP((inputs, *[width] * config.depth, CLASSES), activation=RELU, generator=draw)


def mean_kernel(net: MLP, x: Tensor, other: Tensor | None = None) -> Float[Tensor, "n1 n2"]:
    """The tangent kernel of a net, the mean over its outputs: one kernel that serves all of them."""
    return ntk(net, x, other, outputs="trace") / CLASSES


def finite(config: Config, samples: Parts, width: int, seed: int) -> dict[str, float]:
    """The mean kernel of a net at its first weights."""
    train, held, test = samples
    x, x_held, x_test = (prepared(part.x) for part in samples)
    net = start(config, x.shape[1], width, seed)
    kernel, across = mean_kernel(net, x), mean_kernel(net, x_held, x)
    best = min(choices(kernel, across, train.y, held.y, config, depth=config.depth))
    fit = coefficients(kernel, train.y, best.ridge)
    outputs = torch.cat([mean_kernel(net, rows, x) @ fit for rows in x_test.split(ROWS)])
    return row(outputs, test.y, best)


def row(outputs: Tensor, y: Tensor, best: Choice) -> dict[str, float]:
    """Error and mean square error on the test images, and what had been chosen."""
    return {
        "error": error(outputs, y),
        "square": float((outputs - y).square().sum(1).mean()),
        "validation_error": best.error,
        "ridge": best.ridge,
        "depth": float(best.depth),
        "window": float(best.window),
        "unit": float(best.unit),
    }
