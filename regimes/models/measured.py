"""What a block does, with the square of its step measured on the way: the gradient of both takes one pass over memory.

Measured afterwards, Σ v² has a gradient 2v of its own, as large as the state, made at the start of the backward pass,
kept until its block comes and then added to what comes from the end.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def widened(state: Tensor) -> Tensor:
    """In float32 at least: differences of states in half precision lose most of their digits."""
    return state.float() if state.dtype in (torch.float16, torch.bfloat16) else state


def measured_sum(
    start: Float[Tensor, "n *feature"], step: Float[Tensor, "n *feature"]
) -> tuple[Float[Tensor, "n *feature"], Float[Tensor, ""]]:
    """start + step, and Σ step²."""
    if torch.compiler.is_compiling() or start.dtype != step.dtype:
        return start + step, _squares(step)
    return _MeasuredSum.apply(start, step)  # pyright: ignore[reportReturnType]


def measured_step(
    start: Float[Tensor, "n *feature"], end: Float[Tensor, "n *feature"]
) -> tuple[Float[Tensor, "n *feature"], Float[Tensor, "n *feature"], Float[Tensor, ""]]:
    """The end as it is, the step v from start to end, and Σ v²."""
    if torch.compiler.is_compiling() or start.dtype != end.dtype:
        step = widened(end) - widened(start)
        return end, step, _squares(step)
    return _MeasuredStep.apply(start, end)  # pyright: ignore[reportReturnType]


def _squares(step: Tensor) -> Tensor:
    wide = widened(step)
    return (wide * wide).sum()


def _plus(gradient: Tensor | None, step: Tensor, factor: Tensor) -> Tensor:
    """gradient + factor·step, in the precision of the step; without a gradient the second part."""
    factor = factor.to(widened(step).dtype)
    if gradient is not None and gradient.dtype == step.dtype == factor.dtype:
        return torch.addcmul(gradient, step, factor)
    part = (widened(step) * factor).to(step.dtype)
    return part if gradient is None else gradient.to(step.dtype) + part


class _MeasuredSum(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(start: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        return start + step, _squares(step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, end: Tensor | None, squares: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (step,) = ctx.saved_tensors
        return end, end if squares is None else _plus(end, step, 2 * squares)

    @staticmethod
    def jvp(ctx: Any, start: Tensor | None, along: Tensor | None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (step,) = ctx.saved_tensors
        moved = torch.zeros_like(step) if along is None else along
        return moved if start is None else start + moved, 2 * (widened(step) * widened(moved)).sum()


class _MeasuredStep(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = widened(end) - widened(start)
        return end.view_as(end), step, _squares(step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.half = inputs[0].dtype
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, end: Tensor | None, along: Tensor | None, squares: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        (step,) = ctx.saved_tensors
        if squares is not None and along is None:
            of_start = (step * (-2 * squares)).to(ctx.half)
            of_end = _plus(end, step, 2 * squares) if end is None or end.dtype == step.dtype else end - of_start
            return of_start, of_end.to(ctx.half)
        if squares is not None:
            along = _plus(along, step, 2 * squares)
        if along is None:
            return None, end
        along = along.to(ctx.half)
        return -along, along if end is None else end + along

    @staticmethod
    def jvp(ctx: Any, start: Tensor | None, end: Tensor | None) -> tuple[Tensor, ...]:  # type: ignore[override]
        (step,) = ctx.saved_tensors
        still = torch.zeros_like(step, dtype=ctx.half)
        before, after = (still if each is None else each for each in (start, end))
        along = widened(after) - widened(before)
        return after.view_as(after), along, 2 * (step * along).sum()
