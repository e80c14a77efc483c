"""Images with their channels last in memory, forward and backward, which convolutions work through fastest."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from regimes.models.residual import ResidualNet

Net = TypeVar("Net", bound=ResidualNet)


def channels_last(model: Net) -> Net:
    """The model itself, its weights channels last; what it computes stays the same up to rounding.

    A head that flattens its input hands back a gradient with the channels first, which every residual block before it
    would pass on and put in order again for itself; here it is put in order once. The compiler takes it as it is.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.head.register_forward_pre_hook(_before_head)
    return model


class _Ordered(torch.autograd.Function):
    """The identity, whose gradient has its channels last."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing to keep."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int | None]:  # type: ignore[override]
        """Of an ensemble each member's gradient stays in the order in which it comes."""
        return args[0], in_dims[0]


def _before_head(head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The input of the head, its gradient to be put in order; derivatives in eval mode, forward ones too, go by."""
    if not head.training:
        return inputs
    return tuple(_Ordered.apply(z) if isinstance(z, Tensor) and z.dim() == 4 else z for z in inputs)
