"""What a public function asks of its arguments: shape, dtype, finite entries, counts. A check costs microseconds.

Annotations are checked in tests only, so each public door calls these. `shapes`, `real` and `alike` read no entries:
they never wait for a card and may stand in a step. `finite` reads all entries: it stands where a NaN would be lost and
become plausible. All raise a plain ValueError: what is needed, what came, what to do.
"""

import operator
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from math import inf, isfinite
from types import UnionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regimes.errors import first_line

_SLICE = 2**18  # entries that are looked at together
_SAFE, _HALF = (torch.float32, torch.float64), (torch.float16, torch.bfloat16)
_SAFE_ARRAYS, _HALF_ARRAYS = (np.float32, np.float64), (np.float16,)


class _Spec(NamedTuple):
    """Axes before and after the star, the name of the star (None: no star), and whether the star broadcasts."""

    before: tuple[str, ...]
    star: str | None
    broadcasts: bool
    after: tuple[str, ...]
    shown: str


@cache
def _spec(text: str) -> _Spec:
    axes = text.split()
    stars = [place for place, axis in enumerate(axes) if axis.startswith("*")]
    assert len(stars) <= 1, f"one starred axis at most; got {text!r}"
    shown = f"({', '.join(axes).replace('#', '')}{',' * (len(axes) == 1)})"
    if not stars:
        return _Spec(tuple(axes), None, False, (), shown)
    star = axes[stars[0]][1:]
    return _Spec(tuple(axes[: stars[0]]), star.lstrip("#"), star.startswith("#"), tuple(axes[stars[0] + 1 :]), shown)


def shapes(
    caller: str, /, *, cure: str | None = None, optional: Collection[str] = (), **arrays: tuple[Any, str]
) -> dict[str, int]:
    """The sizes of the named axes, which have to agree over all arrays: shapes("f", x=(x, "n d"), y=(y, "n k")).

    The shapes are written as in the annotations: a name binds a size, a number is that size, `*runs` stands for any
    number of axes that agree, `*#runs` for axes that broadcast against each other; `_` and `*_` agree with anything.
    No axis may be empty. An array that is None is left out if its name is `optional`. `cure` replaces the advice at the
    end of the error.
    """
    sizes: dict[str, int] = {}
    fixed: dict[str, tuple[int, ...]] = {}  # by an array without #, which has all the axes itself
    joined: dict[str, tuple[int, ...]] = {}
    for name, (array, text) in arrays.items():
        if array is None:
            if name in optional:
                continue
            raise ValueError(f"{caller} needs {name} {_spec(text).shown}; got None. Pass {name}.")
        try:
            shape = tuple(array.shape)
        except AttributeError:
            raise _misfit(caller, arrays, f"{name} is a {type(array).__name__}", cure or "Pass a tensor") from None
        before, star, broadcasts, after, _ = _spec(text)
        named = len(before) + len(after)
        if len(shape) < named or (star is None and len(shape) > named):
            least = "at least " * (star is not None)
            reason = f"{name} has {len(shape)} {'axis' if len(shape) == 1 else 'axes'} where {least}{named} are needed"
            advice = f"Add the missing axis, as in {name}[..., None]" if len(shape) < named else f"Reshape {name}"
            raise _misfit(caller, arrays, reason, cure or advice)
        if 0 in shape:
            raise _misfit(caller, arrays, f"{name} is empty", cure or "Pass at least one of each")
        head, tail = shape[: len(before)], shape[len(shape) - len(after) :]
        for axis, size in zip((*before, *after), (*head, *tail), strict=True):
            known = int(axis) if axis.isdecimal() else size if axis == "_" else sizes.setdefault(axis, size)
            if known != size:
                there = f"{name} has {size} in place of {axis}" if axis.isdecimal() else f"{axis} is {known} and {size}"
                raise _misfit(caller, arrays, there, cure or "Pass arrays that agree")
        if star is not None and star != "_":
            middle, here = shape[len(before) : len(shape) - len(after)], joined.get(star, ())
            both = _joined(here, middle)
            whole = both if broadcasts else middle
            if both is None or both != fixed.get(star, both) or both != whole or fixed.get(star, whole) != whole:
                raise _misfit(caller, arrays, f"{star} is {here} and {middle}", cure or "Pass arrays that agree")
            if not broadcasts:
                fixed[star] = middle
            joined[star] = both
    return sizes


def _joined(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that two broadcast to; None if they do not."""
    if one == other:
        return one
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    shorter = (1,) * (len(longer) - len(shorter)) + shorter
    if any(a != b and 1 not in (a, b) for a, b in zip(longer, shorter, strict=True)):
        return None
    return tuple(map(max, longer, shorter))


def _misfit(caller: str, arrays: dict[str, tuple[Any, str]], reason: str, cure: str) -> ValueError:
    given = {name: pair for name, pair in arrays.items() if pair[0] is not None}
    needed = ", ".join(f"{name} {_spec(text).shown}" for name, (_, text) in given.items())
    got = ", ".join(f"{name} {_shown(array)}" for name, (array, _) in given.items())
    return ValueError(f"{caller} needs {needed}; got {got}: {reason}. {cure.rstrip('.')}.")


def _shown(array: Any) -> str:
    return str(tuple(array.shape)) if hasattr(array, "shape") else type(array).__name__


def without_values(array: Any) -> bool:
    """Whether it is a tensor on the meta device, which has a shape and no numbers."""
    return isinstance(array, Tensor) and array.device.type == "meta"


def real(caller: str, /, *, half: bool = False, numpy: bool = False, **arrays: Any) -> None:
    """Refuse all but tensors, with `numpy` arrays too, of float32, float64 or with `half` 16 bits. None is left out."""
    for name, array in arrays.items():
        if array is None:
            continue
        own = numpy and isinstance(array, np.ndarray)
        if not own and not isinstance(array, Tensor):
            raise ValueError(f"{caller} needs {name} as a tensor; got {type(array).__name__}. Use torch.as_tensor.")
        dtype = array.dtype
        if dtype in (_SAFE_ARRAYS if own else _SAFE) or (half and dtype in (_HALF_ARRAYS if own else _HALF)):
            continue
        kind, cure = str(dtype).removeprefix("torch."), f"Convert: {name}.{'astype(float)' if own else 'double()'}"
        if getattr(dtype, "kind", "f") not in "biufc":
            why, cure = "it holds no numbers", "Pass numbers"
        elif "complex" in kind:
            why, cure = "its imaginary part would be lost", "Pass real and imaginary parts side by side"
        elif "float" in kind:
            why = "it would be rounded" if dtype.itemsize > 8 else "16 bits are not enough here"
            cure = cure.replace("double", "float")
        else:
            why = "it has no fractions"
        raise ValueError(f"{caller} needs {name} in float32 or float64; got {kind}: {why}. {cure}.")


def alike(caller: str, /, **tensors: Tensor | None) -> None:
    """Refuse tensors of several dtypes or on several devices. None is left out."""
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if len({(tensor.dtype, tensor.device) for tensor in given.values()}) > 1:
        got = ", ".join(f"{name} {str(t.dtype).removeprefix('torch.')} on {t.device}" for name, t in given.items())
        raise ValueError(f"{caller} needs {', '.join(given)} of one precision on one device; got {got}. Use .to().")


def finite(caller: str, /, **arrays: Any) -> None:
    """Refuse NaN and infinite entries. Reads every entry: on a card it waits for the work before. None is left out."""
    for name, array in arrays.items():
        if array is None:
            continue
        if without_values(array):
            raise ValueError(f"{caller} needs {name} with values; it is on the meta device. Make it on another one.")
        if bad := not_finite(array):
            raise ValueError(
                f"{caller} needs finite {name}; {bad} of its {np.prod(np.shape(array))} entries "
                f"{'is' if bad == 1 else 'are'} NaN or infinite. Look at where it comes from: a diverged run, a "
                "division by zero, missing data."
            )


def not_finite(array: Any) -> int:
    """How many entries are NaN or infinite, in parts: to ask it of all makes temporaries larger than the array."""
    if isinstance(array, Tensor) and array.dtype in _SAFE and bool(array.detach().sum().isfinite()):
        return 0  # a sum is read many times as quickly, and with such an entry it is one, too
    rows, size = len(array) if np.ndim(array) else 1, int(np.prod(np.shape(array)))
    if size > _SLICE:
        step = max(1, _SLICE * rows // size)
        return sum(not_finite(array[i : i + step] if rows > 1 else array[0]) for i in range(0, rows, step))
    return int((~(array.isfinite() if isinstance(array, Tensor) else np.isfinite(array))).sum())


def count(caller: str, name: str, value: Any, at_least: int = 1) -> int:
    """The value as an integer of at least that size; True and False, fractions and NaN are refused."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < at_least:
        raise ValueError(f"{caller} needs {name} as a whole number, at least {at_least}; got {value!r}. Change {name}.")
    return number


def counts(caller: str, name: str, values: Any, length: int | None = None) -> tuple[int, ...]:
    """The values as integers of at least 1; all but a sequence of those is refused, and another length."""
    try:
        given = () if isinstance(values, str | bytes | Mapping | Iterator) else tuple(values)
    except TypeError:
        given = ()
    if not given or (length is not None and len(given) != length):
        needed = "whole numbers, at least one" if length is None else f"{length} whole numbers"
        raise ValueError(f"{caller} needs {name} as a sequence of {needed}; got {values!r}. Change {name}.")
    return tuple(count(caller, f"every entry of {name}", value) for value in given)


def kind(caller: str, name: str, value: Any, kinds: type | UnionType, needed: str) -> None:
    """Refuse a value of another kind than `needed` says."""
    if not isinstance(value, kinds):
        raise ValueError(f"{caller} needs {name} as {needed}; got {_named(value)}.")


def _named(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def function(caller: str, **functions: Any) -> None:
    """Refuse what cannot be called. None is left out."""
    for name, value in functions.items():
        if value is not None and (isinstance(value, type) or not callable(value)):
            raise ValueError(f"{caller} needs {name} as a function; got {_named(value)}. Pass a callable.")


def positive(caller: str, name: str, value: Any, *, infinite: bool = False, single: bool = False) -> None:
    """Refuse all but numbers above 0, all entries of a tensor; inf unless `infinite`, several if `single`."""
    if single:
        _single(caller, name, value)
    _number(caller, name, value, "above 0", lambda v: v > 0, infinite)


def not_negative(caller: str, name: str, value: Any, *, infinite: bool = False, single: bool = False) -> None:
    """Refuse all but numbers of at least 0, all entries of a tensor; inf unless `infinite`, several if `single`."""
    if single:
        _single(caller, name, value)
    _number(caller, name, value, "of at least 0", lambda v: v >= 0, infinite)


def fraction(caller: str, name: str, value: Any) -> None:
    """Refuse all but single numbers above 0 and below 1, as a relative tolerance is."""
    _single(caller, name, value)
    _number(caller, name, value, "above 0 and below 1", lambda v: (v > 0) & (v < 1), False)


def time_limit(caller: str, value: Any) -> None:
    """Refuse all but a single number of seconds, 0 and inf included."""
    _single(caller, "seconds", value)
    _number(caller, "seconds", value, "of at least 0", lambda v: v >= 0, True)


def given(caller: str, /, **arguments: Any) -> None:
    """Refuse None."""
    for name, value in arguments.items():
        if value is None:
            raise ValueError(f"{caller} needs {name}; got None. Pass {name}.")


def _single(caller: str, name: str, value: Any) -> None:
    if np.ndim(value) > 0:
        raise ValueError(f"{caller} needs {name} as one number; got a {type(value).__name__} of more. Change {name}.")


def generator(caller: str, value: Any) -> torch.Generator:
    """The value, if it is a torch.Generator; a seed is refused, for it would give the same numbers at every call."""
    if not isinstance(value, torch.Generator):
        raise ValueError(
            f"{caller} needs generator as a torch.Generator; got {value!r}. Use torch.Generator().manual_seed(0)."
        )
    return value


def device(caller: str, value: Any) -> torch.device:
    """The device of that name; ValueError unless torch knows it and the machine has it."""
    try:
        found = torch.device(value)
        torch.empty(0, device=found)
    except (TypeError, ValueError, RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f'{caller} needs device as the name of one that is there, such as "cpu" or "cuda"; got {value!r} '
            f"({first_line(error, 160).partition('. ')[0]}). Change device."
        ) from None
    return found


def _number(caller: str, name: str, value: Any, needed: str, holds: Any, infinite: bool) -> None:
    if isinstance(value, Tensor | np.ndarray):
        real = not (value.is_complex() if isinstance(value, Tensor) else np.iscomplexobj(value))
        good = (
            real
            and 0 not in value.shape
            and not without_values(value)
            and bool((holds(value) & ((value < inf) | infinite)).all())
        )
    else:
        try:
            good = not isinstance(value, bool | str | bytes) and holds(float(value)) and (infinite or isfinite(value))
        except (TypeError, ValueError, OverflowError):  # the last for whole numbers that no float holds
            good = False
    if not good:
        shape = tuple(getattr(value, "shape", ()))
        shown = repr(value) if np.prod(shape) <= 8 else f"a tensor of shape {shape}"
        kind = "a number" if infinite else "a finite number"
        raise ValueError(f"{caller} needs {name} as {kind} {needed}; got {shown}. Change {name}.")
