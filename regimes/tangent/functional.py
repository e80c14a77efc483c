"""A torch module as a function f(params, x) of its trainable parameters."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.func import functional_call

from regimes import modules
from regimes.checks import function, given, kind, shapes
from regimes.conventions import Params

Functional = Callable[[Params, Tensor], Any]  # a Tensor for every model that has a tangent kernel
Within = Callable[[Params, Callable[[], Any]], Any]


def functional(model: nn.Module) -> tuple[Functional, Params]:
    """(f, params) with f(params, x) = model(x) for any values of the trainable parameters.

    params holds each trainable parameter once (tied ones under their first name), detached, sharing memory with the
    model. Parameters with requires_grad=False and buffers are constants. Attention and recurrent layers take their
    plain forms inside f, which have all derivatives.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"functional needs a torch module; got {type(model).__name__}. Pass an nn.Module.")
    model = modules.unwrapped(model)
    params = {name: value.detach() for name, value in trainable(model).items()}
    if not params:
        raise ValueError(
            f"{type(model).__name__} has no trainable parameter, so no tangent model; "
            "set requires_grad=True on those to train."
        )

    return evaluator(model), params


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Each trainable parameter once, under its first name."""
    kind("trainable", "model", model, nn.Module, "a torch module")
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def evaluator(model: nn.Module, caller: str = "functional") -> Functional:
    """f(values, x): the model with tensors put in for the named parameters or buffers, wherever they are shared.

    The output is the model's, or its `logits`, or the only tensor in what it returns; otherwise a ValueError of caller.
    A model that writes into its inputs writes into a copy of x.
    """
    inside = within(model)

    def f(values: Params, x: Tensor) -> Any:
        return inside(values, lambda: modules.called(model, x.clone(), caller))

    return f


def within(model: nn.Module) -> Within:
    """g(values, work): what work() gives while the model has the values, at each place of a shared tensor."""
    names: dict[int, str] = {}
    places: dict[str, list[str]] = {}
    # Each module once: functional_call by itself would swap a module registered twice two times, and not swap it back.
    for prefix, module in model.named_modules():
        for name, tensor in chain(module._parameters.items(), module._buffers.items()):
            if tensor is None:
                continue
            place = f"{prefix}.{name}" if prefix else name
            places.setdefault(names.setdefault(id(tensor), place), []).append(place)
    holder = _Holder(model)

    def g(values: Params, work: Callable[[], Any]) -> Any:
        tensors = {f"model.{place}": value for name, value in values.items() for place in places[name]}
        with derivable(model):
            return functional_call(holder, tensors, (work,), tie_weights=False)

    return g


class _Holder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Any]) -> Any:
        return work()


@contextmanager
def derivable(model: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers in the forms that have all derivatives; plain attributes put back afterwards."""
    with ExitStack() as stack:
        stack.enter_context(modules.plain_attention())
        if recurrent(model) and any(each.is_cuda for each in model.parameters()):
            stack.enter_context(modules.without_cudnn())
        if not torch.compiler.is_compiling():
            stack.enter_context(modules.untouched_attributes(model))
        yield


def recurrent(model: nn.Module) -> bool:
    """Whether it has cells that write in place, which vmap over samples cannot follow."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def flatten(params: Mapping[str, Tensor]) -> Shaped[Tensor, " p"]:
    """All parameters in one vector, in the order of the mapping."""
    kind("flatten", "params", params, Mapping, "a mapping from names to tensors")
    if not params:
        raise ValueError("flatten needs at least one parameter; got an empty mapping.")
    return torch.cat([value.reshape(-1) for value in params.values()])


def unflatten(vector: Shaped[Tensor, " p"], like: Mapping[str, Tensor]) -> Params:
    """Inverse of flatten: the vector cut into the names and shapes of `like`."""
    kind("unflatten", "like", like, Mapping, "a mapping from names to tensors")
    size = sum(value.numel() for value in like.values())
    kind("unflatten", "vector", vector, Tensor, "a tensor")
    shapes("unflatten", vector=(vector, str(size)), cure=f"Pass a vector of the {size} entries of `like`")
    pieces = vector.split([value.numel() for value in like.values()])
    return {name: piece.view_as(value) for (name, value), piece in zip(like.items(), pieces, strict=True)}


def push_forward(f: Callable[[Params], Tensor], params: Params, tangent: Params) -> tuple[Tensor, Tensor]:
    """(f(params), Df(params)·tangent).

    Forward-mode derivative where every operation has one, else the transpose of the reverse mode: equal up to rounding.
    """
    given("push_forward", f=f)
    function("push_forward", f=f)
    for name, each in {"params": params, "tangent": tangent}.items():
        kind("push_forward", name, each, Mapping, "a mapping from names to tensors")
    here, there = ({name: (tuple(v.shape), v.dtype) for name, v in each.items()} for each in (params, tangent))
    if here != there:
        raise ValueError(
            f"push_forward needs a tangent with the names, shapes and dtypes of the parameters; got {there} for {here}."
        )
    return modules.push_forward(f, params, {name: tangent[name] for name in params})
