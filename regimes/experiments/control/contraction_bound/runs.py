"""One-sided Lipschitz constants of random nets, how far apart their flows carry states, and their adjoints.

States start in a ball of radius R. No two solutions move apart, so that of 0 bounds all: ‖z(t)‖ ≤ R + Σ_l h_l ‖f_l(0)‖,
h_l the time of a layer. ν is searched for in the ball of that radius, where all solutions stay, layer by layer; that of
the net is the largest of its layers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.one_sided import OneSided, one_sided_constant
from regimes.control.stepper import step
from regimes.control.tableau import KUTTA4
from regimes.conventions import generator
from regimes.experiments.control.contraction_bound.config import Config
from regimes.experiments.control.contraction_bound.exact import in_the_disc
from regimes.experiments.control.gradient_nets import Fields, drawn, states
from regimes.streams import Stability

TIMES = 8  # at which distances are kept
PULLED = 6  # states of a net whose adjoints are solved
GRADIENT, PLAIN = "gradient", "plain"


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net."""
    (name, width, hidden), seeds = (
        (points[0][axis] for axis in ("activation", "width", "hidden")),
        [config.first_seed + p["seed"] for p in points],
    )
    nets = drawn(name, seeds, config.layers, width, hidden * width)
    singular = torch.linalg.svdvals(nets.weight)
    sampled = states(seeds, config.states, width, config.radius)
    start = sampled[:, : config.pairs]
    time = config.horizon / config.layers
    still = torch.zeros(len(seeds), 1, width, dtype=torch.float64)
    pushes = torch.stack([nets.layer(number).gradient(still) for number in range(config.layers)], 1)
    reach = config.radius + time * pushes.norm(dim=(2, 3)).sum(1)
    columns = {"least": singular[..., -1].square().amin(1), "largest": singular[..., 0].square().amax(1)}
    found = {kind: searched(nets, kind, sampled, reach, config) for kind in (GRADIENT, PLAIN)}
    own = found[GRADIENT]
    columns |= {"nu": own.value, "nu_states": own.at_states, "nu_pairs": own.between_pairs}
    if width == 2:
        whole = nets.flat()
        exact = in_the_disc(whole, reach.repeat_interleave(config.layers), config.grid)
        columns["exact"] = exact.reshape(len(seeds), -1).amax(1)
    else:
        columns["exact"] = torch.full_like(own.value, torch.nan)
    columns["plain"] = found[PLAIN].value
    times = config.horizon * torch.arange(1, TIMES + 1) / TIMES
    for kind in (GRADIENT, PLAIN):
        growth, coarse = (
            distances(nets, kind, start, config, steps) for steps in (config.substeps, config.substeps // 2)
        )
        adjoint, rough = (
            adjoints(nets, kind, start[:, :PULLED], config, steps) for steps in (config.substeps, config.substeps // 2)
        )
        columns |= {f"{kind}_{number + 1}": growth[number] for number in range(TIMES)} | {f"{kind}_adjoint": adjoint}
        if kind == GRADIENT:
            rates = growth.log() / times[:, None]
            errors = (growth / coarse).log().abs() / times[:, None]
            rate, place = rates.max(0)
            columns |= {"rate": rate, "rate_error": errors.gather(0, place[None])[0]}
            columns |= {"adjoint_rate": adjoint.log() / config.horizon}
            columns |= {"adjoint_error": (adjoint / rough).log().abs() / config.horizon}
    columns["horizon"] = torch.full_like(own.value, config.horizon)
    return [{key: float(values[run]) for key, values in columns.items()} for run in range(len(points))]


def searched(nets: Fields, kind: str, start: Tensor, reach: Tensor, config: Config) -> OneSided:
    """ν of each net: the largest of its layers.

    Half of the states are from the ball where solutions start, a quarter from that in which they stay, a quarter from
    its rim.
    """
    whole, layers = nets.flat(), config.layers
    size = reach.repeat_interleave(layers)[:, None, None]
    tried, part = start.repeat_interleave(layers, 0), (torch.arange(start.shape[1]) % 4)[None, :, None]
    tried = torch.where(part == 2, tried * (size / config.radius), tried)
    tried = torch.where(part == 3, size * tried / tried.norm(dim=-1, keepdim=True), tried)
    field = whole.gradient if kind == GRADIENT else whole.residual
    draw = generator(0, Stability.SEARCH, start.shape[-1])

    def within(z: Tensor) -> Tensor:
        distance = z.norm(dim=-1, keepdim=True)
        return z * (size / torch.maximum(distance, size))

    options: dict[str, Any] = {"pairs": config.pairs, "steps": config.search, "hops": config.hops, "within": within}
    found = one_sided_constant(field, tried, generator=draw, batch_axes=2, **options)
    value, at_states, between = (each.reshape(-1, layers).amax(1) for each in found[:3])
    return OneSided(value, at_states, between, found.pairs)


def distances(nets: Fields, kind: str, start: Tensor, config: Config, substeps: int) -> Float[Tensor, "times nets"]:
    """Largest ‖Δ(t)‖/‖Δ(0)‖ over the pairs of a net at T k/8, k = 1..8.

    A pair is a state with the next one, or, for every other state, with one at about a thousandth of the radius.
    """
    n, following = start.shape[1], start.roll(1, 1)
    odd = (torch.arange(n) % 2 == 1)[None, :, None]
    other = torch.where(odd, start + 1e-3 * following, following)
    before, kept = (start - other).norm(dim=-1), []
    for both in _course(nets, kind, torch.cat([start, other], 1), config, substeps):
        kept.append(((both[:, :n] - both[:, n:]).norm(dim=-1) / before).amax(1))
    return torch.stack(kept)


def adjoints(nets: Fields, kind: str, start: Tensor, config: Config, substeps: int) -> Float[Tensor, " nets"]:
    """The largest singular value of ∂z(T)/∂z(0) over the states of a net: ‖p(0)‖ ≤ that · ‖p(T)‖."""
    first = start.clone().requires_grad_()
    *_, end = _course(nets, kind, first, config, substeps)
    width = start.shape[-1]
    rows = [torch.autograd.grad(end[..., one].sum(), first, retain_graph=one + 1 < width)[0] for one in range(width)]
    return torch.linalg.svdvals(torch.stack(rows, 2))[..., 0].amax(1)


def _course(nets: Fields, kind: str, z: Tensor, config: Config, substeps: int) -> Iterator[Tensor]:
    """The states at T k/8, k = 1..8; the last ones also where a layer has no such times within."""
    size = config.horizon / (config.layers * substeps)
    total = config.layers * substeps
    kept = [max(1, round(total * number / TIMES)) for number in range(1, TIMES + 1)]
    taken = 0
    for number in range(config.layers):
        own = nets.layer(number)
        field: Callable[[Tensor], Tensor] = own.gradient if kind == GRADIENT else own.residual
        for _ in range(substeps):
            (z,) = step(lambda time, parts, f=field: (f(parts[0]),), KUTTA4, 0.0, (z,), size).end
            taken += 1
            for _ in range(kept.count(taken)):
                yield z
