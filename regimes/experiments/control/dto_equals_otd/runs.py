"""How far the gradients by adjoint equations are from those by back-propagation, layer by layer."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.gradients import (
    Gradients,
    backwards_in_time,
    discretise_then_optimise,
    optimise_then_discretise,
)
from regimes.control.layers import Layers
from regimes.experiments.control.dto_equals_otd.config import METHODS, ZERO, Config
from regimes.experiments.control.layered import drawn, field, named, samples

PARTNER, SAME, BACK = "partner", "same", "back"


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a network: for each companion the largest distance of the gradients of a layer, and that of each layer.

    The distance of a layer is ‖g − g_DTO‖ / max over layers of ‖g_DTO‖; g joins the adjoint before the layer and dC/dθ.
    """
    rows = []
    for point in points:
        method, seed = named(METHODS, point["method"], ZERO), point["seed"]
        start, target = samples(seed, config.samples, config.width)
        weights = drawn(seed, config.layers, config.width)
        layers = Layers(field, weights, method, config.horizon, point["substeps"])

        def cost(end: Tensor, target: Tensor = target) -> Tensor:
            return (end - target).square().sum(1).mean() / 2

        exact = discretise_then_optimise(layers, start, cost)
        others = {
            PARTNER: optimise_then_discretise(layers, start, cost),
            SAME: optimise_then_discretise(layers, start, cost, companion=method.a),
            BACK: backwards_in_time(layers, start, cost),
        }
        row = {"h": layers.size}
        for companion, other in others.items():
            gaps = distances(other, exact, point["substeps"])
            row[companion] = float(gaps.max())
            row |= {f"{companion}_{layer}": float(gap) for layer, gap in enumerate(gaps)}
        rows.append(row)
    return rows


def distances(one: Gradients, other: Gradients, substeps: int) -> Float[Tensor, " layers"]:
    """Of each layer, relative to the largest gradient of a layer of the other."""
    gaps = _by_layer(one, substeps) - _by_layer(other, substeps)
    return gaps.norm(dim=1) / _by_layer(other, substeps).norm(dim=1).max()


def _by_layer(found: Gradients, substeps: int) -> Float[Tensor, "layers numbers"]:
    """The adjoint before each layer, and its gradient, in one row."""
    adjoints = found.adjoints[:-1:substeps].flatten(1)
    return torch.cat(
        [adjoints, torch.stack([torch.cat([p.flatten() for p in one.values()]) for one in found.params])], 1
    )
