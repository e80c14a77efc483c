"""Hamiltonian networks of several runs at once: the weights of all runs in one tensor, layers that are steps.

z' = A1ᵀ tanh(A1 p + b1),  p' = −A2ᵀ tanh(A2 z + b2):  the symmetric case of [Celledoni2021]; H is the sum of
Σ log cosh(A1 p + b1) and Σ log cosh(A2 z + b2). Several statements measure on them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from regimes.control.partitioned import Half, change, change_back
from regimes.control.tableau import PAIRS, TABLEAUS, Pair, Tableau
from regimes.conventions import generator
from regimes.data.plane import spiral2d
from regimes.experiments.control.layered import named
from regimes.streams import Layered

METHODS: dict[str, Pair | Tableau] = {each.name: each for each in (*PAIRS, *TABLEAUS)}
SYMPLECTIC = tuple(name for name, each in METHODS.items() if each.symplectic)
Layer = tuple[Tensor, Tensor, Tensor, Tensor]


class Halves(NamedTuple):
    """Weights of all layers and runs: those of ∂H/∂p, and those of ∂H/∂z."""

    A1: Float[Tensor, "layers runs hidden half"]
    b1: Float[Tensor, "layers runs hidden"]
    A2: Float[Tensor, "layers runs hidden half"]
    b2: Float[Tensor, "layers runs hidden"]

    def layer(self, number: int) -> Layer:
        """The weights of one layer."""
        return self.A1[number], self.b1[number], self.A2[number], self.b2[number]


def known(name: str) -> Pair | Tableau:
    """The method of a name; UserError lists the known ones."""
    return named(METHODS, name)


def drawn(seeds: Sequence[int], layers: int, half: int, hidden: int, shift: float = 0.5) -> Halves:
    """Entries of A from N(0, 1/hidden), so that ‖A‖ is of order 1, and of b from N(0, shift²); one run a seed."""
    runs = []
    for seed in seeds:
        draw = generator(seed, Layered.WEIGHTS)
        shapes = ((hidden, half), (hidden,), (hidden, half), (hidden,))
        factors = (hidden**-0.5, shift, hidden**-0.5, shift)
        parts = [
            factor * torch.randn(layers, *shape, generator=draw, dtype=torch.float64)
            for factor, shape in zip(factors, shapes, strict=True)
        ]
        runs.append(parts)
    return Halves(*(torch.stack(parts, 1) for parts in zip(*runs, strict=True)))


def pull(a: Tensor, b: Tensor, state: Float[Tensor, "runs n half"]) -> Float[Tensor, "runs n half"]:
    """Aᵀ tanh(A state + b) for every run."""
    return torch.tanh(state @ a.mT + b[:, None]) @ a


def potential(a: Tensor, b: Tensor, state: Float[Tensor, "runs n half"]) -> Float[Tensor, "runs n"]:
    """Σ log cosh(A state + b)."""
    size = (state @ a.mT + b[:, None]).abs()
    return (size + torch.log1p(torch.exp(-2 * size)) - torch.log(size.new_tensor(2.0))).sum(-1)


def sides(layer: Layer) -> tuple[Half, Half]:
    """z' as a function of p, and p' as one of z, in one layer; neither depends on time."""
    a1, b1, a2, b2 = layer
    return lambda time, p: pull(a1, b1, p), lambda time, z: -pull(a2, b2, z)


def stepped(
    layer: Layer, method: Pair | Tableau, state: Float[Tensor, "runs n width"], size: float, *, back: bool = False
) -> Float[Tensor, "runs n width"]:
    """(z, p), joined along the last axis, after a layer's step, or before the one that ended there."""
    z, p = state.chunk(2, -1)
    added = (change_back if back else change)(*sides(layer), method, 0.0, z, p, size, frozen=True)
    return state + torch.cat([added.q, added.p], -1)


def path(weights: Halves, method: Pair | Tableau, state: Tensor, size: float) -> Iterator[Tensor]:
    """The states before every layer, and the last."""
    yield state
    for number in range(len(weights.A1)):
        state = stepped(weights.layer(number), method, state, size)
        yield state


def jacobian(
    map_: Callable[[Tensor], Tensor], state: Float[Tensor, "runs n width"]
) -> Float[Tensor, "runs n width width"]:
    """∂ map/∂ state of every run and sample, by autograd: one pass for each output, as samples do not mix."""
    leaf = state.detach().requires_grad_()
    end = map_(leaf)
    rows = [torch.autograd.grad(end[..., i].sum(), leaf, retain_graph=True)[0] for i in range(state.shape[-1])]
    return torch.stack(rows, -2)


def omega(width: int) -> Float[Tensor, "width width"]:
    """Ω = (0, I; −I, 0)."""
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    return torch.kron(turn, torch.eye(width // 2, dtype=torch.float64))


def area_defect(found: Float[Tensor, "*some width width"]) -> Float[Tensor, " *some"]:
    """‖JᵀΩJ − Ω‖_F / ‖Ω‖_F."""
    unit = omega(found.shape[-1])
    return (found.mT @ unit @ found - unit).flatten(-2).norm(dim=-1) / unit.norm()


def spirals(seeds: Sequence[int], n: int, width: int) -> tuple[Tensor, Tensor]:
    """Points of two spirals in the first two features of z, all others 0: (runs, n, width), and labels (runs, n)."""
    drawn_ = [spiral2d(n, generator=generator(seed, Layered.DATA)) for seed in seeds]
    x = functional.pad(torch.stack([points for points, _ in drawn_]), (0, width - 2))
    return x, torch.stack([labels for _, labels in drawn_]).double()


def fitted(
    forward: Callable[[Sequence[Tensor], Tensor], Tensor],
    weights: Sequence[Tensor],
    x: Float[Tensor, "runs n width"],
    y: Float[Tensor, "runs n"],
    iterations: int,
    rate: float,
) -> tuple[list[Tensor], Float[Tensor, " runs"]]:
    """Weights after so many steps of Adam on the logistic loss of Σ of the features at the end, and the accuracy.

    All runs are trained at once: Adam works on each weight by itself, and the losses of the runs are added up.
    """

    def loss(own: Sequence[Tensor]) -> Tensor:
        return functional.binary_cross_entropy_with_logits(score(forward(own, x)), y, reduction="none").mean(1).sum()

    found = descended(loss, weights, iterations, rate)
    with torch.no_grad():
        right = (score(forward(found, x)) > 0) == (y > 0.5)
    return found, right.double().mean(1)


def descended(
    loss: Callable[[Sequence[Tensor]], Tensor], weights: Sequence[Tensor], iterations: int, rate: float
) -> list[Tensor]:
    """Weights after so many steps of Adam on a loss, the sum of those of the runs; the given ones stay as they are."""
    own = [each.clone().requires_grad_() for each in weights]
    optimiser = torch.optim.Adam(own, lr=rate)
    for _ in range(iterations):
        optimiser.zero_grad()
        loss(own).backward()
        optimiser.step()
    return [each.detach() for each in own]


def score(end: Float[Tensor, "runs n width"]) -> Float[Tensor, "runs n"]:
    """The output: SHARPNESS times the mean of all features, a fixed readout."""
    return SHARPNESS * end.mean(-1)


SHARPNESS = 10.0
