"""What a trace leaves out: shortcuts that are not named, blocks that chance skips. Each is said once, as a warning."""

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regimes.models.recording import Call, first_tensor, same
from regimes.modules import Generators, drawn, draws_chance, generators

SHORTCUT = re.compile(r"down_?samp|short_?cut|skip|bypass|identity|res_?conv|conv_?res", re.IGNORECASE)
PROJECTION = re.compile(r"^proj(ection)?$", re.IGNORECASE)  # a shortcut only where the shape changes
SKIPPING = re.compile(r"drop_?path|stochastic_?depth|layer_?drop", re.IGNORECASE)
_INSIDE = tuple(str(Path(module.__file__ or "").parent) for module in (torch, sys.modules["regimes"]))


class Part(NamedTuple):
    """A submodule that ran while its block did, and changed what it was given."""

    block: str
    name: str
    shape: tuple[int, ...]


class Seen(NamedTuple):
    """What else a call showed: the parts of each block, and the blocks during which random numbers were drawn."""

    parts: list[Part]
    drew: set[str]


@contextmanager
def watched(model: nn.Module, blocks: Sequence[str], shortcuts: Sequence[str]) -> Iterator[Seen]:
    """Look at the blocks and at what is inside them but the named shortcuts, as long as the context lasts."""
    seen, since = Seen([], set()), dict[str, Generators]()

    def before(name: str, *_: Any) -> None:
        since[name] = generators()

    def after(name: str, *_: Any) -> None:
        if drawn(since[name]):
            seen.drew.add(name)

    def part(block: str, name: str, module: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
        start = first_tensor(inputs)
        if isinstance(result, Tensor) and (start is None or not same(start, result)):
            seen.parts.append(Part(block, name, tuple(result.shape)))

    hooks = []
    try:
        for name in blocks:
            block = model.get_submodule(name)
            hooks += [
                block.register_forward_pre_hook(partial(before, name)),
                block.register_forward_hook(partial(after, name)),
            ]
            for inner, module in block.named_modules(prefix=name):
                named = any(inner == link or inner.startswith(f"{link}.") for link in shortcuts)
                if inner != name and not named and _is_link(inner):
                    hooks.append(module.register_forward_hook(partial(part, name, inner)))
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _is_link(name: str, shortcut: re.Pattern[str] | None = None) -> bool:
    last = name.rsplit(".", 1)[-1]
    return any(pattern.search(last) for pattern in (SHORTCUT, PROJECTION) if shortcut in (None, pattern))


def shortcuts_left_out(calls: Sequence[Call], parts: Sequence[Part]) -> Iterator[str]:
    """Sentences about blocks whose shortcut is not traced, so that their step is not counted or counts it too."""
    found = {call.name: [] for call in calls if not call.enters}
    ends = {call.name: (tuple(call.end.shape), call.moves()) for call in calls}
    for part in parts:
        names = found.get(part.block)
        shape, moves = ends.get(part.block, ((), True))
        if names is None or part.shape != shape or not _is_link(part.name, SHORTCUT if moves else None):
            continue
        if not any(part.name.startswith(f"{outer}.") for outer in names):
            names[:] = [each for each in names if not each.startswith(f"{part.name}.")] + [part.name]
    changing = [name for name in found if not ends[name][1]]
    if changing:
        links = [link for name in changing for link in found[name]]
        advice = f"shortcuts={_shown(links)}" if links else "shortcuts=..., the submodules that return it,"
        yield (
            f"trace_residuals: the shape of the state changes in {_shown(changing)}, where no shortcut is traced: what "
            f"{'it moves does' if len(changing) == 1 else 'they move does'} not count in the transport cost. Pass "
            f"{advice} to count it, or shortcuts=() to leave it out."
        )
    kept = [(name, link) for name in found if ends[name][1] for link in found[name]]
    if kept:
        yield (
            f"trace_residuals: {_shown([link for _, link in kept])} looks like a shortcut that changes the state, and "
            f"is not traced: the step of {_shown(list(dict(kept)))} counts that change too. Pass it in shortcuts, or "
            "shortcuts=() if all is as it should be."
        )


def left_to_chance(model: nn.Module, calls: Sequence[Call], drew: set[str]) -> Iterator[str]:
    """Sentences about blocks that draw random numbers other than those of dropout."""
    training = {name: model.get_submodule(name).training for name in drew}
    named = {call.name: call for call in calls}
    odd = [name for name, call in named.items() if name in drew and _skips(model.get_submodule(name), call)]
    if odd:
        yield (
            f"trace_residuals: {_shown(odd)} draws random numbers in training that are no nn.Dropout. If they are "
            "those of stochastic depth, a sample that is skipped has a step of 0 there, and the transport cost is that "
            "of the blocks that are left."
        )
    noisy = [name for name in named if name in drew and not training[name]]
    if noisy:
        yield (
            f"trace_residuals: {_shown(noisy)} draws random numbers in eval mode: states, steps and transport cost "
            "change from call to call."
        )


def _skips(block: nn.Module, call: Call) -> bool:
    """Whether chance is at work in a block that is no dropout alone: by its parts, or by samples that did not move."""
    active = [module for module in block.modules() if module.training]
    if any(SKIPPING.search(type(module).__name__) for module in active):
        return True
    if not any(map(draws_chance, active)):
        return block.training
    still = (call.end == call.start).flatten(1).all(1) if call.moves() and call.end.ndim > 1 else torch.zeros(1)
    return bool(still.any()) and not bool(still.all())


def skipped(names: Sequence[str]) -> str:
    """A sentence about blocks that were not called, or returned what they were given."""
    return (
        f"trace_residuals: {_shown(list(names))} was skipped: the state passed it unchanged, and its step is 0 "
        "(stochastic depth?). The transport cost is that of the other blocks."
    )


def say(text: str, said: set[str]) -> None:
    """A warning at the caller's line, outside of torch and this package, unless it was said."""
    if text in said:
        return
    said.add(text)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def _shown(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names[:4]]
    return f"[{', '.join(quoted)}{', ...' if len(names) > 4 else ''}]" if len(names) > 1 else quoted[0]
