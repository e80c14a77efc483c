"""Images with their channels last in memory, forward and backward, which convolutions work through fastest."""

from typing import Any, TypeVar

import torch
from torch import nn

from regimes.models.residual import ResidualNet

Net = TypeVar("Net", bound=ResidualNet)


def channels_last(model: Net) -> Net:
    """The model itself, its weights channels last; what it computes stays the same up to rounding.

    A head that flattens its input hands back a gradient with the channels first, which every residual block before it
    would pass on and put in order again for itself; here it is put in order once.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.head.register_full_backward_hook(_ordered)
    return model


def _ordered(head: nn.Module, inward: Any, outward: Any) -> Any:
    return tuple(
        gradient.contiguous(memory_format=torch.channels_last)
        if gradient is not None and gradient.dim() == 4
        else gradient
        for gradient in inward
    )
