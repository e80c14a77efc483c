"""Segments of residual blocks that train in constant memory: states are rebuilt on the way back, not stored.

Blocks with an exact `inverse` (Hamiltonian ones) rebuild by it, and the network stays the one that it was. Any other
block z ↦ z + v(z) is run in two copies of the state, by the scheme of `control.reversible` with λ = e^(−1/L):
    y⁺ = λ y + (1 − λ) z + v(z),   z⁺ = z + v(y⁺),
both begun at the segment's start; y goes on to the next segment, and its steps are those that transport counts. Each
block is then called twice, and the network is another one than without copies. A first block with a shortcut, from
another space, is run as it is. Source: [McCallumFoster2024].
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from regimes.checks import kind
from regimes.control.reversible import coupling_of, require_coupling
from regimes.errors import RunFailed
from regimes.models.measured import widened
from regimes.models.residual import Block, Move, ResidualNet, Segment, require_regroups
from regimes.models.timed import TimedSegment
from regimes.modules import draws_chance
from regimes.modules.modes import buffers_restored, with_running_statistics
from regimes.modules.samples import readable
from regimes.modules.settings import present_autocast

CLOSE = 0.05  # relative distance to which the rebuilt start must be the one that there was


class ReversibleSegment(Segment):
    """A segment whose backward pass in training mode rebuilds its states from the last one.

    The trace of a training pass has the squares of all steps, which is what least action at p = 2 needs; of states and
    steps only the first and last states, the others are NaN without memory. In eval mode, without gradients and under
    torch.func everything is computed and traced as in other segments. Batch norms take in the batch once for each
    call on the way forward, and nothing on the way back. ValueError: blocks that draw random numbers.
    coupling: λ, by default e^(−1/L) of the L blocks within the space.
    """

    def __init__(self, blocks: Iterable[nn.Module], *, coupling: float | None = None) -> None:
        super().__init__(blocks)
        require_coupling("ReversibleSegment", coupling)
        chance = [type(part).__name__ for part in self.modules() if _draws(part)]
        if chance:
            raise ValueError(
                f"reversible blocks are computed twice and must come out alike; these have {chance[0]}, which draws "
                "random numbers. Leave it out."
            )
        within = len(self.blocks) - self.changes_space
        self.coupling = coupling_of(max(1, within)) if coupling is None else coupling
        self.exact = all(hasattr(block, "inverse") for block in self.within())

    def within(self) -> list[Block]:
        """The blocks that act within the segment's space."""
        return [self.block(number) for number in range(int(self.changes_space), len(self.blocks))]

    def moves(self, z: Float[Tensor, "n *feature"]) -> Iterator[Move]:
        """What each block does in turn; with copies, to y."""
        if self.changes_space:
            entered = self.block(0).move(z)
            yield entered
            z = entered.end
        y = z = widened(z)
        for block in self.within():
            if self.exact:
                moved = block.move(z)
                z = moved.end
                yield moved
            else:
                end, z = self.pair(block, y, z)
                yield _move(y, end)
                y = end

    def pair(self, block: Block, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Both copies after a block."""
        y = torch.add(self.coupling * y, z, alpha=1 - self.coupling) + increment(block, z)
        return y, z + increment(block, y)

    def maps(self) -> list[Any]:
        """Blocks that are maps of the state alone; with copies the segment as a whole is one."""
        return super().maps() if self.exact or not self.within() else [self.transport]

    def traced(self, z: Float[Tensor, "n *feature"]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """States, steps and squares; while training states and steps that are not kept are NaN, without memory."""
        if not self._rebuilds(z):
            return super().traced(z)
        entered = [self.block(0).move(z)] if self.changes_space else []
        start = entered[0].end if entered else z
        end, squares = self._rebuilt(start)
        count = len(self.within())
        missing = end.detach().new_full((), torch.nan).expand_as(end)
        states = [start, *[missing] * (count - 1), end]
        if entered:
            states = [entered[0].start, *states]
        steps = [*(moved.step for moved in entered), *[missing] * count]
        return states, steps, [*(moved.squares for moved in entered), *squares.unbind()]

    def transport(self, z: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """The segment's map within its space."""
        if self._rebuilds(z):
            return self._rebuilt(z)[0]
        y = z = widened(z)
        for block in self.within():
            if self.exact:
                y = z = block.end(z)
            else:
                y, z = self.pair(block, y, z)
        return y

    def forward(self, z: Float[Tensor, "n *feature"]) -> Tensor:
        """The state after the last block."""
        return self.transport(self.block(0)(z) if self.changes_space else z)

    def _rebuilds(self, z: Tensor) -> bool:
        wanted = self.training and torch.is_grad_enabled() and len(self.within()) > 0
        return wanted and readable()

    def _rebuilt(self, z: Tensor) -> tuple[Tensor, Tensor]:
        weights = {id(each): each for block in self.within() for each in block.parameters() if each.requires_grad}
        return _Rebuilt.apply(self, widened(z), *weights.values())  # pyright: ignore[reportReturnType]


def reversible(model: ResidualNet, *, coupling: float | None = None) -> ResidualNet:
    """The same modules in reversible segments: training takes the memory of one block, at any depth.

    Where all blocks of a segment have an inverse it computes the same; else in two copies, see `ReversibleSegment`.
    ValueError: a model that is no ResidualNet, blocks as particles, blocks that draw random numbers.
    """
    kind("reversible", "model", model, ResidualNet, "a ResidualNet")
    segments = [model.segment(index) for index in range(len(model.segments))]
    if any(isinstance(segment, TimedSegment) for segment in segments):
        raise ValueError(
            "reversible segments have blocks in a fixed order; these are particles, sorted by their times. Leave out "
            "one of the two."
        )
    require_regroups("reversible", model)
    made = [ReversibleSegment(list(segment.blocks), coupling=coupling) for segment in segments]
    return ResidualNet(model.encoder, made, model.head)


def increment(block: Block, z: Tensor) -> Tensor:
    """v(z), the step of a block within its space."""
    return block.move(z).step


def _draws(part: nn.Module) -> bool:
    return draws_chance(part) and not (isinstance(part, nn.modules.dropout._DropoutNd) and part.p == 0)


def _move(start: Tensor, end: Tensor) -> Move:
    step = end - start
    return Move(start, step, end, step.square().sum())


class _Rebuilt(torch.autograd.Function):
    """The end of a segment and Σ v² of each step, by the blocks within its space."""

    @staticmethod
    def forward(ctx: Any, segment: ReversibleSegment, start: Tensor, *weights: Tensor) -> Any:  # type: ignore[override]
        y = z = start
        squares = []
        for block in segment.within():
            if segment.exact:
                moved = block.move(z)
                y = z = moved.end
            else:
                end, z = segment.pair(block, y, z)
                moved, y = _move(y, end), end
            squares.append(moved.squares)
        ctx.segment, ctx.cast = segment, present_autocast(start.device)
        ctx.save_for_backward(start, y, z, *weights)
        return y, torch.stack(squares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, squares: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        segment: ReversibleSegment = ctx.segment
        start, y, z, *weights = ctx.saved_tensors
        sums = {id(each): torch.zeros_like(each) for each in weights}
        step = _back_exact if segment.exact else _back_pair
        p_y, p_z = gradient, torch.zeros_like(gradient)
        blocks = nn.ModuleList(segment.within())  # a first block before them has a graph of its own
        norms = any(norm.training for norm in with_running_statistics(blocks))
        with ctx.cast(), buffers_restored(blocks) if norms else nullcontext():
            for place, block in reversed(list(enumerate(segment.within()))):
                y, z, p_y, p_z = step(segment, block, (y, z, p_y, p_z), squares[place], sums)
        off = float((y - start).norm() / start.norm().clamp(min=torch.finfo(start.dtype).tiny))
        if off > CLOSE:
            raise RunFailed(
                f"rebuilt states are off by {off:.2g} of the start of their segment: rounding has grown on the way "
                "back, or blocks do not come out alike when they are called again. Train without reversible, with a "
                "smaller learning rate, or in float64."
            )
        return None, p_y if segment.exact else p_y + p_z, *sums.values()


State = tuple[Tensor, Tensor, Tensor, Tensor]  # y, z and their adjoints


def _back_pair(
    segment: ReversibleSegment, block: Block, after: State, square: Tensor, sums: Mapping[int, Tensor]
) -> State:
    (y, z, p_y, p_z), coupling = after, segment.coupling
    step, back = _pulled(block, y, p_z, sums)
    z, p_y = z - step, p_y + back
    graph = _graph(block, z)
    before = torch.add((y - graph[1].detach()) / coupling, z, alpha=-(1 - coupling) / coupling)
    pushed = 2 * square * (y - before)
    p_y = p_y + pushed
    back = _pull(block, *graph, p_y, sums)
    return before, z, coupling * p_y - pushed, p_z + (1 - coupling) * p_y + back


def _back_exact(
    segment: ReversibleSegment, block: Block, after: State, square: Tensor, sums: Mapping[int, Tensor]
) -> State:
    _, end, p, still = after
    with torch.no_grad():
        z = cast(Any, block).inverse(end)
    leaf, step = _graph(block, z)
    p_step = p + 2 * square * step.detach()
    return z, z, p + _pull(block, leaf, step, p_step, sums), still


def _graph(block: Block, z: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf at z, and the step from it with its graph."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        return leaf, increment(block, leaf)


def _pulled(block: Block, z: Tensor, adjoint: Tensor, sums: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
    leaf, step = _graph(block, z)
    return step.detach(), _pull(block, leaf, step, adjoint, sums)


def _pull(block: Block, leaf: Tensor, step: Tensor, adjoint: Tensor, sums: Mapping[int, Tensor]) -> Tensor:
    """The adjoint pulled back to the leaf; what reaches the block's weights is added to `sums`."""
    weights: Sequence[Tensor] = [each for each in block.parameters() if id(each) in sums]
    back, *changes = torch.autograd.grad(step, [leaf, *weights], adjoint.to(step.dtype), allow_unused=True)
    for weight, change in zip(weights, changes, strict=True):
        if change is not None:
            sums[id(weight)].add_(change)
    return torch.zeros_like(leaf) if back is None else back
