"""The sum of a state and a weighted step, which reads and writes memory as seldom as can be.

Where the step comes from a linear layer, the layer takes the weight: its own weights are far fewer than a state's
numbers, forward and backward, and the gradient of the weight is a sum over them.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from regimes.models.inner_product import inner_product
from regimes.modules.hooks import watched


def weighted_sum(
    start: Float[Tensor, "n *feature"], step: Float[Tensor, "n *feature"], weight: Float[Tensor, ""]
) -> Float[Tensor, "n *feature"]:
    """start + weight·step.

    One pass over memory in place of two, and for the gradient of the weight, Σ gradient·step, one in place of three.
    """
    if torch.compiler.is_compiling() or not start.dtype == step.dtype == weight.dtype:
        return start + weight * step
    return _WeightedSum.apply(start, step, weight)


def weighted(residual: nn.Module, z: Tensor, weight: Float[Tensor, ""]) -> Tensor | None:
    """weight·r(z) during eager training, by the weights of its last layer; None where that cannot take the weight.

    It must be a linear map or convolution at the end of a chain, and nobody may look at what it gives (hooks do).
    """
    if torch.compiler.is_compiling() or not residual.training:  # which fuses the passes itself
        return None
    if type(residual) is not nn.Sequential or len(residual) == 0 or watched(residual):
        return None
    *layers, last = residual
    if type(last) not in (nn.Linear, nn.Conv2d) or watched(last) or getattr(last, "padding_mode", "zeros") != "zeros":
        return None
    for layer in layers:
        z = layer(z)
    assert isinstance(last, nn.Linear | nn.Conv2d)
    factor = weight.to(last.weight.dtype)
    weights, bias = last.weight * factor, None if last.bias is None else last.bias * factor
    if isinstance(last, nn.Linear):
        return linear(z, weights, bias)
    return conv2d(z, weights, bias, last.stride, last.padding, last.dilation, last.groups)


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
        product = inner_product(gradient, step).to(weight.dtype) if ctx.needs_input_grad[2] else None
        return gradient, of_step, product

    @staticmethod
    def jvp(ctx: Any, start: Tensor | None, step: Tensor | None, weight: Tensor | None) -> Tensor:  # type: ignore[override]
        held, factor = ctx.saved_tensors
        moved = torch.zeros_like(held) if start is None else start
        moved = moved if step is None else moved + factor * step
        return moved if weight is None else moved + weight * held
