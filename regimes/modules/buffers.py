"""Whether a call of a model changes what it holds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def untouched_buffers(model: nn.Module, caller: str) -> Iterator[None]:
    """Refuse a model whose call changes its buffers, and put them back as they were, also when the call fails."""
    places = [
        (f"{prefix}.{name}" if prefix else name, module, name, buffer, buffer.detach().clone())
        for prefix, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    parameters = [(name, each, each._version) for name, each in model.named_parameters() if not each.is_inference()]
    changed: list[str] = []
    try:
        yield
    finally:
        with torch.no_grad():
            for place, module, name, buffer, before in places:
                if module._buffers.get(name) is not buffer or not _same(buffer, before):
                    changed.append(place)
                    buffer.copy_(before)
                    module._buffers[name] = buffer
    for name, parameter, version in parameters:
        if parameter._version != version:
            raise ValueError(
                f"{caller} needs a model that a call leaves as it is; this one changes its parameter {name!r} in "
                "place (which was not put back). Do that in training only."
            )
    if changed:
        raise ValueError(
            f"{caller} needs a model that a call leaves as it is; this one changes its buffer {changed[0]!r} "
            "(which was put back): call model.eval() first."
        )


@contextmanager
def untouched_attributes(model: nn.Module) -> Iterator[None]:
    """Put back the plain tensors that modules hold as attributes, such as weights that a hook forms at each call.

    Those of a call inside torch.func mean nothing after it.
    """
    before = [(vars(module), _attributes(module)) for module in model.modules()]
    try:
        yield
    finally:
        for held, tensors in before:
            for name in [name for name, value in held.items() if isinstance(value, Tensor) and name not in tensors]:
                del held[name]
            for name, value in tensors.items():
                if held.get(name) is not value:
                    held[name] = value


def _attributes(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}


def _same(one: Tensor, other: Tensor) -> bool:
    if one.layout != torch.strided:
        return all(
            a.shape == b.shape and _same(a, b) for a, b in zip(dense_parts(one), dense_parts(other), strict=True)
        )
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


def dense_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Places and values of a sparse tensor, such as the adjacency of a graph; any other tensor itself."""
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)
