"""Which layer of a model an input does not fit."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from regimes.errors import out_of_memory


def misfit(model: nn.Module, call: Callable[[], Any]) -> str | None:
    """Why a call of the model fails, if it is the number of features or channels that a layer is given."""
    names = {m: name for name, m in model.named_modules() if not isinstance(m, torch.jit.ScriptModule)}
    found: list[str] = []

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0] if inputs else None
        if isinstance(module, nn.Linear):
            needed, axis, what = module.in_features, -1, "features"
        elif isinstance(module, _ConvNd):
            needed, axis, what = module.in_channels, -1 - len(module.kernel_size), "channels"
        else:
            return
        if isinstance(x, Tensor) and x.ndim >= -axis and x.shape[axis] != needed:
            where = f"layer {names[module]!r}" if names[module] else "the model"
            found.append(f"{where} ({type(module).__name__}) needs {needed} {what}, got {x.shape[axis]}")

    hooks = [module.register_forward_pre_hook(look) for module in names]
    try:
        call()
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return found[-1] if found else None  # it fails where it does not fit
    finally:
        for hook in hooks:
            hook.remove()
    return None
