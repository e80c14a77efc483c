"""How far apart a step of a method can carry two states of a random gradient net: the worst pair that is found."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.pairs import worst_pairs
from regimes.control.stability import contractivity_radius, real_interval, stability_function
from regimes.control.tableau import Tableau
from regimes.conventions import generator
from regimes.experiments.control.euler_step_limit.config import METHODS, Config
from regimes.experiments.control.euler_step_limit.steps import stepped
from regimes.experiments.control.gradient_nets import Fields, drawn, states
from regimes.experiments.control.layered import named
from regimes.streams import Stability

LONG = 100.0  # h‖A‖²/2 at place 1 for methods without a limit
WITHIN, OPEN, BEYOND = "within", "open", "beyond"


def half_step(tableau: Tableau, place: float) -> float:
    """h‖A‖²/2 at a place: r at 1, half of the real stability interval at 2, linear between and beyond."""
    radius, end = contractivity_radius(tableau), real_interval(tableau) / 2
    if math.isinf(radius):
        return LONG * place
    if place <= 1:
        return place * radius
    return radius + (place - 1) * (end - radius) if place <= 2 else (place - 1) * end


def zone(tableau: Tableau, half: float) -> str:
    """Whether a step is within the radius, beyond the real stability interval, or between the two."""
    if half <= contractivity_radius(tableau) * (1 + 1e-12):
        return WITHIN
    return BEYOND if half > real_interval(tableau) / 2 * (1 + 1e-12) else OPEN


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a net and step: the largest ‖Δz⁺‖/‖Δz‖ found, the factor of the linear net, and that of a plain net.

    The plain net z + h σ(Bz + b) is stepped by Euler's method with the same h; other methods have none beside them.
    """
    name = points[0]["method"]
    tableau, seeds = named(METHODS, name), [point["seed"] for point in points]
    layered = drawn(points[0]["activation"], seeds, 1, config.width, config.width)
    nets = layered.layer(0)
    halves = torch.tensor([half_step(tableau, point["place"]) for point in points], dtype=torch.float64)
    size = 2 * halves / torch.linalg.matrix_norm(nets.weight, 2).square()
    start = states(seeds, config.pairs, config.width, config.radius)
    search = config.search if tableau.explicit else config.implicit_search
    found = {"growth": largest(lambda z: stepped(nets, tableau, size, z), nets, start, config, search)}
    found["linear"] = stability_function(tableau, torch.complex(-2 * halves, torch.zeros_like(halves))).abs()
    plain = torch.full_like(halves, torch.nan)
    if name == "Euler":
        plain = largest(lambda z: z + size[:, None, None] * nets.residual(z), nets, start, config, search)
    columns = found | {"half": halves, "plain": plain}
    rows: list[dict[str, Any]] = [
        {key: float(each[run]) for key, each in columns.items()} for run in range(len(points))
    ]
    return [row | {"zone": zone(tableau, row["half"])} for row in rows]


def largest(end: Any, nets: Fields, start: Tensor, config: Config, search: int) -> Float[Tensor, " nets"]:
    """The largest growth found over pairs of each net, from neighbours, near and far states.

    A third of the pairs starts where Az + b is 0 or large in all entries, as the slopes of some σ are 1 there, and
    along the first singular direction; the other two thirds know nothing of the net.
    """
    draw = generator(0, Stability.SEARCH, config.width)
    random = torch.randn(start.shape, generator=draw, dtype=torch.float64)
    place = torch.arange(start.shape[1])
    number, aims = place % 3, torch.where(place // 3 % 2 == 0, 0.0, 3 * config.radius)[None, :, None]
    shifted = torch.linalg.solve(nets.weight[:, None], (aims - nets.bias[:, None])[..., None])[..., 0]
    first = torch.where((number == 2)[None, :, None], shifted, start)
    steep = torch.linalg.svd(nets.weight).Vh[:, :1]
    near = first + config.radius * torch.where((number == 2)[None, :, None], steep / 1000, random / 100)
    other = torch.where((number == 0)[None, :, None], start.roll(1, 1), near)

    def score(one: Tensor, two: Tensor) -> Tensor:
        return ((end(one) - end(two)).norm(dim=-1) / (one - two).norm(dim=-1)).log()

    return worst_pairs(score, first, other, steps=search).score.amax(1).exp()
