"""What a caller's function or network is, as one short text: its code, constants and structure, never an address.

Two definitions have one digest if they are built alike by the same code. Of the caller's own functions and classes the
bytecode counts, with what it refers to: constants, defaults, closures, global names, `functools.partial`. Those of
installed packages count by their name. Of the network in training the weights count by their shapes alone; of all other
tensors the content counts. What cannot be read is like nothing else, not even itself.
What a call itself stores (a counter, a cache) does not count, as it changes in a run.
"""

import argparse
import functools
import hashlib
import json
import platform
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from regimes.lab.bytecode import attributes, bare, cell_content, changes, globals_of, installed, library, state, stored

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice)
PLAIN += (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, PurePath)
READABLE = ("torch", "numpy", "scipy")  # packages whose objects hold settings, and no state of a process
_MODULE = set(vars(nn.Module()))


def definition(value: Any, model: nn.Module | None = None) -> str:
    """Digest of a function or network, after the version of Python, whose bytecode it is. model: that in training."""
    text = json.dumps(_Reader(model).read(value), sort_keys=True)
    major, minor, _ = platform.python_version_tuple()
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-python{major}.{minor}"


class _Reader:
    """One reading: what was met already is named by its number, so that circles end and shared parts show."""

    def __init__(self, model: nn.Module | None) -> None:
        self.own = {
            id(part)
            for module in (() if model is None else model.modules())
            for part in (module, *(tensor for name, tensor in _tensors(module).items() if _saved(module, name)))
        }
        self.met: dict[int, int] = {}
        self.kept: list[Any] = []  # nothing met is freed, so that no other object gets its address

    def read(self, value: Any) -> Any:
        """Lists, texts and numbers that say what a value is."""
        if isinstance(value, PLAIN):
            return [type(value).__name__, repr(value)]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, Enum):
            return ["choice", type(value).__qualname__, value.name]
        if id(value) in self.met:
            return ["met", self.met[id(value)]]
        if not isinstance(value, tuple | frozenset | types.CodeType):  # equal ones may be one object, or not
            self.met[id(value)] = len(self.met)
        self.kept.append(value)
        reading = next((reading for kind, reading in self._kinds() if isinstance(value, kind)), self._object)
        try:
            return reading(value)
        except Exception:  # whatever a foreign object does when it is looked at: then it is like no other
            return ["unreadable", type(value).__qualname__, uuid.uuid4().hex]

    def _kinds(self) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
        yield Tensor, self._tensor
        yield np.ndarray | np.generic, self._array
        yield types.CodeType, lambda code: self._code(code, None)
        yield types.FunctionType, self._function
        yield types.MethodType, lambda method: ["method", self.read(method.__func__), self.read(method.__self__)]
        yield (types.BuiltinFunctionType, types.MethodWrapperType), self._built_in
        yield functools.partial, lambda one: ["partial", *map(self.read, (one.func, one.args, one.keywords))]
        yield type, self._class
        yield nn.Module, self._module
        yield Mapping, self._mapping
        yield (list, tuple), lambda items: [type(items).__name__, [self.read(item) for item in items]]
        yield (set, frozenset), lambda items: ["set", sorted(json.dumps(self.read(item)) for item in items)]

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        return [type(value).__name__, [[self.read(key), self.read(item)] for key, item in value.items()]]

    def _tensor(self, value: Tensor) -> Any:
        if is_lazy(value):
            return ["weight", "not made yet"]
        about = [str(value.dtype), list(value.shape), value.requires_grad]
        if id(value) in self.own or value.device.type == "meta" or value.layout != torch.strided:
            return ["weight", *about]
        return ["tensor", *about, self.read(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())]

    def _array(self, value: Any) -> Any:
        content = "" if value.dtype.hasobject else hashlib.sha256(value.tobytes()).hexdigest()
        return ["array", str(value.dtype), list(value.shape), content]

    def _built_in(self, value: Any) -> Any:
        owner = getattr(value, "__self__", None)
        known = None if owner is None or isinstance(owner, types.ModuleType) else self.read(owner)
        return ["built in", str(value.__module__), value.__qualname__, known]

    def _function(self, value: types.FunctionType) -> Any:
        code = value.__code__
        cells = dict(zip(code.co_freevars, (cell for cell in value.__closure__ or ()), strict=True))
        written = stored(code)
        closure = [
            [name, self._referred(cell_content(cell), code)] for name, cell in cells.items() if name not in written
        ]
        if installed(code.co_filename):  # a wrapper of the caller's function has that in its closure
            return ["function", value.__module__, value.__qualname__, closure]
        names = [name for name in sorted(set(globals_of(code)) - written) if name in value.__globals__]
        found = [[name, self._referred(value.__globals__[name], code)] for name in names]
        given = [self.read(value.__defaults__), self.read(value.__kwdefaults__)]
        return ["function", self._code(code, value.__doc__), given, closure, found]

    def _referred(self, value: Any, code: types.CodeType) -> Any:
        """What a function refers to: of a bag of settings those that it names, of a list that it may change nothing."""
        named = set(attributes(code))
        if isinstance(value, argparse.Namespace | types.SimpleNamespace) or (
            is_dataclass(value) and not isinstance(value, type) and not callable(value)
        ):
            return [
                "settings",
                [[name, self.read(getattr(value, name))] for name in sorted(named) if hasattr(value, name)],
            ]
        return ["changing"] if changes(code) and isinstance(value, list | dict | set) else self.read(value)

    def _code(self, code: types.CodeType, doc: str | None) -> Any:
        constants = [
            self.read(None if doc is not None and constant == doc else constant) for constant in code.co_consts
        ]
        return ["code", code.co_code.hex(), constants, list(code.co_names)]

    def _class(self, value: type) -> Any:
        if library(value):
            return ["class", value.__module__, value.__qualname__]
        members = {
            name: member for name, member in vars(value).items() if not name.startswith("__") or callable(member)
        }
        said = [[name, self.read(bare(member))] for name, member in members.items() if not isinstance(member, property)]
        said += [[name, self.read(one.fget)] for name, one in members.items() if isinstance(one, property)]
        return ["class", value.__qualname__, said, [self.read(base) for base in value.__bases__]]

    def _module(self, value: nn.Module) -> Any:
        changed = set() if library(type(value)) else state(type(value), "forward")
        said = [[name, self.read(tensor)] for name, tensor in _tensors(value).items() if name not in changed]
        attributes = self._attributes(value, _MODULE | changed)
        text = getattr(value, "code", None) if library(type(value)) else None  # of a scripted module
        parts = [[name, self.read(part)] for name, part in value._modules.items()]
        return ["network", self.read(type(value)), said, attributes, parts, text if isinstance(text, str) else ""]

    def _object(self, value: Any) -> Any:
        kind = type(value)
        changed = set() if library(kind) else state(kind, "__call__")
        return ["object", self.read(kind), self._attributes(value, changed)]

    def _attributes(self, value: Any, left_out: set[str]) -> Any:
        """What an object holds; of one from an installed package what is plain or a function."""
        foreign, said = library(type(value)), []
        if foreign and type(value).__module__.partition(".")[0] not in READABLE and not isinstance(value, nn.Module):
            return said
        slots = [name for kind in type(value).__mro__ for name in _listed(vars(kind).get("__slots__", ()))]
        held = {
            **{name: getattr(value, name) for name in slots if hasattr(value, name)},
            **getattr(value, "__dict__", {}),
        }
        for name, item in held.items():
            simple = isinstance(item, (*PLAIN, types.FunctionType, types.BuiltinFunctionType, functools.partial, type))
            simple = simple or (isinstance(item, list | tuple) and all(isinstance(part, PLAIN) for part in item))
            simple = simple or (isinstance(item, Tensor) and not isinstance(value, nn.Module))
            if name not in left_out and not isinstance(item, torch.Generator) and (simple or not foreign):
                said.append([name, self.read(item)])
        return said


def _tensors(module: nn.Module) -> dict[str, Tensor | None]:
    return {**dict(module._parameters.items()), **dict(module._buffers.items())}


def _saved(module: nn.Module, name: str) -> bool:
    """Whether a checkpoint has this weight or buffer of a module."""
    return name not in getattr(module, "_non_persistent_buffers_set", ())


def _listed(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)
