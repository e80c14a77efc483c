"""Residual blocks as particles (θ, τ): each block carries a time, and the step between two times is its weight."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes import checks
from regimes.checks import kind
from regimes.control.times import gap_weights, uniform_times
from regimes.models.residual import Block, ResidualNet, Segment, require_regroups

Sorting = Literal["forward", "epoch", "never"]


class TimedSegment(Segment):
    """Segment whose blocks are particles: sorted by τ, block l moves by (τ^l − τ^{l−1}) L r(z; θ^l), with τ^{−1} = 0.

    L is the number of particles, so that on the uniform grid τ^l = l/L, l = 1..L, every weight is 1 and the segment is
    the plain one, as it is when made. A first block that comes from another space is no particle: it cannot change
    places, and keeps weight 1. Gradients flow to θ and τ; gaps are never negative, since blocks are sorted, save the
    first if τ has become negative (`first_gap=False` gives the first particle the fixed weight 1 instead).
    `sort()` puts the particles in order. `sorting` says who calls it: "forward" each forward pass, "epoch" the training
    loop after each epoch, "never" nobody; between two sortings gaps may be negative. Source: [Lu2020] Algorithm 1,
    which leaves open τ's start, the first gap, the moment of sorting and the factor L.
    """

    order: Tensor

    def __init__(self, blocks: Sequence[nn.Module], *, first_gap: bool = True, sorting: Sorting = "forward") -> None:
        super().__init__(blocks)
        if any(getattr(block, "activation", None) is not None for block in self.blocks):
            raise ValueError(
                "a timed segment needs blocks z + r(z); some here have an activation after the sum. "
                "Choose a pre-activation architecture, such as resnet20 or resnet9."
            )
        self.first_gap, self.sorting = first_gap, sorting
        count = len(self.blocks) - self.changes_space
        like = next(self.parameters(), torch.empty(()))
        self.times = nn.Parameter(uniform_times(count).to(like), requires_grad=count > 0)
        self.register_buffer("order", torch.arange(count))
        self._order: list[Any] = list(range(count))  # the same without asking the device

    @torch.no_grad()
    def sort(self) -> None:
        """Order the particles by their times; equal times keep their places. Asks the device once.

        The times of several members of an ensemble are rows, and so are their orders.
        """
        self.put_order(torch.sort(self.times, stable=True).indices.tolist())

    def put_order(self, order: list[Any]) -> None:
        """Have the particles act in this order until they are sorted again."""
        if order != self._order:  # a new tensor: torch.func allows no change in place
            self._order, self.order = order, torch.tensor(order).to(self.times.device, non_blocking=True)

    def orders(self) -> list[Any]:
        """In which order the particles act, by their numbers; read without asking the device."""
        return self._order

    def weights(self) -> Float[Tensor, " particles"]:
        """L (τ^l − τ^{l−1}) in the order of the forward pass."""
        return gap_weights(self.times[self.order], first_gap=self.first_gap)

    def acting(self) -> list[tuple[Block, Tensor | None]]:
        """The blocks in the order of their times; a first one that comes from another space has no weight."""
        if self.sorting == "forward":
            self.sort()
        first = [(self.block(0), None)] if self.changes_space else []
        blocks = [self.block(index + self.changes_space) for index in self._order]
        return [*first, *zip(blocks, self.weights(), strict=True)]

    def maps(self) -> list[Callable[[Tensor], Tensor]]:
        """The particles in the order of their times, each with its present weight."""
        acting = self.acting()[int(self.changes_space) :]
        return [lambda z, weight=weight, block=block: block.end(z, weight) for block, weight in acting]

    def exchanges(self) -> int:
        """Pairs of particles that have changed places: those that stand otherwise than they were built."""
        return sum(self._order[i] > self._order[j] for j in range(len(self._order)) for i in range(j))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._order = self.order.tolist()


def timed(model: ResidualNet, *, first_gap: bool = True, sorting: Sorting = "forward") -> ResidualNet:
    """The same network (its very modules) with timed segments; on the uniform grid it computes the same."""
    kind("timed", "model", model, ResidualNet, "a ResidualNet")
    kind("timed", "first_gap", first_gap, bool, "True or False")
    if not isinstance(sorting, str) or sorting not in get_args(Sorting):
        raise ValueError(f"timed needs sorting as one of {', '.join(get_args(Sorting))}; got {sorting!r}.")
    require_regroups("timed", model)
    segments = [
        TimedSegment(list(model.segment(k).blocks), first_gap=first_gap, sorting=sorting)
        for k in range(len(model.segments))
    ]
    return ResidualNet(model.encoder, segments, model.head)


def timed_segments(model: nn.Module) -> list[TimedSegment]:
    """The timed segments of a model, in order; none of a plain one."""
    return [module for module in model.modules() if isinstance(module, TimedSegment)]


@contextmanager
def acting_in(segments: Sequence[TimedSegment], orders: Sequence[Sequence[int]]) -> Iterator[None]:
    """Within, the particles of each segment act in the order given for it, and nobody sorts them."""
    before = [(segment.sorting, segment._order) for segment in segments]
    for segment, order in zip(segments, orders, strict=True):
        segment.sorting, segment._order = "never", list(order)
    try:
        yield
    finally:
        for segment, (sorting, order) in zip(segments, before, strict=True):
            segment.sorting, segment._order = sorting, order


@torch.no_grad()
def draw_times(model: nn.Module, generator: torch.Generator) -> None:
    """Times uniform on [0, 1], drawn anew and handed out in order, so that the blocks stand as they were built."""
    kind("draw_times", "model", model, nn.Module, "a torch module")
    checks.generator("draw_times", generator)
    for segment in timed_segments(model):
        drawn = torch.rand(len(segment.times), generator=generator, dtype=torch.float64)
        segment.times.copy_(drawn.sort().values)
        segment.put_order(list(range(len(drawn))))  # also where they were sorted before
