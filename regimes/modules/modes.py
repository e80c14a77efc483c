"""Modes and buffers of a model, other ones for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model and all its parts in eval mode; afterwards each is in the mode that it was in."""
    modes = modes_of(model)
    with in_modes(model, modes):
        model.eval()
        yield


def modes_of(model: nn.Module) -> tuple[bool, ...]:
    """Which parts are in training mode, in the order of `modules`."""
    return tuple(module.training for module in model.modules())


@contextmanager
def in_modes(model: nn.Module, modes: tuple[bool, ...]) -> Iterator[None]:
    """Each part in the mode given for it; afterwards in the one that it was in."""
    before = [(module, module.training) for module in model.modules()]
    try:
        for (module, _), mode in zip(before, modes, strict=True):
            module.training = mode
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """Whatever is done within, afterwards the buffers hold what they held."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Eval mode, but what has running statistics (`running_mean`, ...) takes those of the batch, as in training.

    For numbers about the present weights soon after a step: running statistics belong to earlier weights. Dropout and
    other chance stay away. Afterwards each module is in the mode that it was in, and the buffers hold what they held.
    """
    norms = with_running_statistics(model)
    with buffers_restored(model), eval_mode(model):
        for norm in norms:
            norm.training = True
        yield


def with_running_statistics(model: nn.Module) -> list[nn.Module]:
    """The modules that hold `running_mean`, `running_var` or the like: batch norms, and whatever works as they do."""
    return [
        module
        for module in model.modules()
        if any(name.startswith("running_") and buffer is not None for name, buffer in module._buffers.items())
    ]
