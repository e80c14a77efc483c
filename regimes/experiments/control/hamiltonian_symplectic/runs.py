"""Area, volume and the way back of the layers of Hamiltonian networks, for any method that steps them."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from regimes.control.tableau import STORMER_VERLET
from regimes.experiments.control.halves import (
    Halves,
    area_defect,
    drawn,
    fitted,
    jacobian,
    known,
    omega,
    path,
    spirals,
    stepped,
)
from regimes.experiments.control.hamiltonian_symplectic.config import RANDOM, Config

TRAINING_STEP = 0.5  # h of the layers while they are trained


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a network: defects of single layers, of the whole network, and of the way back through it.

    area: root mean square of ‖JᵀΩJ − Ω‖ / ‖Ω‖ over layers and samples, area_most the largest; volume and volume_most
    the same of |det J − 1|; whole: the largest ‖MᵀΩM − Ω‖ / ‖M‖² of the network's Jacobian M; back: the largest error
    of a start rebuilt from its end, relative to the largest entry.
    """
    first = points[0]
    method, size = known(first["method"]), config.longest / 2 ** first["halvings"]
    seeds = tuple(point["seed"] for point in points)
    weights, start, accuracy = networks(config, first["nets"], seeds)
    found = []
    # The same states for every method and step: those of Verlet's steps as long as in training.
    for number, state in zip(range(config.layers), path(weights, STORMER_VERLET, start, TRAINING_STEP), strict=False):
        layer = weights.layer(number)
        found.append(jacobian(lambda z, layer=layer: stepped(layer, method, z, size), state))
    jacobians = torch.stack(found, 1)  # runs, layers, n, width, width
    area, volume = area_defect(jacobians).flatten(1), (torch.linalg.det(jacobians) - 1).abs().flatten(1)
    whole = jacobian(lambda z: list(path(weights, method, z, size))[-1], start)
    unit = omega(start.shape[-1])
    off = torch.linalg.matrix_norm(whole.mT @ unit @ whole - unit) / torch.linalg.matrix_norm(whole, 2) ** 2
    back = _returned(config, weights, method, start, size)
    return [
        {
            "h": size,
            "area": float(area[run].square().mean().sqrt()),
            "area_most": float(area[run].max()),
            "volume": float(volume[run].square().mean().sqrt()),
            "volume_most": float(volume[run].max()),
            "whole": float(off[run].max()),
            "back": float(back[run]),
            "accuracy": float(accuracy[run]),
        }
        for run in range(len(points))
    ]


def networks(config: Config, nets: str, seeds: tuple[int, ...]) -> tuple[Halves, Tensor, Tensor]:
    """Weights, the points at which they are looked at, and the accuracy on those (NaN if not trained)."""
    return _networks(config.model_dump_json(), nets, seeds)


@cache
def _networks(settings: str, nets: str, seeds: tuple[int, ...]) -> tuple[Halves, Tensor, Tensor]:
    """All methods and steps look at the same trained nets."""
    config = Config.model_validate_json(settings)
    start = drawn(seeds, config.layers, config.half, config.hidden)
    x, y = spirals(seeds, config.samples, 2 * config.half)
    if nets == RANDOM:
        return start, x, torch.full((len(seeds),), torch.nan)

    def forward(weights: Any, x: Tensor) -> Tensor:
        return list(path(Halves(*weights), STORMER_VERLET, x, TRAINING_STEP))[-1]

    found, accuracy = fitted(forward, start, x, y, config.iterations, config.rate)
    return Halves(*found), x, accuracy


@torch.no_grad()
def _returned(config: Config, weights: Halves, method: Any, start: Tensor, size: float) -> Tensor:
    """The largest error of the start that is rebuilt from the end, by run, relative to its largest entry."""
    state = list(path(weights, method, start, size))[-1]
    for number in reversed(range(config.layers)):
        state = stepped(weights.layer(number), method, state, size, back=True)
    return (state - start).abs().flatten(1).amax(1) / start.abs().flatten(1).amax(1)
