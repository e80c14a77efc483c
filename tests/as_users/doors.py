"""Wrong inputs made from right ones, for the table of doors of each package."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Door(NamedTuple):
    """A public function with arguments that are right, and the wrong ones that it may take all the same.

    sized: the axes of each argument whose size follows from another argument, so that one entry less is an error.
    free: pairs "argument: spoilt how" that are right here.
    name: what the error begins with; None: the name of the function.
    """

    call: Callable[..., Any]
    right: Callable[[], Mapping[str, Any]]
    sized: Mapping[str, tuple[int, ...]] = {}
    free: frozenset[str] | set[str] = frozenset()
    name: str | tuple[str, ...] | None = None


def spoilt(value: Any, sized: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Wrong values in place of a right one, each with what is wrong about it."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            for word, number in (("nan", math.nan), ("inf", math.inf)):
                bad = value.detach().clone()
                bad.view(-1)[0] = number
                yield word, bad
            yield "complex", value.detach().to(torch.complex128)
            yield "integer", value.detach().long()
            yield "half", value.detach().bfloat16()
        yield "empty", value.detach()[:0]
        yield "an axis less", value.detach()[..., 0]
        yield "an axis more", value.detach()[..., None]
        yield "a list", value.tolist()
        for axis in sized:
            yield f"axis {axis} shorter", value.detach().narrow(axis, 0, value.shape[axis] - 1)
            yield f"axis {axis} of one", value.detach().narrow(axis, 0, 1)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        yield from (("0", 0), ("-1", -1), ("nan", math.nan), ("a fraction", value + 0.5), ("a word", "many"))
    elif isinstance(value, float):
        yield from (("-1", -1.0), ("nan", math.nan), ("inf", math.inf), ("a word", "much"))


def cases(doors: Mapping[str, Door]) -> list[tuple[str, str, str]]:
    """(door, argument, what is wrong) for every wrong input of every door that has to be refused."""
    found = []
    for name, door in doors.items():
        for argument, value in door.right().items():
            for how, _ in spoilt(value, tuple(door.sized.get(argument, ()))):
                if f"{argument}: {how}" not in door.free:
                    found.append((name, argument, how))
    return found


def not_taken(doors: Mapping[str, Door]) -> list[str]:
    """The doors whose result on their right input holds a NaN or an infinite number; a refusal is raised."""
    return [name for name, door in doors.items() if not _all_finite(door.call(**door.right()))]


def loses(door: Door, argument: str, how: str) -> str | None:
    """What is wrong with the way a door takes a wrong input: None if it refuses it, or if a NaN stays in sight."""
    arguments = dict(door.right())
    bad = dict(spoilt(arguments[argument], tuple(door.sized.get(argument, ()))))[how]
    try:
        result = door.call(**arguments | {argument: bad})
    except ValueError as error:
        name = door.name or door.call.__name__
        return None if str(error).startswith(name) else f"the error does not begin with {name}: {error}"
    except Exception as error:
        return f"{type(error).__name__} instead of a ValueError: {error}"
    if how in ("nan", "inf") and isinstance(bad, Tensor) and not _all_finite(result):
        return None
    return f"taken: {result}"


def _all_finite(result: Any) -> bool:
    """Whether no NaN and no infinite number is left in a result, so that it looks like a good one."""
    if isinstance(result, Tensor):
        return bool(result.isfinite().all())
    if isinstance(result, float):
        return math.isfinite(result)
    if isinstance(result, Mapping):
        return all(map(_all_finite, result.values()))
    return all(map(_all_finite, result)) if isinstance(result, tuple | list) else True


KINDS: Mapping[str, Any] = {
    "None": None,
    "a word": "gpu",
    "a number": 3,
    "a fraction": 2.5,
    "a list": [1, 2],
    "a mapping": {},
    "an object": object(),
    "no entries": torch.empty(0),
    "one number as a tensor": torch.zeros(()),
    "a function": lambda *_, **__: 1,
    "a class": torch.nn.Linear,
    "a module": torch.nn.Linear(2, 2),
    "words": ("a",),
    "an array": np.ones(3),
    "no values": torch.empty(4, 3, device="meta"),
}


def crashes(door: Door, allowed: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """What a door does with values of other kinds, where it neither takes them nor raises a ValueError in words.

    allowed: pairs "argument: kind" that may end in another way.
    """
    found = []
    for argument, value in door.right().items():
        kinds = dict(KINDS)
        if isinstance(value, Tensor):
            kinds["its array"] = value.detach().numpy()
        for kind, bad in kinds.items():
            if f"{argument}: {kind}" in allowed:
                continue
            try:
                door.call(**dict(door.right()) | {argument: bad})
            except ValueError as error:
                if "\n" in str(error) or not any(word in str(error) for word in ("need", "has", "goes on")):
                    found.append(f"{argument}, {kind}: {error}")
            except Exception as error:
                found.append(f"{argument}, {kind}: {type(error).__name__}: {error}")
    return found
