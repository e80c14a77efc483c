"""The sum of a state and a weighted step, which reads and writes memory as seldom as can be."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 2**16  # numbers of a product that are added up in a row: more would lose digits of float32


def weighted_sum(
    start: Float[Tensor, "n *feature"], step: Float[Tensor, "n *feature"], weight: Float[Tensor, ""]
) -> Float[Tensor, "n *feature"]:
    """start + weight·step.

    One pass over memory in place of two, and for the gradient of the weight, Σ gradient·step, one in place of three.
    """
    if torch.compiler.is_compiling() or not start.dtype == step.dtype == weight.dtype:
        return start + weight * step
    return _WeightedSum.apply(start, step, weight)


class _WeightedSum(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(start: Tensor, step: Tensor, weight: Tensor) -> Tensor:
        return torch.addcmul(start, step, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        _, step, weight = inputs
        ctx.save_for_backward(step, weight)
        ctx.save_for_forward(step, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        step, weight = ctx.saved_tensors
        of_step = gradient * weight if ctx.needs_input_grad[1] else None
        return gradient, of_step, _product(gradient, step) if ctx.needs_input_grad[2] else None

    @staticmethod
    def jvp(ctx: Any, start: Tensor | None, step: Tensor | None, weight: Tensor | None) -> Tensor:  # type: ignore[override]
        held, factor = ctx.saved_tensors
        moved = torch.zeros_like(held) if start is None else start
        moved = moved if step is None else moved + factor * step
        return moved if weight is None else moved + weight * held


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Σ one·other, in chunks."""
    flat = [_in_memory_order(each, like=other) for each in (one, other)]
    return torch.stack([torch.dot(a, b) for a, b in zip(*(each.split(CHUNK) for each in flat), strict=True)]).sum()


def _in_memory_order(x: Tensor, *, like: Tensor) -> Tensor:
    """All numbers in a row, in the order in which those of `like` lie in memory."""
    if like.ndim == 4 and like.stride(1) == 1 and like.shape[1] > 1:  # channels last; vmap knows strides alone
        x = x.permute(0, 2, 3, 1)
    return x.reshape(-1)
