"""The door of the tangent package for torch modules: what a model and its inputs must be to have a tangent model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from regimes.checks import finite, real
from regimes.conventions import Params
from regimes.errors import out_of_memory
from regimes.modules import (
    called,
    chance_restored,
    misfit,
    random_like,
    require_dense,
    require_deterministic,
    require_separate_samples,
    require_values,
    untouched_attributes,
    untouched_buffers,
    unwrapped,
)
from regimes.tangent.functional import Functional, evaluator, functional, recurrent, trainable
from regimes.tangent.look import Derivatives, differing, look
from regimes.tangent.plain import Plain
from regimes.tangent.precision import full_precision


class TangentModel:
    """A module that was found to map each sample by itself, and how its derivatives can be taken.

    They are those at its present parameters, also where an optimiser has moved or a checkpoint replaced them since.
    """

    def __init__(self, model: nn.Module, row: Tensor, found: Derivatives) -> None:
        self.plain, self.found = Plain(model), found
        self.outputs = row.numel()  # k: entries of the output of one sample
        self.dtype, self.device = row.dtype, row.device
        self.recurrent = recurrent(model)
        self.batched = found.transforms and not self.recurrent  # whether vmap over samples has not failed yet
        self._compared: set[tuple[int, int, tuple[str, ...]]] = set()  # kinds of calls held against plain autograd

    @property
    def f(self) -> Functional:
        return evaluator(self.plain.model)

    @property
    def params(self) -> Params:
        return {name: value.detach() for name, value in trainable(self.plain.model).items()}

    def rows(self, x: Tensor, outputs: slice | Tensor, names: Sequence[str] | None = None) -> Params:
        """Derivatives of the chosen outputs at each sample: name -> (n, chosen, *shape of the parameter).

        names: of some of the parameters only.
        """
        f, params = self.f, self.params
        names = list(params) if names is None else names
        with full_precision(self.device), torch.no_grad():
            if self.batched:
                try:
                    found = vmap(lambda sample: self._row(f, params, sample, outputs, names))(x)
                    if self._right(found, x, outputs):
                        return found
                    del found
                except Exception as error:
                    if out_of_memory(error):
                        raise
                self.batched = False
            return self.plain.rows(x, outputs, names)

    def _right(self, found: Params, x: Tensor, outputs: slice | Tensor) -> bool:
        """Whether rows have the shapes of derivatives and, looked at once for each kind of call, are those of autograd.

        All of them, by one pass back from a random combination, for each number of samples and outputs: rules of vmap
        for single operations were seen to leave out a sum over samples (PReLU), to be right for one output only
        (cdist), or for some of the samples only (solve), without an error.
        """
        params, chosen = self.params, torch.arange(self.outputs, device=self.device)[outputs]
        if any(each.shape != (len(x), len(chosen), *params[name].shape) for name, each in found.items()):
            return False
        kind = (len(x), len(chosen), tuple(found))
        if kind not in self._compared:
            cotangent = torch.zeros(len(x), self.outputs, dtype=self.dtype, device=self.device)
            some = random_like(cotangent[:, chosen], torch.Generator().manual_seed(0))
            cotangent[:, chosen] = some
            plain = self.plain.pull(x, lambda value, _: cotangent.view(value.shape))[1]
            rows = {name: torch.tensordot(some.to(each), each, 2) for name, each in found.items()}
            if differing(rows, {name: plain[name] for name in found}, self.dtype) is not None:
                return False
            self._compared.add(kind)
        return True

    def _row(
        self, f: Functional, params: Params, sample: Tensor, outputs: slice | Tensor, names: Sequence[str]
    ) -> Params:
        cotangents = unit_rows(torch.arange(self.outputs, device=self.device)[outputs], self.outputs, self.dtype)
        moved = {name: params[name] for name in names}
        _, pull = vjp(lambda values: f(params | values, sample[None]).reshape(-1), moved)[:2]
        return vmap(lambda cotangent: pull(cotangent)[0])(cotangents)


def unit_rows(numbers: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """The rows of the identity of size k with these numbers; the identity itself may be too large."""
    rows = torch.zeros(len(numbers), k, dtype=dtype, device=numbers.device)
    return rows.scatter(1, numbers[:, None], 1.0)


def tangent_model(model: nn.Module, x: Tensor, caller: str) -> TangentModel:
    """The model as a function of its trainable parameters, looked at on a few of the inputs.

    ValueError: batch statistics or dropout at work, samples of a batch that mix, random outputs, buffers that a call
    changes, trained tensors that are not registered, parameters of 16 bits or without values, parts under no_grad,
    autocast inside the model; inputs that are empty, not finite, of another dtype or device, or do not fit.
    """
    require_deterministic(model, caller)
    model = unwrapped(model)
    require_values(model, caller)
    require_samples(x, caller)
    f, params = functional(model)
    require_precise(params, caller)
    first = next(iter(params.values()))
    device, dtype = first.device, first.dtype.to_real()
    if x.device != device:
        raise ValueError(f"{caller} needs inputs on the device of the model, {device}; got {x.device}.")
    if x.is_floating_point() and x.dtype != dtype:
        raise ValueError(
            f"{caller} needs inputs of the dtype of the model, {dtype}; got {x.dtype}: convert one of them."
        )
    finite(caller, inputs=x)
    with full_precision(device), untouched_buffers(model, caller), untouched_attributes(model), chance_restored():
        row = _one_row(model, x, caller)
        try:
            require_separate_samples(lambda batch: _rows(model, batch, caller), x, caller)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            raise ValueError(
                f"{caller} needs a model that takes batches of any size; four samples end in: {error}"
            ) from error
        found = look(f, params, Plain(model), x, caller)
    return TangentModel(model, row, found)


def require_precise(params: Params, caller: str) -> None:
    """Refuse parameters of 16 bits; complex ones count as pairs of real ones."""
    safe = (torch.complex64, torch.complex128)
    given = {f"parameter {name!r}": value for name, value in params.items() if value.dtype not in safe}
    real(caller, half=False, numpy=False, **given)


def require_samples(x: Tensor, caller: str, name: str = "inputs") -> None:
    """Refuse inputs that are no tensor, sparse, nested, empty or complex."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{caller} needs {name} as a tensor (n, ...); got {type(x).__name__}. Use torch.as_tensor.")
    require_dense(caller, name, x)
    if x.ndim < 1 or x.numel() == 0:
        raise ValueError(f"{caller} needs at least one sample in {name}; got shape {tuple(x.shape)}.")
    if x.is_complex():
        raise ValueError(f"{caller} needs real {name}; got {x.dtype}. Pass real and imaginary parts side by side.")


def _rows(model: nn.Module, batch: Tensor, caller: str) -> Any:
    """The output; with gradients on where there is none without, as in a model that takes a gradient inside."""
    try:
        return called(model, batch.clone(), caller)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        with torch.inference_mode(False), torch.enable_grad():
            return called(model, batch.clone(), caller).detach()


def _one_row(model: nn.Module, x: Tensor, caller: str) -> Tensor:
    """The output of one sample, which has to be one tensor with one row.

    With gradients on: a model that keeps products of its weights from the first call keeps them as in training.
    """

    def call() -> Any:
        with torch.inference_mode(False), torch.enable_grad():
            row = called(model, x[:1].detach().clone(), caller)
        return row.detach() if isinstance(row, Tensor) else row

    try:
        row = call()
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = misfit(model, call)
        if reason is None and not x.is_floating_point():
            raise ValueError(
                f"{caller} needs inputs that the model takes; {x.dtype} ends in: {error}. Convert them to its dtype."
            ) from error
        if reason is None:
            raise
        shape = tuple(x.shape[1:])
        raise ValueError(f"{caller} needs samples that fit the model: with shape {shape} {reason}.") from error
    require_row(row, caller)
    real(caller, half=False, numpy=False, **{"the output of the model": row})
    finite(caller, **{"outputs of the model": row})  # the kernel of a linear layer would not show its NaN weights
    return row


def require_row(row: Any, caller: str) -> None:
    """Refuse what a model has given for one sample, if it is not one tensor with one row, of numbers with fractions."""
    if not isinstance(row, Tensor) or row.ndim < 1 or len(row) != 1 or row.numel() == 0:
        got = f"shape {tuple(row.shape)}" if isinstance(row, Tensor) else type(row).__name__
        raise ValueError(
            f"{caller} needs a model that returns one tensor with a row for each sample; one sample gave {got}."
        )
    if not (row.is_floating_point() or row.is_complex()):
        raise ValueError(
            f"{caller} needs a model whose outputs have derivatives; this one gives {row.dtype}, as argmax and "
            "comparisons do. Return the numbers before that step."
        )
