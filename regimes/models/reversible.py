"""Segments of residual blocks that train in constant memory: states are rebuilt on the way back, not stored.

Blocks with an exact `inverse` (Hamiltonian ones) rebuild by it, and the network stays the one that it was. Any other
block z ↦ z + v(z) is run in two copies of the state, by the scheme of `control.reversible` with λ = e^(−1/L):
    y⁺ = λ y + (1 − λ) z + v(z),   z⁺ = z + v(y⁺),
both begun at the segment's start; y goes on to the next segment, and its steps are those that transport counts. Each
block is then called twice, and the network is another one than without copies. A first block with a shortcut, from
another space, is run as it is. Source: [McCallumFoster2024].
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from regimes.checks import kind
from regimes.control.reversible import coupled, coupling_of, require_coupling
from regimes.models.inner_product import wide, widened
from regimes.models.measured import measured_step
from regimes.models.rebuilding import back_exact, back_pair, increment, require_rebuilt
from regimes.models.residual import Block, Move, ResidualNet, Segment, require_regroups
from regimes.models.timed import TimedSegment
from regimes.modules import draws_chance
from regimes.modules.modes import buffers_restored, with_running_statistics
from regimes.modules.samples import readable
from regimes.modules.settings import present_autocast


class ReversibleSegment(Segment):
    """A segment whose backward pass in training mode rebuilds its states from the last one.

    The trace of a training pass has the squares of all steps, which is what least action at p = 2 needs; of states and
    steps only the first and last states, the others are NaN without memory. In eval mode, without gradients and under
    torch.func everything is computed and traced as in other segments. Batch norms take in the batch once for each
    call on the way forward, and nothing on the way back. ValueError: blocks that draw random numbers; weights in half
    precision, outside autocast: states are kept in float32 at least, and these weights cannot take them.
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
        y = z = self._begun(z)
        for block in self.within():
            if self.exact:
                moved = block.move(z)
                z = moved.end
                yield moved
            else:
                end, z = self.pair(block, y, z)
                moved = _move(y, end)
                y = moved.end
                yield moved

    def pair(self, block: Block, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Both copies after a block."""
        y = coupled(y, z, self.coupling) + increment(block, z)
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
        y = z = self._begun(z)
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

    def _begun(self, z: Tensor, rebuilt: bool = False) -> Tensor:
        """The start in float32 at least; blocks with an inverse whose states are kept take it as it is."""
        if not _halved(self.within(), z.device.type):
            return widened(z)
        if self.exact and not rebuilt:
            return z
        raise ValueError(_HALF)

    def _rebuilt(self, z: Tensor) -> tuple[Tensor, Tensor]:
        weights = {id(each): each for block in self.within() for each in block.parameters() if each.requires_grad}
        return _Rebuilt.apply(self, self._begun(z, True), *weights.values())  # pyright: ignore[reportReturnType]


def reversible(model: ResidualNet, *, coupling: float | None = None) -> ResidualNet:
    """The same modules in reversible segments: training takes the memory of one block, at any depth.

    Where all blocks of a segment have an inverse it computes the same; else in two copies, see `ReversibleSegment`.
    ValueError: a model that is no ResidualNet, blocks as particles, blocks that draw random numbers, weights in half
    precision.
    """
    kind("reversible", "model", model, ResidualNet, "a ResidualNet")
    segments = [model.segment(index) for index in range(len(model.segments))]
    if any(isinstance(segment, TimedSegment) for segment in segments):
        raise ValueError(
            "reversible segments have blocks in a fixed order; these are particles, sorted by their times. Leave out "
            "one of the two."
        )
    require_regroups("reversible", model)
    for segment in segments:
        if _halved([segment.block(number) for number in range(len(segment.blocks))], None):
            raise ValueError(_HALF)
    made = [ReversibleSegment(list(segment.blocks), coupling=coupling) for segment in segments]
    return ResidualNet(model.encoder, made, model.head)


def _halved(blocks: Iterable[nn.Module], device: str | None) -> bool:
    """Whether blocks have weights in half precision, and no autocast of the device makes up for it."""
    kinds = {each.dtype for block in blocks for each in block.parameters() if each.is_floating_point()}
    half = any(wide(each) != each for each in kinds)
    if not half or device is None or not torch.amp.is_autocast_available(device):
        return half
    return not torch.is_autocast_enabled(device)


_HALF = (
    "reversible segments rebuild their states from float32 ones, or wider; these blocks have weights in half "
    "precision. Keep the weights in float32, and train under torch.autocast."
)


def _draws(part: nn.Module) -> bool:
    return draws_chance(part) and not (isinstance(part, nn.modules.dropout._DropoutNd) and part.p == 0)


def _move(start: Tensor, end: Tensor) -> Move:
    end, step, squares = measured_step(start, end)
    return Move(start, step, end, squares)


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
        end = y
        sums = {id(each): torch.zeros_like(each) for each in weights}
        step = back_exact if segment.exact else partial(back_pair, coupling=segment.coupling)
        p_y, p_z = gradient, torch.zeros_like(gradient)
        blocks = nn.ModuleList(segment.within())  # a first block before them has a graph of its own
        norms = any(norm.training for norm in with_running_statistics(blocks))
        with ctx.cast(), buffers_restored(blocks) if norms else nullcontext():
            for place, block in reversed(list(enumerate(segment.within()))):
                y, z, p_y, p_z = step(block, (y, z, p_y, p_z), squares[place], sums)
        require_rebuilt(start, end, (y, z))
        return None, p_y if segment.exact else p_y + p_z, *sums.values()
