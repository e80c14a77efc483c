"""A torch module as a function f(params, x) of its trainable parameters."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from regimes import modules
from regimes.checks import shapes
from regimes.conventions import Params

Functional = Callable[[Params, Tensor], Any]  # a Tensor for every model that has a tangent kernel


def functional(model: nn.Module) -> tuple[Functional, Params]:
    """(f, params) with f(params, x) = model(x) for any values of the trainable parameters.

    params holds each trainable parameter once (tied ones under their first name), detached, sharing memory with the
    model. Parameters with requires_grad=False and buffers are constants. Attention takes its plain form inside f, which
    has all derivatives.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"functional needs a torch module; got {type(model).__name__}. Pass an nn.Module.")
    params = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    if not params:
        raise ValueError(
            f"{type(model).__name__} has no trainable parameter, so no tangent model; "
            "set requires_grad=True on those to train."
        )

    return evaluator(model), params


def evaluator(model: nn.Module) -> Functional:
    """f(values, x): the model with tensors put in for the named parameters or buffers, wherever they are shared."""
    names: dict[int, str] = {}
    places: dict[str, list[str]] = {}
    # Each module once: functional_call by itself would swap a module registered twice two times, and not swap it back.
    for prefix, module in model.named_modules():
        for name, tensor in chain(module._parameters.items(), module._buffers.items()):
            if tensor is None:
                continue
            place = f"{prefix}.{name}" if prefix else name
            places.setdefault(names.setdefault(id(tensor), place), []).append(place)

    def f(values: Params, x: Tensor) -> Any:
        tensors = {place: value for name, value in values.items() for place in places[name]}
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(model, tensors, (x,), tie_weights=False)

    return f


def flatten(params: Mapping[str, Tensor]) -> Shaped[Tensor, " p"]:
    """All parameters in one vector, in the order of the mapping."""
    if not params:
        raise ValueError("flatten needs at least one parameter; got an empty mapping.")
    return torch.cat([value.reshape(-1) for value in params.values()])


def unflatten(vector: Shaped[Tensor, " p"], like: Mapping[str, Tensor]) -> Params:
    """Inverse of flatten: the vector cut into the names and shapes of `like`."""
    size = sum(value.numel() for value in like.values())
    shapes("unflatten", vector=(vector, str(size)), cure=f"Pass a vector of the {size} entries of `like`")
    pieces = vector.split([value.numel() for value in like.values()])
    return {name: piece.view_as(value) for (name, value), piece in zip(like.items(), pieces, strict=True)}


def push_forward(f: Callable[[Params], Tensor], params: Params, tangent: Params) -> tuple[Tensor, Tensor]:
    """(f(params), Df(params)·tangent).

    Forward-mode derivative where every operation has one, else the transpose of the reverse mode: equal up to rounding.
    """
    here, there = ({name: (tuple(v.shape), v.dtype) for name, v in each.items()} for each in (params, tangent))
    if here != there:
        raise ValueError(
            f"push_forward needs a tangent with the names, shapes and dtypes of the parameters; got {there} for {here}."
        )
    return modules.push_forward(f, params, tangent)
