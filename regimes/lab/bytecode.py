"""Functions and classes as their bytecode shows them: what they refer to, and what they change."""

import dis
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHANGING = {"append", "extend", "insert", "update", "pop", "clear", "add", "setdefault", "appendleft"}
HEAP = 1 << 9  # the flag of a class that was not written in C
PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = (*{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}, str(PACKAGE))


def changes(code: types.CodeType) -> bool:
    """Whether a function may change a list or a dictionary that it refers to."""
    return bool(CHANGING & set(attributes(code))) or any(one.opname == "STORE_SUBSCR" for one in instructions(code))


def bare(member: Any) -> Any:
    """The function of a static or class method."""
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def cell_content(cell: Any) -> Any:
    """The value in a closure's cell; None where there is none yet."""
    try:
        return cell.cell_contents
    except ValueError:  # of a function that is still being defined
        return None


def installed(file: str) -> bool:
    """Whether code comes from Python itself, from an installed package or from regimes."""
    return file.startswith("<frozen") or any(Path(file).is_relative_to(folder) for folder in INSTALLED)


def library(kind: type) -> bool:
    """Whether a class comes from an installed package, and so is known by its name."""
    module = kind.__module__ or ""
    if not kind.__flags__ & HEAP or module.partition(".")[0] in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and installed(file)


def instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    """Those of a function and of the functions that it defines."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from instructions(constant)


def globals_of(code: types.CodeType) -> Iterator[str]:
    """Names of the globals that a function reads."""
    return (one.argval for one in instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"))


def attributes(code: types.CodeType) -> Iterator[str]:
    """Names of the attributes that a function reads, of whatever object."""
    return (one.argval for one in instructions(code) if one.opname in ("LOAD_ATTR", "LOAD_METHOD"))


def stored(code: types.CodeType) -> set[str]:
    """Names outside itself that a function writes to."""
    return {one.argval for one in instructions(code) if one.opname in ("STORE_GLOBAL", "STORE_DEREF")}


def state(kind: type, entry: str) -> set[str]:
    """Attributes that a call of an object stores or fills: by the entry, or by a method that it names."""
    waiting, done, written = [entry], set(), set()
    while waiting:
        name = waiting.pop()
        code = getattr(bare(getattr(kind, name, None)), "__code__", None)
        if name in done or code is None or installed(code.co_filename):
            continue
        done.add(name)
        written |= {one.argval for one in instructions(code) if one.opname == "STORE_ATTR"} | _filled(code)
        waiting += [name for name in code.co_names if name != "__init__"]
    return written


def _filled(code: types.CodeType) -> set[str]:
    """Attributes that hold what a function changes: x.append(...), x[...] = ..., and those named in a setattr."""
    found: set[str] = set()
    for part in (code, *(constant for constant in code.co_consts if isinstance(constant, types.CodeType))):
        steps = list(dis.get_instructions(part))
        for number, one in enumerate(steps):
            if one.opname in ("LOAD_ATTR", "LOAD_METHOD") and one.argval in CHANGING:
                holder = number - 1
            elif one.opname == "STORE_SUBSCR":
                holder = _before(steps, number)
            else:
                continue
            if holder >= 0 and steps[holder].opname == "LOAD_ATTR":
                found.add(steps[holder].argval)
        if "setattr" in globals_of(part):
            found |= {constant for constant in part.co_consts if isinstance(constant, str)}
    return found


def _before(steps: list[dis.Instruction], number: int) -> int:
    """The instruction in front of those that make the topmost value for this one; −1 if there is none."""
    values = 0
    for place in range(number - 1, -1, -1):
        values += dis.stack_effect(steps[place].opcode, steps[place].arg)
        if values == 1:
            return place - 1
    return -1
