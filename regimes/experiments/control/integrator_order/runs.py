"""Errors of integrators at the end of two problems that depend on time.

Oscillator: x' = y + u cos ωt, y' = v cos ωt − x from a random start, with ω from 1.5 to 2.5, away from its own 1. A
solution is x = a cos ωt + b sin ωt, y = c cos ωt + d sin ωt with  b ω = c + u, −a ω = d, d ω = v − a, −c ω = −b,  hence
a = v/(1 − ω²), d = −a ω, c = u/(ω² − 1), b = c ω; the rest of the start turns with frequency 1.
Network: four random layers, each for a quarter of the time; truth is Gauss's method of order 6 with many more steps.
"""

import math
from typing import Any

import torch
from torch import Tensor

from regimes.control.layers import Layers
from regimes.control.stepper import Parts, Size, step
from regimes.control.tableau import GAUSS3, Tableau
from regimes.conventions import generator
from regimes.experiments.control.integrator_order.config import METHODS, OSCILLATOR, Config
from regimes.experiments.control.layered import drawn, field, named, samples
from regimes.streams import Layered

LAYERS = 4
# Steps before any halving, by order: errors then fall towards rounding, and do not reach it.
LONGEST = {1: 256, 2: 64, 3: 48, 4: 32, 5: 32, 6: 16}
FINE = 96  # steps of a layer for the truth
ROUNDING = 1e-15


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a problem: the step h, and the error at the end, root mean square over the entries."""
    rows = []
    for point in points:
        method = named(METHODS, point["method"])
        steps = LONGEST[method.order] * 2 ** point["halvings"]
        of = oscillator if point["problem"] == OSCILLATOR else network
        end, exact = of(config, point["seed"], method, steps)
        rounding = ROUNDING * steps**0.5 * float(exact.square().mean().sqrt())
        error = float((end - exact).square().mean().sqrt())
        rows.append({"h": config.horizon / steps, "error": error, "rounding": rounding})
    return rows


def oscillator(config: Config, seed: int, method: Tableau, steps: int) -> tuple[Tensor, Tensor]:
    """The last state (2), and the exact one."""
    draw = generator(seed, Layered.WEIGHTS)
    u, v, start_x, start_y = torch.randn(4, generator=draw, dtype=torch.float64).tolist()
    omega = 1.5 + torch.rand(1, generator=draw, dtype=torch.float64).item()

    def pushed(time: Size, parts: Parts) -> Parts:
        x, y = parts
        wave = math.cos(omega * float(time))
        return y + u * wave, v * wave - x

    parts: Parts = (torch.tensor([start_x], dtype=torch.float64), torch.tensor([start_y], dtype=torch.float64))
    for number in range(steps):
        size = config.horizon / steps
        parts = step(pushed, method, number * size, parts, size).end
    a, c = v / (1 - omega**2), u / (omega**2 - 1)
    b, d = c * omega, -a * omega
    wave, other = math.cos(omega * config.horizon), math.sin(omega * config.horizon)
    cos, sin = math.cos(config.horizon), math.sin(config.horizon)
    x, y = start_x - a, start_y - c
    exact = [a * wave + b * other + x * cos + y * sin, c * wave + d * other + y * cos - x * sin]
    return torch.cat(parts), torch.tensor(exact, dtype=torch.float64)


def network(config: Config, seed: int, method: Tableau, steps: int) -> tuple[Tensor, Tensor]:
    """The last states (n, width), and those by many steps of order 6."""
    start = samples(seed, config.samples, config.width)[0]
    layers = Layers(field, drawn(seed, LAYERS, config.width), method, config.horizon, steps // LAYERS)
    return layers.end(start), layers._replace(tableau=GAUSS3, substeps=FINE).end(start)
