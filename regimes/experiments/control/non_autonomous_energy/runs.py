"""Energies of Hamiltonian networks whose weights change with depth, by any method.

The weights are A(t) = A + ε B cos ωt and b(t) = b + ε c cos ωt of V, and A1(t) of T without a shift, so that T is even
in p and the system is reversible: with (z(t), p(t)) also (z(−t), −p(−t)) solves it. Layer n is the step at t = n h.
In the extended phase space p_t' = −∂H/∂t, and K = H + p_t; p_t is stepped together with p.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.partitioned import change
from regimes.control.tableau import Pair, Tableau
from regimes.conventions import generator
from regimes.experiments.control.halves import drawn, known, potential, pull
from regimes.experiments.control.non_autonomous_energy.config import Config
from regimes.streams import Layered

# Steps before any halving and times, for the orders: the drift of a method that is not symplectic has to stand out of
# what swings, and to stay small itself.
ORDERS = {
    "Euler": (1 / 256, 20.0),
    "Heun": (0.1, 100.0),
    "Kutta 3": (0.1, 100.0),
    "Kutta 4": (0.4, 400.0),
}
OTHERWISE = (0.2, 50.0)


class Swinging(NamedTuple):
    """Weights at t = 0 in the middle of their swing, and how far they swing."""

    middle: tuple[Tensor, ...]  # A1, A2, b2: (runs, hidden, half) and (runs, hidden)
    swing: tuple[Tensor, ...]
    frequency: float

    def at(self, time: float) -> list[Tensor]:
        """A1, A2, b2."""
        wave = torch.cos(torch.tensor(self.frequency * time, dtype=torch.float64))
        return [one + wave * other for one, other in zip(self.middle, self.swing, strict=True)]

    def velocity(self, time: Any, p: Tensor) -> Tensor:
        """z' = ∂T/∂p."""
        a, _, b = self.at(float(time))
        return pull(a, torch.zeros_like(b), p)

    def force(self, time: Any, z: Tensor) -> Tensor:
        """p' = −∂V/∂z."""
        _, a, b = self.at(float(time))
        return -pull(a, b, z)

    def energy(self, time: float, z: Tensor, p: Tensor) -> Float[Tensor, "runs n"]:
        """H = T + V."""
        a1, a2, b = self.at(time)
        return potential(a1, torch.zeros_like(b), p) + potential(a2, b, z)

    def change_of_energy(self, time: float, z: Tensor, p: Tensor) -> Float[Tensor, "runs n"]:
        """∂H/∂t: Σ tanh(A state + b) (A' state + b') of both halves."""
        a1, a2, b = self.at(time)
        wave = -self.frequency * torch.sin(torch.tensor(self.frequency * time, dtype=torch.float64))
        d1, d2, d3 = (wave * each for each in self.swing)
        of_p = (torch.tanh(p @ a1.mT) * (p @ d1.mT)).sum(-1)
        return of_p + (torch.tanh(z @ a2.mT + b[:, None]) * (z @ d2.mT + d3[:, None])).sum(-1)


def swinging(config: Config, seeds: list[int]) -> Swinging:
    """The weights of each run: the first of two drawn layers in the middle, ε times the second as swing."""
    weights = drawn(seeds, 2, config.half, config.hidden)
    middle = (weights.A1[0], weights.A2[0], weights.b2[0])
    return Swinging(
        middle, tuple(config.swing * each for each in (weights.A1[1], weights.A2[1], weights.b2[1])), config.frequency
    )


def starts(config: Config, seeds: list[int]) -> tuple[Tensor, Tensor]:
    """z and p (runs, n, half) from N(0, I), each p also with the other sign."""
    halves = []
    for seed in seeds:
        draw = generator(seed, Layered.DATA)
        halves.append(torch.randn(2, (config.samples + 1) // 2, config.half, generator=draw, dtype=torch.float64))
    z, p = torch.stack(halves, 1)
    return torch.cat([z, z], 1), torch.cat([p, -p], 1)


def followed(
    system: Swinging, method: Pair | Tableau, z: Tensor, p: Tensor, size: float, steps: int
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Time, K − K_0 and H − H_0 (runs, n) before each step and at the end."""
    weights = method.b if isinstance(method, Tableau) else method.second.b
    momentum = torch.zeros(z.shape[:2], dtype=z.dtype)
    first = system.energy(0.0, z, p)
    for number in range(steps + 1):
        time = number * size
        energy = system.energy(time, z, p) - first
        yield time, energy + momentum, energy
        if number == steps:
            return
        added = change(system.velocity, system.force, method, time, z, p, size)
        for weight, each in zip(weights, added.stages, strict=True):
            if weight:
                momentum = momentum - size * weight * system.change_of_energy(float(each.time), each.q, each.p)
        z, p = z + added.q, p + added.p


def course(
    system: Swinging, method: Pair | Tableau, z: Tensor, p: Tensor, size: float, steps: int
) -> tuple[Float[Tensor, " times"], Float[Tensor, "times runs n"], Float[Tensor, "times runs n"]]:
    """The times, and K − K_0 and H − H_0 at each."""
    times, kept, energy = zip(*followed(system, method, z, p, size, steps), strict=True)
    return torch.tensor(times, dtype=torch.float64), torch.stack(kept), torch.stack(energy)


@torch.no_grad()
def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a network; the depths only without halving.

    K_N: root mean square of K − K_0 over the samples and the second half of the first N layers; H_N the same of H.
    For the orders, at step h: spread, the root mean square of K − K_0, and energy, that of H − H_0, over the time;
    drift, that over samples of the slope of K against time by least squares.
    """
    first, seeds = points[0], [point["seed"] for point in points]
    method, system = known(first["method"]), swinging(config, seeds)
    z, p = starts(config, seeds)
    rows: list[dict[str, float]] = [{} for _ in points]
    if first["halvings"] == 0:
        _, kept, energy = course(system, method, z, p, config.size, config.layers)
        for depth in depths(config.layers):
            for name, values in (("K", kept), ("H", energy)):
                found = root_mean_square(values[depth // 2 : depth + 1])
                for row, value in zip(rows, found.tolist(), strict=True):
                    row[f"{name}_{depth}"] = value
    longest, horizon = ORDERS.get(first["method"], OTHERWISE)
    size = longest / 2 ** first["halvings"]
    steps = max(8, round(config.shorter * horizon / size))
    times, kept, energy = course(system, method, z, p, size, steps)
    centred = times - times.mean()
    slopes = torch.einsum("t,trn->rn", centred, kept) / centred.square().sum()
    drift = slopes.square().mean(1).sqrt().tolist()
    for number, row in enumerate(rows):
        row |= {"h": size, "drift": drift[number], "rounding": 1e-15}
        row |= {"spread": root_mean_square(kept)[number].item(), "energy": root_mean_square(energy)[number].item()}
    return rows


def depths(layers: int) -> list[int]:
    """Layers, a third, a tenth, a thirtieth of them; all at least 20."""
    return [depth for share in (30, 10, 3, 1) if (depth := layers // share) >= 20]


def root_mean_square(values: Float[Tensor, "times runs n"]) -> Float[Tensor, " runs"]:
    """Over times and samples."""
    return values.square().mean((0, 2)).sqrt()
