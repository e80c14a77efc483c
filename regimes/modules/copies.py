"""Copies of a model: one to train, one that is never trained."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


def require_python(model: nn.Module, caller: str) -> None:
    """Refuse a model with a part that torch.jit has compiled: its tensors cannot be taken out and put in."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"layer {name!r}" if name else "the model"
            raise ValueError(
                f"{caller} needs a model of Python modules; {where} comes from torch.jit.script or torch.jit.trace. "
                "Pass the model from before."
            )


def copied(model: nn.Module) -> nn.Module:
    """Deep copy, also of a model that holds tensors derived from its parameters, as torch.nn.utils.weight_norm does.

    A derived tensor becomes a leaf of its own: one that the next call forms anew is replaced then, and one that is
    used as it is can be found in the graph (see leaves). Under inference_mode, too, the copy can be trained.
    """
    made: dict[int, Any] = {}
    with torch.inference_mode(False):
        for module in model.modules():
            for tensor in _tensors(vars(module), 3):
                if not tensor.is_leaf:
                    made[id(tensor)] = tensor.detach().clone().requires_grad_()
        return deepcopy(model, made)


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth > 0 and isinstance(value, Mapping | list | tuple | set):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(each, depth - 1)


def frozen_copy(model: nn.Module) -> nn.Module:
    """Deep copy whose parameters are buffers: it moves and is saved with its owner but is never trained.

    Shared parameters stay shared; the copy is in eval mode, has no backward hooks and gives dense gradients.
    """
    copy = copied(model).eval()
    made: dict[int, Tensor] = {}
    for module in copy.modules():
        # Hooks on gradients are for the training of the original; torch.func cannot pass those of whole modules.
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            value = made.setdefault(id(parameter), parameter.detach())
            del module._parameters[name]
            module.register_buffer(name, value)
            if isinstance(module, nn.RNNBase):
                setattr(module, name, value)  # it keeps its weights in a list as well, and renews it here only
    return copy
