"""One block on the way back through a reversible segment: its states rebuilt, and adjoints pulled back to its start."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from regimes.control.reversible import off_start, uncoupled
from regimes.errors import RunFailed
from regimes.models.residual import Block

CLOSE = 0.05  # distance of the rebuilt start from the one that there was, relative to the larger of start and end
State = tuple[Tensor, Tensor, Tensor, Tensor]  # y, z and their adjoints


def increment(block: Block, z: Tensor) -> Tensor:
    """v(z), the step of a block within its space; by its `move` where a subclass has changed that alone."""
    made = type(block)
    return (
        block.move(z).step if made.increment is Block.increment and made.move is not Block.move else block.increment(z)
    )


def require_rebuilt(start: Tensor, end: Tensor, found: Sequence[Tensor]) -> None:
    """RunFailed unless what was found is the start; where start or end are no numbers, the loss says so itself."""
    off = off_start(start, end, found)
    if not off <= CLOSE:
        raise RunFailed(
            f"rebuilt states are off by {off:.2g} of the size of those of their segment: rounding has grown on the way "
            "back, or blocks do not come out alike when they are called again. Train without reversible, with a "
            "smaller learning rate, or in float64."
        )


def back_pair(block: Block, after: State, square: Tensor, sums: Mapping[int, Tensor], *, coupling: float) -> State:
    """By two copies. square: the adjoint of Σ v²; what reaches the weights is added to `sums`."""
    y, z, p_y, p_z = after
    step, back = _pulled(block, y, p_z, sums)
    z, p_y = z - step, p_y + back
    graph = _graph(block, z)
    before = uncoupled(y - graph[1].detach(), z, coupling)
    pushed = 2 * square * (y - before)
    p_y = p_y + pushed
    back = _pull(block, *graph, p_y, sums)
    return before, z, coupling * p_y - pushed, p_z + (1 - coupling) * p_y + back


def back_exact(block: Block, after: State, square: Tensor, sums: Mapping[int, Tensor]) -> State:
    """By the inverse of the block."""
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
