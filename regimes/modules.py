"""What every package asks of a torch module: to act on one sample at a time, and to give a frozen copy of itself."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd


def _reason(module: nn.Module) -> str | None:
    if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
        return "normalises by the statistics of the batch"
    if isinstance(module, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d):
        return "updates its running statistics" if module.training and module.track_running_stats else None
    noisy = isinstance(module, _DropoutNd) and module.p > 0
    noisy = noisy or isinstance(module, nn.RReLU)
    noisy = noisy or (isinstance(module, nn.MultiheadAttention | nn.RNNBase) and module.dropout > 0)
    return "draws random numbers" if noisy and module.training else None


def require_deterministic(model: nn.Module, caller: str) -> None:
    """Refuse a module whose output is not a function of one sample: batch statistics, dropout and the like at work.

    ValueError names the first such layer. Per-sample Jacobians, kernels and centred models exist only for the others.
    Randomness inside a forward (functional dropout, say) is not seen: that is the caller's to switch off.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"{caller} needs a torch module; got {type(model).__name__}. Pass an nn.Module.")
    for name, module in model.named_modules():
        reason = _reason(module)
        if reason is not None:
            cure = "call model.eval() first"
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                cure = "give it track_running_stats=True, or use LayerNorm or GroupNorm"
            where = f"layer {name!r}" if name else "the model"
            raise ValueError(
                f"{caller} needs a model that maps each sample by itself; {where} ({type(module).__name__}) "
                f"{reason}: {cure}."
            )


def misfit(model: nn.Module, call: Callable[[], Any]) -> str | None:
    """Why a call of the model fails, if it is the number of features or channels that a layer is given."""
    names = {module: name for name, module in model.named_modules()}
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
    except RuntimeError:
        return found[-1] if found else None  # it fails where it does not fit
    finally:
        for hook in hooks:
            hook.remove()
    return None


def frozen_copy(model: nn.Module) -> nn.Module:
    """Deep copy whose parameters are buffers: it moves and is saved with its owner but is never trained.

    Shared parameters stay shared; the copy is in eval mode.
    """
    copy = deepcopy(model).eval()
    made: dict[int, Tensor] = {}
    for module in copy.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            value = made.setdefault(id(parameter), parameter.detach())
            del module._parameters[name]
            module.register_buffer(name, value)
    return copy
