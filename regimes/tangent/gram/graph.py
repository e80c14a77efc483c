"""Where the graph of an output uses each parameter: the node, its argument, and what lies between."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Node = Any  # torch.autograd.graph.Node; its saved tensors are attributes that depend on its kind
_ACCUMULATE = "torch::autograd::AccumulateGrad"
# Views that keep every entry, once: products of derivatives do not feel the order of the entries.
_WHOLE_VIEWS = {
    "TBackward0",
    "TransposeBackward0",
    "PermuteBackward0",
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "UnsqueezeBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "CloneBackward0",
    "AliasBackward0",
}


class Use(NamedTuple):
    """One place where a parameter, or a view of all of it, or a multiple, enters an operation."""

    node: Node
    argument: int
    factor: float  # constant numbers that the parameter is multiplied by on its way
    view: tuple[Any, ...]  # kinds and shapes on its way: two uses of one view have their entries in one order
    shape: tuple[int, ...]  # as the operation sees it


def shape_of(node: Node) -> tuple[int, ...]:
    """Shape of the first output of the operation."""
    return tuple(node._input_metadata[0].shape)


def dtype_of(node: Node) -> torch.dtype:
    """Of the first output of the operation."""
    return node._input_metadata[0].dtype


def uses(output: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, list[Use]]:
    """All uses of each named parameter in the graph of the output; none for one that the graph does not reach."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    consumers: dict[Node, list[tuple[Node, int]]] = {}
    leaves: dict[str, Node] = {}
    waiting: list[Node] = [] if output.grad_fn is None else [output.grad_fn]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        for argument, (below, _) in enumerate(node.next_functions):
            if below is None:
                continue
            consumers.setdefault(below, []).append((node, argument))
            if below.name() == _ACCUMULATE:
                name = names.get(id(below.variable))
                if name is not None:
                    leaves[name] = below
            else:
                waiting.append(below)
    return {
        name: list(_below(leaves[name], consumers, 1.0, (), tuple(parameter.shape))) if name in leaves else []
        for name, parameter in parameters.items()
    }


def _below(
    start: Node, consumers: dict[Node, list[tuple[Node, int]]], factor: float, view: tuple[Any, ...], shape: tuple
) -> list[Use]:
    found = []
    for node, argument in consumers[start]:
        kind = node.name()
        if kind in _WHOLE_VIEWS:
            seen = shape_of(node)
            found += _below(node, consumers, factor, (*view, kind, seen), seen)
        elif (number := _number(node, argument)) is not None:
            found += _below(node, consumers, factor * number, view, shape)
        else:
            found.append(Use(node, argument, factor, view, shape))
    return found


def _number(node: Node, argument: int) -> float | None:
    """The constant number that the node multiplies its argument by; None where it does something else."""
    if node.name() not in ("MulBackward0", "DivBackward0") or len(node.next_functions) != 2:
        return None
    if node.next_functions[1 - argument][0] is not None:
        return None
    if node.name() == "DivBackward0" and argument != 0:
        return None
    other = node._saved_other if argument == 0 else node._saved_self
    if isinstance(other, Tensor):
        if other.ndim > 0:
            return None
        other = other.item()
    if isinstance(other, complex):
        return None
    return 1 / other if node.name() == "DivBackward0" else float(other)
