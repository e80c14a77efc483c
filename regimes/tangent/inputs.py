"""Models of several inputs, and models called in a way of their own, as modules of one tensor."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from regimes.checks import finite, function, kind
from regimes.modules import tensor_of, unwrapped

Samples = Shaped[Tensor, "_ ..."] | Mapping[str, Any] | tuple[Any, ...]
Forward = Callable[[nn.Module, Any], Any]
_PREFIX = "model."


class Adapted(nn.Module):
    """forward(model, batch) as a module of one tensor; its output is what `tensor_of` finds in the result."""

    def __init__(self, model: nn.Module, forward: Forward, caller: str) -> None:
        super().__init__()
        self.model = model
        self.caller = caller
        self._forward = forward
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        return tensor_of(self._forward(self.model, self.batch(x)), self.caller)

    def batch(self, x: Tensor) -> Any:
        """What goes to the model."""
        return x


class Gathered(Adapted):
    """The same for samples of several tensors; its input is the numbers of the samples."""

    def __init__(self, model: nn.Module, forward: Forward, samples: Mapping[Any, Tensor], caller: str) -> None:
        super().__init__(model, forward, caller)
        self.keyed = all(isinstance(name, str) for name in samples)
        self.samples = samples  # a plain attribute: no buffers, which a call may not change
        self.pool = samples

    @property
    def n(self) -> int:
        return len(next(iter(self.samples.values())))

    def numbers(self) -> Tensor:
        """The input that stands for the samples."""
        return torch.arange(self.n, device=next(iter(self.samples.values())).device)

    def alone(self) -> None:
        """Let go of other samples."""
        self.pool = self.samples

    def beside(self, others: Mapping[Any, Tensor]) -> Tensor:
        """The input that stands for other samples, until the next call or `alone`."""
        self.pool = {name: torch.cat([value, others[name]]) for name, value in self.samples.items()}
        more = len(next(iter(others.values())))
        return torch.arange(self.n, self.n + more, device=self.numbers().device)

    def batch(self, x: Tensor) -> Any:
        chosen = {name: value[x] for name, value in self.pool.items()}
        return chosen if self.keyed else tuple(chosen.values())


def adapted(model: Any, x: Any, forward: Forward | None, caller: str) -> tuple[Any, Any]:
    """(model, x) as they are, if x is one tensor and the model is called on it; else a module of one tensor, and that.

    Mappings go in by keyword and tuples by position, unless `forward` says otherwise.
    """
    function(caller, forward=forward)
    several = isinstance(x, Mapping | tuple)
    if (forward is None and not several) or not isinstance(model, nn.Module):
        return model, x
    model = unwrapped(model)
    if not several:
        assert forward is not None
        return Adapted(model, forward, caller), x
    if forward is None:
        forward = _by_keyword if isinstance(x, Mapping) else _by_position
    gathered = Gathered(model, forward, _tensors(model, x, caller, "inputs"), caller)
    return gathered, gathered.numbers()


def other_samples(model: nn.Module, x: Any, caller: str, name: str) -> Any:
    """Other samples for an adapted model, as its input; of any other model x itself."""
    if not isinstance(model, Gathered):
        return x
    if not isinstance(x, Mapping | tuple):
        raise ValueError(f"{caller} needs {name} as the inputs were given, several tensors; got {type(x).__name__}.")
    others = _tensors(model.model, x, caller, name)
    mine = {key: (tuple(value.shape[1:]), value.dtype, value.device) for key, value in model.samples.items()}
    theirs = {key: (tuple(value.shape[1:]), value.dtype, value.device) for key, value in others.items()}
    if mine != theirs:
        raise ValueError(
            f"{caller} needs {name} with the tensors of the inputs, of one sample shape, dtype and device each; "
            f"got {theirs} for {mine}."
        )
    return model.beside(others)


def same_samples(model: nn.Module, x: Tensor, other: nn.Module, x_other: Tensor) -> bool:
    """Whether two adapted models, or two that are not, have the same samples."""
    if isinstance(model, Gathered) and isinstance(other, Gathered):
        mine, theirs = model.samples, other.samples
        return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in mine.items())
    return isinstance(model, Gathered) == isinstance(other, Gathered) and torch.equal(x, x_other)


def outer_names(model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of an adapted model under the names that they have in the model itself."""
    if not isinstance(model, Adapted):
        return dict(values)
    return {name.removeprefix(_PREFIX): value for name, value in values.items()}


def outer_layers(model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same for modules; the model itself is the empty name."""
    if not isinstance(model, Adapted):
        return dict(values)
    return {f"{name}.".removeprefix(_PREFIX).removesuffix("."): value for name, value in values.items()}


def held_samples(model: nn.Module, x: Tensor) -> Any:
    """The samples as they were given: those that an adapted model holds, of any other model x."""
    return model.samples if isinstance(model, Gathered) else x


def alone(model: nn.Module) -> None:
    """An adapted model lets go of the samples that it was given beside its own."""
    if isinstance(model, Gathered):
        model.alone()


def pool_of(model: nn.Module) -> dict[str, Tensor]:
    """The samples that an adapted model holds, with those beside them."""
    return {f"pool {name}": value for name, value in model.pool.items()} if isinstance(model, Gathered) else {}


def inner_names(model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way round."""
    return {_PREFIX + name: value for name, value in values.items()} if isinstance(model, Adapted) else dict(values)


def _by_keyword(model: nn.Module, batch: Any) -> Any:
    return model(**batch)


def _by_position(model: nn.Module, batch: Any) -> Any:
    return model(*batch)


def _tensors(model: nn.Module, x: Any, caller: str, name: str) -> dict[Any, Tensor]:
    """The tensors by name or place, each with an axis of samples of one length."""
    found: dict[Any, Tensor] = dict(x) if isinstance(x, Mapping) else dict(enumerate(x))
    if not found:
        raise ValueError(f"{caller} needs {name} with at least one tensor; got none.")
    parameter = next(iter(model.parameters()), None)
    for key, value in found.items():
        kind(caller, f"{name}[{key!r}]", value, Tensor, "a tensor with a row for each sample")
        if value.ndim < 1 or value.numel() == 0:
            raise ValueError(f"{caller} needs at least one sample in {name}[{key!r}]; got shape {tuple(value.shape)}.")
        if parameter is not None and value.device != parameter.device:
            raise ValueError(f"{caller} needs {name}[{key!r}] on {parameter.device}, as the model; got {value.device}.")
        if parameter is not None and value.is_floating_point() and value.dtype != parameter.dtype.to_real():
            raise ValueError(
                f"{caller} needs {name}[{key!r}] in the dtype of the model, {parameter.dtype}; got {value.dtype}."
            )
    lengths = {key: len(value) for key, value in found.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{caller} needs {name} with a row for each sample in every tensor; got {lengths} rows.")
    finite(caller, **{f"{name}[{key!r}]": value for key, value in found.items() if value.is_floating_point()})
    return {key: value.detach() for key, value in found.items()}
