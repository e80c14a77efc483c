"""A copy of a model that is never trained."""

from copy import deepcopy

from torch import Tensor, nn


def frozen_copy(model: nn.Module) -> nn.Module:
    """Deep copy whose parameters are buffers: it moves and is saved with its owner but is never trained.

    Shared parameters stay shared; the copy is in eval mode and has no backward hooks.
    """
    copy = deepcopy(model).eval()
    made: dict[int, Tensor] = {}
    for module in copy.modules():
        # Hooks on gradients are for the training of the original; torch.func cannot pass those of whole modules.
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            value = made.setdefault(id(parameter), parameter.detach())
            del module._parameters[name]
            module.register_buffer(name, value)
            if isinstance(module, nn.RNNBase):
                setattr(module, name, value)  # it keeps its weights in a list as well, and renews it here only
    return copy
