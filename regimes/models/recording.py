"""Calls of submodules during one forward pass, recorded by hooks, and the segments that they make up."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from regimes.models.inner_product import widened

States = tuple[tuple[Tensor, ...], ...]


@dataclass(eq=False)
class Call:
    """One call of one block: its states, and how often these had been changed in place by then.

    enters: its start is what a shortcut of it returns, so that the block comes from another space.
    """

    name: str
    start: Tensor
    start_version: int
    enters: bool
    end: Tensor
    end_version: int

    def intact(self) -> bool:
        """Whether both states still hold what they held during the call."""
        return version(self.start) == self.start_version and version(self.end) == self.end_version

    def moves(self) -> bool:
        """Whether start and end lie in one space, so that there is a step between them."""
        return self.start.shape == self.end.shape


@contextmanager
def recorded(model: nn.Module, blocks: Sequence[str], shortcuts: Sequence[str]) -> Iterator[list[Call]]:
    """Calls of the named blocks in the order in which they end, as long as the context lasts; then no hook is left.

    A block starts from its first tensor argument, or from what a named shortcut inside it returns.
    """
    calls: list[Call] = []
    running: list[tuple[Tensor, int, bool]] = []
    grad = torch.is_grad_enabled()

    def before(name: str, block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if grad and not torch.is_grad_enabled() and any(weight.requires_grad for weight in block.parameters()):
            raise ValueError(
                f"block {name!r} runs without gradients, so its step could not be learned: checkpoint with "
                "use_reentrant=False, or freeze its parameters by requires_grad_(False)."
            )
        start = first_tensor(inputs)
        if start is None:  # all by keyword: the first parameter that holds a tensor
            start = first_tensor(tuple(inspect.signature(block.forward).bind(*inputs, **named).arguments.values()))
        if start is None:
            raise ValueError(
                f"block {name!r} is called without a tensor of floats, so it has no state to start from. Convert what "
                "it is given, or choose other blocks, behind an embedding say."
            )
        running.append((start, version(start), False))

    def link(name: str, shortcut: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
        start = first_tensor(result)
        if start is None or not running:
            raise ValueError(f"the shortcut {name!r} must return a tensor, while its block runs.")
        running[-1] = (start, version(start), True)

    def after(name: str, block: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
        end = first_tensor(result)
        if end is None:
            raise ValueError(f"block {name!r} returns a {type(result).__name__} without a tensor: it has no end.")
        calls.append(Call(name, *running.pop(), end, version(end)))

    hooks = []
    try:
        for name in blocks:
            block = model.get_submodule(name)
            hooks.append(block.register_forward_pre_hook(partial(before, name), with_kwargs=True))
            hooks.append(block.register_forward_hook(partial(after, name)))
        for name in shortcuts:
            hooks.append(model.get_submodule(name).register_forward_hook(partial(link, name)))
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def chains(calls: Sequence[Call]) -> list[list[Call]]:
    """Calls that make steps, one list a segment: a block that starts where another ended goes on with its segment."""
    found: list[list[Call]] = []
    ends: list[Tensor] = []
    for call in calls:
        places = (k for k in reversed(range(len(ends))) if same(ends[k], call.start))
        place = next(places, None) if call.moves() else None
        if place is None:
            place = len(ends)
            found.append([])
            ends.append(call.end)
        if call.moves():
            found[place].append(call)
            ends[place] = call.end
    return [chain for chain in found if chain]


def segments(calls: Sequence[Call]) -> tuple[States, States]:
    """Paths and steps of the segments."""
    found = chains(calls)
    paths = tuple((chain[0].start, *(call.end for call in chain)) for chain in found)
    return paths, tuple(tuple(widened(call.end) - widened(call.start) for call in chain) for chain in found)


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one, or look at one storage in one way."""
    if a is b:
        return True
    if a.shape != b.shape or a.stride() != b.stride() or a.dtype != b.dtype:
        return False
    try:
        return a.data_ptr() == b.data_ptr()
    except RuntimeError:  # no storage, under function transforms
        return False


def version(state: Tensor) -> int:
    """How often a tensor was changed in place; inference tensors do not count."""
    return 0 if state.is_inference() else state._version


def first_tensor(value: Any) -> Tensor | None:
    """The first floating-point tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() or value.is_complex() else None
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((found for entry in value if (found := first_tensor(entry)) is not None), None)
    return None
