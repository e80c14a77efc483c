"""Kernels of random finite nets and their deviations from the limits.

The tangent kernels of two-layer nets are taken by regimes.tangent.kernel.ntk from the module TwoLayer, the limits from
the closed forms. Deep nets are evaluated as ensembles. Their bias is far below the scatter of one net, so that three
things are done: many nets, in proportion to m, which keeps the relative error the same at all widths; not the norm of
the deviation, which scatter alone would fill, but its component along ONE fixed direction v, which is linear and so
unbiased; and for v the direction in which the bias is seen best, C⁻¹b, with the mean deviation b and the covariance C
of the entries from other nets, of the smallest width. (For a ReLU the diagonal has no bias but most of the scatter: v
subtracts it.)
"""

from typing import Any

import torch
from torch import Tensor

from regimes.activations import Activation, activation
from regimes.conventions import generator
from regimes.data.synthetic import sphere
from regimes.experiments.lazy.infinite_width.config import Config
from regimes.models.two_layer import TwoLayer, ntk_scale
from regimes.streams import InfiniteWidth
from regimes.tangent import neural_tangents
from regimes.tangent.infinite import Kernels, dense_kernels, two_layer_nngp, two_layer_ntk
from regimes.tangent.kernel import ntk
from regimes.tangent.random_nets import random_dense_kernels

KERNELS = ("ntk", "nngp")


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a seed: relative deviations from the limits, of one kind of net at one width."""
    first = points[0]
    function = {"two_layer": _two_layer, "deep": _deep}[first["network"]]
    return function(config, activation(first["activation"]), first["width"], [point["seed"] for point in points])


def sphere_points(config: Config) -> Tensor:
    """Points on the sphere of radius √d, the same for all nets."""
    return config.inputs**0.5 * sphere(config.samples, config.inputs, generator=generator(0, InfiniteWidth.INPUTS))


def deviation(kernel: Tensor, limit: Tensor) -> Tensor:
    """Upper triangle of (Θ − Θ_∞)/‖Θ_∞‖."""
    row, column = torch.triu_indices(len(limit), len(limit))
    return ((kernel - limit) / limit.norm())[..., row, column]


def _two_layer(config: Config, unit: Activation, width: int, seeds: list[int]) -> list[dict[str, Any]]:
    x = sphere_points(config)
    limits = Kernels(two_layer_nngp(x, activation=unit), two_layer_ntk(x, activation=unit))
    found: dict[str, list[Tensor]] = {kernel: [] for kernel in KERNELS}
    for seed in seeds:
        source = generator(seed, InfiniteWidth.TWO_LAYER, width)
        net = TwoLayer(config.inputs, width, activation=unit, scale=ntk_scale(width), generator=source)
        hidden = unit.value(net.preactivations(x)).detach()
        found["ntk"].append(ntk(net, x, outputs="trace"))
        found["nngp"].append(hidden @ hidden.T / width)
    rows: list[dict[str, Any]] = [{} for _ in seeds]
    for kernel in KERNELS:
        stack, limit = torch.stack(found[kernel]), getattr(limits, kernel)
        entries = deviation(stack, limit)
        errors = entries.std(0) / len(seeds) ** 0.5
        largest = float((entries.mean(0).abs() / errors).max())
        for row, net_kernel in zip(rows, stack, strict=True):
            row[f"{kernel}_scatter"] = float((net_kernel - limit).norm() / limit.norm())
            row[f"{kernel}_standard_errors"] = largest
    return rows


def _deep(config: Config, unit: Activation, width: int, seeds: list[int]) -> list[dict[str, Any]]:
    x = sphere_points(config)
    options = {"depth": config.depth, "activation": unit, "sigma_w": config.sigma_w, "sigma_b": config.sigma_b}
    limits = dense_kernels(x, **options)
    narrowest = min(config.width_deep)
    chunks = [min(500, config.pilot - start) for start in range(0, config.pilot, 500)]
    source = generator(0, InfiniteWidth.PILOT)
    pilot = [random_dense_kernels(x, nets=nets, width=narrowest, generator=source, **options) for nets in chunks]
    directions = {}
    for kernel in KERNELS:
        limit = getattr(limits, kernel)
        entries = torch.cat([deviation(getattr(part, kernel), limit) for part in pilot])
        direction = torch.linalg.solve(entries.T.cov(), entries.mean(0))
        directions[kernel] = direction / direction.norm()
    rows = []
    for seed in seeds:
        nets = random_dense_kernels(
            x, nets=config.nets, width=width, generator=generator(seed, InfiniteWidth.DEEP, width), **options
        )
        row: dict[str, Any] = {"sources": _difference(config, x, limits, options)} if seed == seeds[0] else {}
        for kernel in KERNELS:
            limit = getattr(limits, kernel)
            row[f"{kernel}_bias"] = float((deviation(getattr(nets, kernel), limit) @ directions[kernel]).mean())
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
