"""Residual blocks as particles (θ, τ): each block carries a time, and the step between two times is its weight."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes.models.residual import Move, ResidualNet, Segment


class TimedSegment(Segment):
    """Segment whose blocks are particles: sorted by τ, block l moves by (τ^l − τ^{l−1}) L r(z; θ^l), with τ^{−1} = 0.

    L is the number of particles, so that on the uniform grid τ^l = l/L, l = 1..L, every weight is 1 and the segment is
    the plain one, as it is when made. A first block that comes from another space is no particle: it cannot change
    places, and keeps weight 1. Gradients flow to θ and τ; gaps are never negative, since blocks are sorted, save the
    first if τ has become negative (`first_gap=False` gives the first particle the fixed weight 1 instead).
    `sort()` puts the particles in order; without `sort_always` the caller does that (once an epoch, say), and between
    two sortings gaps may be negative. Source: [Lu2020] Algorithm 1, which leaves open τ's start, the first gap, the
    moment of sorting and the factor L.
    """

    order: Tensor

    def __init__(self, blocks: Sequence[nn.Module], *, first_gap: bool = True, sort_always: bool = True) -> None:
        super().__init__(blocks)
        if any(getattr(block, "activation", None) is not None for block in self.blocks):
            raise ValueError(
                "a timed segment needs blocks z + r(z); some here have an activation after the sum. "
                "Choose a pre-activation architecture."
            )
        self.first_gap, self.sort_always = first_gap, sort_always
        count = len(self.blocks) - self.changes_space
        like = next(self.parameters(), torch.empty(()))
        grid = torch.arange(1, count + 1, dtype=torch.float64) / max(count, 1)
        self.times = nn.Parameter(grid.to(like))
        self.register_buffer("order", torch.arange(count))
        self._order = list(range(count))  # the same without asking the device

    @torch.no_grad()
    def sort(self) -> None:
        """Order the particles by their times; equal times keep their places. Asks the device once."""
        self._order = torch.sort(self.times, stable=True).indices.tolist()
        self.order.copy_(torch.tensor(self._order))

    def weights(self) -> Float[Tensor, " particles"]:
        """L (τ^l − τ^{l−1}) in the order of the forward pass."""
        ordered = self.times[self.order]
        gaps = ordered.diff(prepend=ordered.new_zeros(1)) * len(ordered)
        return gaps if self.first_gap else torch.cat([torch.ones_like(gaps[:1]), gaps[1:]])

    def moves(self, z: Float[Tensor, "n *feature"], *, within: bool = False) -> Iterator[Move]:
        """What each block does, in the order of the times."""
        if self.changes_space and not within:
            moved = self.block(0).move(z)
            yield moved
            z = moved.end
        if self.sort_always:
            self.sort()
        weights = self.weights().to(z.dtype)
        for place, index in enumerate(self._order):
            step = weights[place] * self.block(index + self.changes_space).move(z).step
            moved = Move(z, step, z + step)
            yield moved
            z = moved.end

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._order = self.order.tolist()


def timed(model: ResidualNet, *, first_gap: bool = True, sort_always: bool = True) -> ResidualNet:
    """The same network (its very modules) with timed segments; on the uniform grid it computes the same."""
    segments = [
        TimedSegment(list(model.segment(k).blocks), first_gap=first_gap, sort_always=sort_always)
        for k in range(len(model.segments))
    ]
    return ResidualNet(model.encoder, segments, model.head)
