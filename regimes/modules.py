"""What every package asks of a torch module: to act on one sample at a time, and to give a frozen copy of itself."""

from copy import deepcopy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
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
