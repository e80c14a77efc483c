"""What a block does, with the square of its step measured on the way: the gradient of both takes one pass over memory.

Measured afterwards, Σ v² has a gradient 2v of its own, as large as the state, made at the start of the backward pass,
kept until its block comes and then added to what comes from the end.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.models.inner_product import CHUNK, in_memory_order, inner_product, wide, widened
from regimes.modules import readable


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
    factor = factor.to(wide(step.dtype))
    if gradient is not None and gradient.dtype == step.dtype:
        number = _number(factor)
        if number is not None:  # in half precision, too, one pass without rounding on the way
            return torch.addcmul(gradient, step, step.new_ones(()), value=number)
        if step.dtype == factor.dtype:
            return torch.addcmul(gradient, step, factor)
    part = (widened(step) * factor).to(step.dtype)
    return part if gradient is None else gradient.to(step.dtype) + part


def _number(factor: Tensor) -> float | None:
    """The factor, where no device waits for it, and neither a transform nor a further derivative follows it."""
    return float(factor) if factor.device.type == "cpu" and not torch.is_grad_enabled() and readable() else None


def _in_chunks(*states: Tensor) -> list[tuple[Tensor, ...]] | None:
    """Views of the same chunks of all states, where their numbers lie in one dense order on a CPU."""
    first = states[0]
    dense = first.is_contiguous() or (first.ndim == 4 and first.is_contiguous(memory_format=torch.channels_last))
    if not dense or not readable() or any(s.device.type != "cpu" or s.stride() != first.stride() for s in states):
        return None
    return list(zip(*(in_memory_order(state, like=first).split(CHUNK) for state in states), strict=True))


def _difference(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """v = end − start, in float32 at least, and Σ v²."""
    half = wide(end.dtype) != end.dtype
    step = torch.empty_like(end, dtype=torch.float32) if half else end - start
    chunks = _in_chunks(start, end, step) if half else None
    if chunks is None:
        step = widened(end) - widened(start) if half else step
        return step, inner_product(step, step)
    squares = []
    for before, after, part in chunks:  # what is widened stays in the cache
        part.copy_(after).sub_(before)
        squares.append(torch.dot(part, part))
    return step, torch.stack(squares).sum()


def _times(step: Tensor, factor: Tensor, half: torch.dtype) -> Tensor:
    """factor·step, rounded to `half`."""
    number = None if step.dtype == half else _number(factor)
    rounded = torch.empty_like(step, dtype=half) if number is not None else step
    chunks = None if number is None else _in_chunks(step, rounded)
    if number is None or chunks is None:
        return (step * factor).to(half)
    for part, target in chunks:
        target.copy_(part * number)
    return rounded


class _MeasuredSum(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(start: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        return start + step, inner_product(step, step)

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
        return end.view_as(end), *_difference(start, end)

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
            of_start = _times(step, -2 * squares, ctx.half)
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
