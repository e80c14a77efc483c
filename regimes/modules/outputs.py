"""The tensor that a model gives, in an object with `logits`, a mapping or a tuple; the model in a parallel wrapper."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DataParallel, DistributedDataParallel

from regimes.modules.attention import one_path


def sole_tensor(result: Any) -> Tensor | None:
    """What a model returns, if it is a tensor; its `logits`; the only tensor in it with an axis of samples; or None."""
    if isinstance(result, Tensor):
        return result
    logits = result.get("logits") if isinstance(result, Mapping) else getattr(result, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    found = list(_tensors(result))
    return found[0] if len(found) == 1 else None


def tensor_of(result: Any, caller: str) -> Tensor:
    """The tensor that a model returns, as `sole_tensor` finds it; ValueError where there is none, or a choice."""
    found = sole_tensor(result)
    if found is None:
        raise ValueError(
            f"{caller} needs a model that returns one tensor with a row for each sample, or an object with its logits; "
            f"this one gave {described(result)}. Wrap it in a module whose forward returns that tensor."
        )
    return found


def described(result: Any) -> str:
    """What a model returned, in a few words."""
    kind = type(result).__name__
    if isinstance(result, Mapping):
        return f"{kind} with {', '.join(map(str, list(result)[:8])) or 'nothing'}"
    if is_dataclass(result):
        return f"{kind} with {', '.join([field.name for field in fields(result)][:8])}"
    return f"{kind} of {len(result)}" if isinstance(result, tuple | list) else kind


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.ndim:  # a number is a loss
            yield value
    elif isinstance(value, Mapping):
        yield from (found for entry in value.values() for found in _tensors(entry))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (found for field in fields(value) for found in _tensors(getattr(value, field.name)))
    elif isinstance(value, tuple | list):
        yield from (found for entry in value for found in _tensors(entry))


def called(model: nn.Module, x: Tensor, caller: str) -> Tensor:
    """model(x) as `tensor_of` reads it; attention takes the way that it takes in training."""
    if torch.compiler.is_compiling():
        return tensor_of(model(x), caller)
    with one_path():
        return tensor_of(model(x), caller)


def _compiled(model: Any) -> nn.Module | None:
    """The module inside, if torch.compile gave it. Its class is not imported: that loads the compiler."""
    inside = getattr(model, "_orig_mod", None) if type(model).__name__ == "OptimizedModule" else None
    return inside if isinstance(inside, nn.Module) else None


def unwrapped(model: nn.Module, trains: str | None = None) -> nn.Module:
    """The model inside DataParallel, DistributedDataParallel and torch.compile; any other module itself.

    A compiled model shares its tensors with the one inside, whose derivatives torch.func can follow.
    trains: who would train it, as it is compiled. ValueError where several processes would then train each its own.
    """
    while True:
        inside = _compiled(model) if trains is None else None
        if inside is not None:
            model = inside
            continue
        if not isinstance(model, DataParallel | DistributedDataParallel):
            return model
        if trains is not None and isinstance(model, DistributedDataParallel) and dist.get_world_size() > 1:
            raise ValueError(
                f"{trains} needs the model itself, which several processes would train apart in it: pass model.module, "
                f"and wrap what {trains} gives in DistributedDataParallel."
            )
        model = model.module
