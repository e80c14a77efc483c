"""The start of deep random networks, rebuilt from their end: how far it is off."""

from math import exp, log
from typing import Any

import torch
from torch import Tensor

from regimes.control.layers import Layers, Params
from regimes.control.reversible import Copies, backward, coupling_of, path
from regimes.control.tableau import Tableau
from regimes.experiments.control.layered import drawn, samples
from regimes.experiments.control.reversibility_limit.config import DEFAULT, METHODS, Config

LAYERS = 4
ROUNDINGS = 4  # of a step there and back that no other one undoes


APART = 0.1  # of the copies at the start


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a network: depth N, λ^(−N), and root mean square errors of the rebuilt start.

    error, predicted: from copies that stand apart; equal: from equal copies, as networks start.
    """
    first, seeds = points[0], [point["seed"] for point in points]
    depth, coupling = size(config, first["coupling"], first["span"])
    kind = getattr(torch, first["precision"])
    layers, z = networks(config, seeds, METHODS[first["method"]], depth, kind)
    apart, predicted = there_and_back(layers, Copies(z + APART, z), coupling)
    equal, _ = there_and_back(layers, Copies(z, z), coupling)
    columns = {"error": apart, "predicted": predicted, "equal": equal}
    return [
        {"depth": float(depth), "growth": exp(-depth * log(coupling))}
        | {name: float(each[place]) for name, each in columns.items()}
        for place in range(len(seeds))
    ]


def size(config: Config, coupling: str, span: float) -> tuple[int, float]:
    """Depth and λ: the depth is a multiple of the layers."""
    if coupling == DEFAULT:
        depth = LAYERS * max(1, round(span * config.scale / LAYERS))
        return depth, coupling_of(depth)
    return LAYERS * max(1, round(-span / log(float(coupling)) / LAYERS)), float(coupling)


def networks(
    config: Config, seeds: list[int], tableau: Tableau, depth: int, kind: torch.dtype
) -> tuple[Layers, Tensor]:
    """The networks of all seeds side by side, and their samples (seeds, n, width)."""
    of = [drawn(seed, LAYERS, config.width) for seed in seeds]
    params = [
        {name: torch.stack([one[layer][name] for one in of]).to(kind) for name in ("K", "b")} for layer in range(LAYERS)
    ]
    z = torch.stack([samples(seed, config.samples, config.width)[0] for seed in seeds]).to(kind)
    return Layers(_field, params, tableau, config.horizon, depth // LAYERS), z


def _field(time: float, z: Tensor, params: Params) -> Tensor:
    return torch.tanh(torch.baddbmm((1 + time) * params["b"][:, None], z, params["K"].mT))


def there_and_back(layers: Layers, start: Copies, coupling: float) -> tuple[Tensor, Tensor]:
    """The error of the rebuilt y of each network, and the predicted one.

    predicted² = 4/12 Σ_k λ^(−2k) mean of ulp(y_k)².
    """
    sums, end = torch.zeros(len(start.z), dtype=torch.float64), start
    for number, end in enumerate(path(layers, start, coupling), 1):
        sums += coupling ** (-2 * number) * _ulp(end.y).square().flatten(1).mean(1)
    error = backward(layers, end, coupling).y - start.y
    return error.double().square().flatten(1).mean(1).sqrt(), (sums * ROUNDINGS / 12).sqrt()


def _ulp(y: Tensor) -> Tensor:
    """The distance of neighbouring numbers at y."""
    exponent = torch.frexp(y).exponent
    return torch.ldexp(torch.full_like(y, torch.finfo(y.dtype).eps, dtype=torch.float64), exponent - 1)
