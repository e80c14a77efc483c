"""Residual networks cut into modules that are trained greedily, each for a classifier of its own.

Module k is some consecutive blocks; the first has the encoder too, the last the head. The others have an auxiliary
classifier: the mean over the places of an image, then a linear map. In `turns` a module starts from the state that the
one before has left, without its graph: no gradient passes from one to the other, and the states of one module at a
time are kept. Source: [Karkar2023], whose modules learn in parallel so, batch by batch.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from regimes.checks import count, kind
from regimes.models.residual import Block, ResidualNet, Segment, Trace, require_regroups
from regimes.models.reversible import ReversibleSegment
from regimes.models.timed import TimedSegment
from regimes.modules.modes import eval_mode


class ModuleWiseNet(ResidualNet):
    """The network f = F ∘ T ∘ φ, and a classifier after each of its modules but the last, whose classifier is F.

    sizes: blocks of each module, in order. As a map it is the network without auxiliary classifiers.
    """

    def __init__(
        self,
        encoder: nn.Module,
        segments: Sequence[Segment],
        head: nn.Module,
        *,
        sizes: Sequence[int],
        auxiliaries: Sequence[nn.Module],
    ) -> None:
        super().__init__(encoder, segments, head)
        blocks = sum(len(segment.blocks) for segment in segments)
        if sum(sizes) != blocks or min(sizes, default=0) < 1 or len(auxiliaries) != len(sizes) - 1:
            raise ValueError(
                f"a ModuleWiseNet of {blocks} blocks needs the sizes of its modules, at least 1 and {blocks} in all, "
                f"and a classifier for each but the last; got {list(sizes)} and {len(auxiliaries)} classifiers."
            )
        self.sizes = tuple(sizes)
        self.auxiliaries = nn.ModuleList(auxiliaries)

    def whole(self) -> ResidualNet:
        """The network alone (its very modules), without auxiliary classifiers."""
        return ResidualNet(self.encoder, [self.segment(index) for index in range(len(self.segments))], self.head)

    def modules_of_blocks(self) -> list[list[Block]]:
        """The blocks of each module."""
        blocks = iter(_blocks(self))
        return [[next(blocks) for _ in range(size)] for size in self.sizes]

    def turns(self, x: Tensor, *, trace: bool = False) -> Iterator[Trace]:
        """What each module in turn makes of a batch: its classifier's output, and with `trace` the steps of its blocks.

        States are left out. Differentiate what comes, and let go of it, before the next is asked for: then the graph of
        one module is alive at a time.
        """
        z = self.encoder(x)
        for blocks, classifier in zip(self.modules_of_blocks(), [*self.auxiliaries, self.head], strict=True):
            made, end = _through(blocks, classifier, z, trace)
            z = end.detach()
            del end
            yield made
            del made


def module_wise(model: ResidualNet, modules: int, shape: Sequence[int]) -> ModuleWiseNet:
    """The same network (its very modules) in so many modules, as equal in blocks as possible, the first ones larger.

    shape: of one input. Weights of the auxiliary classifiers are torch's defaults. ValueError: more modules than
    blocks, segments whose blocks do more than to act in turn.
    """
    kind("module_wise", "model", model, ResidualNet, "a ResidualNet")
    count("module_wise", "modules", modules)
    require_regroups("module_wise", model)
    if any(isinstance(segment, TimedSegment | ReversibleSegment) for segment in model.segments):
        raise ValueError(
            "modules are blocks in a fixed order that keep their states; these are particles, or rebuild them. Leave "
            "out one of the two."
        )
    blocks = len(_blocks(model))
    if blocks == 0:
        raise ValueError(
            "module_wise needs a network with residual blocks, of which modules are made; this one has none."
        )
    if modules > blocks:
        raise ValueError(f"{modules} modules need a residual block each, and there are {blocks}: take at most {blocks}")
    sizes = [blocks // modules + (number < blocks % modules) for number in range(modules)]
    states, outputs = _shapes(model, shape)
    ends = [sum(sizes[: number + 1]) for number in range(modules)]
    auxiliaries = [_classifier(states[end - 1], outputs) for end in ends[:-1]]
    segments = [model.segment(index) for index in range(len(model.segments))]
    return ModuleWiseNet(model.encoder, segments, model.head, sizes=sizes, auxiliaries=auxiliaries)


def _blocks(model: ResidualNet) -> list[Block]:
    return [cast(Block, block) for segment in model.segments for block in cast(Segment, segment).blocks]


def _through(blocks: Sequence[Block], classifier: nn.Module, z: Tensor, trace: bool) -> tuple[Trace, Tensor]:
    """A module's Trace and the state that it leaves."""
    if not trace:
        for block in blocks:
            z = block.end(z)
        return Trace(classifier(z), (), ()), z
    moves = []
    for block in blocks:
        moves.append(block.move(z))
        z = moves[-1].end
    steps, squares = tuple(moved.step for moved in moves), tuple(moved.squares for moved in moves)
    return Trace(classifier(z), (), (steps,), (squares,)), z


@torch.no_grad()
def _shapes(model: ResidualNet, shape: Sequence[int]) -> tuple[list[tuple[int, ...]], int]:
    """The shape of one state after each block, and the number of outputs."""
    like = next(model.parameters())
    states: list[tuple[int, ...]] = []
    with eval_mode(model):
        z = model.encoder(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
        for block in _blocks(model):
            z = block.end(z)
            states.append(tuple(z.shape[1:]))
        outputs = model.head(z)
    return states, outputs.shape[1]


def _classifier(state: tuple[int, ...], outputs: int) -> nn.Module:
    if len(state) == 3:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(state[0], outputs))
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(state), outputs))
