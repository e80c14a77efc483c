"""Ways to the gradient through many steps of one equation: reversible, by checkpoints of several kinds, by the adjoint.

Checkpoints are on the same pair of copies that the reversible method steps (`pair`: two increments a step), or on the
plain steps of the method (`plain`: one increment a step, another discretisation at half the work).
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from regimes.control.layers import Layers, Params
from regimes.control.reversible import Copies, coupling_of, forward, reversible
from regimes.control.tableau import Tableau
from regimes.conventions import generator


class Tanh:
    """f(t, z, θ) = tanh(z Kᵀ + (1 + t) b), as a network's layer; without a pull-back of its own."""

    def __call__(self, time: float, z: Tensor, params: Params) -> Tensor:
        return torch.tanh(torch.addmm((1 + time) * params["b"], z, params["K"].T))


class PulledTanh(Tanh):
    """The same with its pull-back by hand."""

    def pull(self, time: float, z: Tensor, value: Tensor, params: Params, adjoint: Tensor, sums: Params) -> Tensor:
        inner = torch.ops.aten.tanh_backward(adjoint, value)
        sums["K"].addmm_(inner.T, z)
        sums["b"].add_(inner.sum(0), alpha=1 + time)
        return inner @ params["K"]


class Problem(NamedTuple):
    """One layer of `depth` steps, its start, and what is differentiated at the end: Σ z²/2."""

    depth: int
    samples: int
    width: int
    tableau: Tableau
    pulled: bool = False

    def made(self) -> tuple[Layers, Tensor]:
        """The layers, in float64, and the start; both take gradients."""
        draw = generator(0)
        options = {"generator": draw, "dtype": torch.float64}
        kernel = torch.randn(self.width, self.width, **options) / self.width**0.5
        params = {"K": kernel.requires_grad_(), "b": torch.randn(self.width, **options).requires_grad_()}
        z = torch.randn(self.samples, self.width, **options).requires_grad_()
        field = PulledTanh() if self.pulled else Tanh()
        return Layers(field, [params], self.tableau, 1.0, self.depth), z


def part(layers: Layers, start: int, stop: int) -> Layers:
    """The layers whose steps are those from start to stop, of one layer's; times begin anew, as the field's shift."""
    h = layers.size
    field = layers.field
    moved = lambda time, z, params: field(time + start * h, z, params)  # noqa: E731
    return Layers(moved, layers.params, layers.tableau, (stop - start) * h, stop - start)


def cuts(depth: int) -> list[int]:
    """⌈√L⌉ segments of nearly one length: their ends, from 0."""
    count = math.ceil(depth**0.5)
    return [round(depth * place / count) for place in range(count + 1)]


def stored(layers: Layers, z: Tensor) -> Tensor:
    """Everything is kept: the pair."""
    return reversible(layers, z, rebuild=False)


def rebuilt(layers: Layers, z: Tensor) -> Tensor:
    """The reversible way."""
    return reversible(layers, z)


def plain_stored(layers: Layers, z: Tensor) -> Tensor:
    """Everything is kept: plain steps."""
    return layers.end(z)


def pair_segments(layers: Layers, z: Tensor, *, reentrant: bool = True) -> Tensor:
    """√L checkpoints by torch on the pair."""
    coupling, y = coupling_of(layers.substeps), z
    ends = cuts(layers.substeps)
    for start, stop in pairwise(ends):
        own = part(layers, start, stop)
        move = lambda y, z, own=own: tuple(forward(own, Copies(y, z), coupling))  # noqa: E731
        y, z = checkpoint(move, y, z, use_reentrant=reentrant)  # pyright: ignore
    return y


def plain_segments(layers: Layers, z: Tensor, *, reentrant: bool = True) -> Tensor:
    """√L checkpoints by torch on plain steps."""
    ends = cuts(layers.substeps)
    for start, stop in pairwise(ends):
        own = part(layers, start, stop)
        z = checkpoint(own.end, z, use_reentrant=reentrant)  # pyright: ignore
    return z


def each_step(layers: Layers, z: Tensor) -> Tensor:
    """A checkpoint before each plain step, by torch."""
    for number in range(layers.substeps):
        z = checkpoint(part(layers, number, number + 1).end, z, use_reentrant=True)  # pyright: ignore
    return z


def diffeq(layers: Layers, z: Tensor) -> Tensor:
    """torchdiffeq's adjoint by the classical method of order 4: states are integrated backwards, not rebuilt."""
    from torchdiffeq import odeint_adjoint

    class Func(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = list(layers.params[0].values())

        def forward(self, time: Tensor, state: Tensor) -> Tensor:
            return layers.field(time, state, layers.params[0])  # type: ignore[arg-type]

    func, ends = Func(), torch.tensor([0.0, layers.horizon], dtype=z.dtype)
    method = {1: "euler", 4: "rk4"}[layers.tableau.order]
    how = {"method": method, "options": {"step_size": layers.size}, "adjoint_params": tuple(func.kept)}
    return odeint_adjoint(func, z, ends, **how)[-1]  # type: ignore[index]


def few_kept(layers: Layers, z: Tensor, *, slots: int, pair: bool) -> Tensor:
    """At most `slots` states kept at any depth, by the binomial schedule (Griewank's revolve), which repeats least."""
    return _Few.apply(layers, slots, pair, z, *layers.params[0].values())  # pyright: ignore


class _Few(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layers: Layers, slots: int, pair: bool, z: Tensor, *flat: Tensor) -> Tensor:  # type: ignore[override]
        ctx.layers, ctx.slots, ctx.pair = layers, slots, pair
        ctx.save_for_backward(z)
        return _advanced(layers, pair, (z, z) if pair else (z,), 0, layers.substeps)[0]

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        (z,), layers = ctx.saved_tensors, ctx.layers
        sums = [torch.zeros_like(each) for each in layers.params[0].values()]
        state = (z, z) if ctx.pair else (z,)
        adjoint = (gradient, torch.zeros_like(gradient))[: len(state)]
        back = _reversed(layers, ctx.pair, state, 0, layers.substeps, ctx.slots, adjoint, sums)
        return None, None, None, sum(back), *sums


def _advanced(layers: Layers, pair: bool, state: tuple[Tensor, ...], start: int, stop: int) -> tuple[Tensor, ...]:
    if start == stop:
        return state
    own = part(layers, start, stop)
    return tuple(forward(own, Copies(*state), coupling_of(layers.substeps))) if pair else (own.end(state[0]),)


def _reversed(layers, pair, state, start, stop, slots, adjoint, sums):
    """The adjoint before step `start`, from that after step `stop`; the state at the start is one of the slots."""
    while stop - start > 1:
        steps = stop - start
        if slots == 1:
            middle = stop - 1
        else:
            repeats = next(r for r in range(steps) if math.comb(slots + r, slots) >= steps)
            middle = start + min(steps - 1, math.comb(slots + repeats - 1, slots))
        with torch.no_grad():
            inner = _advanced(layers, pair, state, start, middle)
        adjoint = _reversed(layers, pair, inner, middle, stop, max(1, slots - 1), adjoint, sums)
        stop = middle
    with torch.enable_grad():
        leaves = [each.detach().requires_grad_() for each in state]
        ends = _advanced(layers, pair, tuple(leaves), start, stop)
    params = list(layers.params[0].values())
    found = torch.autograd.grad(ends, [*leaves, *params], adjoint, allow_unused=True)
    for total, change in zip(sums, found[len(leaves) :], strict=True):
        total += 0 if change is None else change
    return tuple(torch.zeros_like(state[0]) if each is None else each for each in found[: len(leaves)])


def by_hand(layers: Layers, z: Tensor) -> Tensor:
    """√L checkpoints of the pair, all states of a segment kept, with the pull-back by hand: no graph at all."""
    return _ByHand.apply(layers, z, *layers.params[0].values())  # pyright: ignore


class _ByHand(torch.autograd.Function):
    """The strongest rival: the arithmetic of the reversible way, but states are computed again and kept."""

    @staticmethod
    def forward(ctx, layers: Layers, z: Tensor, *flat: Tensor) -> Tensor:  # type: ignore[override]
        kept, state = [], Copies(z, z)
        ends = cuts(layers.substeps)
        for start, stop in pairwise(ends):
            kept.append(state)
            state = forward(part(layers, start, stop), state, coupling_of(layers.substeps))
        ctx.layers, ctx.ends = layers, ends
        ctx.save_for_backward(*(each for copies in kept for each in copies))
        return state.y

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        layers, ends, coupling = ctx.layers, ctx.ends, coupling_of(ctx.layers.substeps)
        params, h, saved = layers.params[0], layers.size, ctx.saved_tensors
        params = {name: each.detach() for name, each in params.items()}
        sums = {name: torch.zeros_like(each) for name, each in params.items()}
        p_y, p_z = gradient.clone(), torch.zeros_like(gradient)
        for segment in reversed(range(len(ends) - 1)):
            y, z = saved[2 * segment : 2 * segment + 2]
            kept = []
            for number in range(ends[segment], ends[segment + 1]):
                first = _kept(layers, params, number * h, z, h)
                y = _sum(layers, torch.add(coupling * y, z, alpha=1 - coupling), first[1])
                second = _kept(layers, params, (number + 1) * h, y, -h)
                z = _sum(layers, z, second[1])
                kept.append((number, first, second))
            while kept:
                number, first, second = kept.pop()
                p_y += _back(layers, params, (number + 1) * h, second, -h, p_z, sums)
                back = _back(layers, params, number * h, first, h, p_y, sums)
                p_z.add_(p_y, alpha=1 - coupling).add_(back)
                p_y *= coupling
        return None, p_y + p_z, *sums.values()


def _kept(layers: Layers, params: Params, time: float, z: Tensor, size: float) -> tuple[list[Tensor], list[Tensor]]:
    tableau, states, slopes = layers.tableau, [z], [layers.field(time, z, params)]
    for row, share in zip(tableau.a[1:], tableau.c[1:], strict=True):
        state = z
        for weight, slope in zip(row, slopes, strict=False):
            state = torch.add(state, slope, alpha=weight * size) if weight else state
        states.append(state)
        slopes.append(layers.field(time + share * size, state, params))
    return states, slopes


def _sum(layers: Layers, base: Tensor, slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(layers.tableau.b, slopes, strict=True):
        base = torch.add(base, slope, alpha=weight * layers.size)
    return base


def _back(layers: Layers, params: Params, time: float, kept, size: float, adjoint: Tensor, sums: Params) -> Tensor:
    tableau, (states, slopes) = layers.tableau, kept
    backs: list[Tensor] = [adjoint] * tableau.stages
    for i in reversed(range(tableau.stages)):
        own = adjoint * (layers.size * tableau.b[i])
        for j in range(i + 1, tableau.stages):
            if tableau.a[j][i]:
                own.add_(backs[j], alpha=size * tableau.a[j][i])
        at = time + tableau.c[i] * size
        backs[i] = layers.field.pull(at, states[i], slopes[i], params, own, sums)  # type: ignore[attr-defined]
    return sum(backs[1:], backs[0])


Way = Callable[[Layers, Tensor], Tensor]
KNOWN = {"reversible, pull-back by hand": rebuilt, "pair, √L checkpoints by hand": by_hand}
WAYS: dict[str, Way] = {
    "pair, all kept": stored,
    "reversible": rebuilt,
    "pair, √L checkpoints of torch": pair_segments,
    "pair, √L checkpoints of torch, without reentry": partial(pair_segments, reentrant=False),
    "pair, 4 states kept": partial(few_kept, slots=2, pair=True),
    "plain steps, all kept": plain_stored,
    "plain steps, √L checkpoints of torch": plain_segments,
    "plain steps, 4 states kept": partial(few_kept, slots=4, pair=False),
    "plain steps, a checkpoint each": each_step,
    "torchdiffeq's adjoint": diffeq,
    **KNOWN,
}
