"""The door of the tangent package for torch modules: what a model and its inputs must be to have a tangent model."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regimes.checks import finite, real
from regimes.conventions import Params
from regimes.modules import (
    misfit,
    require_deterministic,
    require_one_derivative,
    require_separate_samples,
    untouched_buffers,
)
from regimes.tangent.functional import Functional, functional
from regimes.tangent.precision import full_precision


class TangentModel(NamedTuple):
    """f(params, x) of a module that was found to map each sample by itself."""

    f: Functional
    params: Params
    outputs: int  # k: entries of the output of one sample
    recurrent: bool  # its cells write in place, which vmap over samples cannot follow

    @property
    def device(self) -> torch.device:
        return next(iter(self.params.values())).device

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.params.values())).dtype


def tangent_model(model: nn.Module, x: Tensor, caller: str, *, forward: bool = False) -> TangentModel:
    """The model as a function of its trainable parameters, looked at on a few of the inputs.

    forward: whether derivatives in forward mode will be taken; it then has to agree with the reverse mode.
    ValueError: batch statistics or dropout at work, samples of a batch that mix, random outputs, buffers that a call
    changes, trained tensors that are not registered, parameters of 16 bits or complex, autocast inside the model;
    inputs that are empty, not finite, of another dtype or device, or do not fit.
    """
    require_deterministic(model, caller)
    require_samples(x, caller)
    f, params = functional(model)
    real(caller, half=False, **{f"parameter {name!r}": value for name, value in params.items()})
    tangent = TangentModel(f, params, 0, any(isinstance(module, nn.RNNBase) for module in model.modules()))
    if x.device != tangent.device:
        raise ValueError(f"{caller} needs inputs on the device of the model, {tangent.device}; got {x.device}.")
    if x.is_floating_point() and x.dtype != tangent.dtype:
        raise ValueError(
            f"{caller} needs inputs of the dtype of the model, {tangent.dtype}; got {x.dtype}: convert one of them."
        )
    finite(caller, inputs=x)
    with full_precision(tangent.device), untouched_buffers(model, caller):
        one = _one_row(model, lambda: f(params, x[:1]), x, caller)
        require_registered(lambda few: f(params, few), x, caller)
        try:
            require_separate_samples(lambda batch: f(params, batch), x, caller)
        except RuntimeError as error:
            raise ValueError(
                f"{caller} needs a model that takes batches of any size; four samples end in: {error}"
            ) from error
    if forward:
        with full_precision(tangent.device):
            require_one_derivative(lambda values: f(values, x[:2].detach()), params, caller)
    return tangent._replace(outputs=one.numel())


def require_samples(x: Tensor, caller: str, name: str = "inputs") -> None:
    """Refuse inputs that are no tensor, empty or complex."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{caller} needs {name} as a tensor (n, ...); got {type(x).__name__}. Use torch.as_tensor.")
    if x.ndim < 1 or x.numel() == 0:
        raise ValueError(f"{caller} needs at least one sample in {name}; got shape {tuple(x.shape)}.")
    if x.is_complex():
        raise ValueError(f"{caller} needs real {name}; got {x.dtype}. Pass real and imaginary parts side by side.")


@torch.no_grad()
def _one_row(model: nn.Module, call: Callable[[], Tensor], x: Tensor, caller: str) -> Tensor:
    """The output of one sample, which has to be one tensor with one row."""
    try:
        row = call()
    except RuntimeError as error:
        reason = misfit(model, call)
        if reason is None and not x.is_floating_point():
            raise ValueError(
                f"{caller} needs inputs that the model takes; {x.dtype} ends in: {error}. Convert them to its dtype."
            ) from error
        if reason is None:
            raise
        shape = tuple(x.shape[1:])
        raise ValueError(f"{caller} needs samples that fit the model: with shape {shape} {reason}.") from error
    if not isinstance(row, Tensor) or row.ndim < 1 or len(row) != 1 or row.numel() == 0:
        got = f"shape {tuple(row.shape)}" if isinstance(row, Tensor) else type(row).__name__
        raise ValueError(
            f"{caller} needs a model that returns one tensor with a row for each sample; one sample gave {got}."
        )
    real(caller, half=False, **{"the output of the model": row})
    finite(caller, **{"outputs of the model": row})  # the kernel of a linear layer would not show its NaN weights
    return row


def require_registered(call: Callable[[Tensor], Tensor], x: Tensor, caller: str) -> None:
    """Refuse a model that, with constants in place of its parameters, still has something to train.

    It keeps a trained tensor in a list, a closure or a product formed earlier, where no other values can be put in.
    """
    with torch.inference_mode(False), torch.enable_grad():
        hidden = call(x[:1].detach().clone()).requires_grad
    if hidden:
        raise ValueError(
            f"{caller} needs a model whose trained tensors are registered parameters, read in each call; its output "
            "depends on one that is kept elsewhere (a plain list, a closure, a product formed at construction). "
            "Use nn.Parameter attributes or nn.ParameterList, and read them in forward."
        )
