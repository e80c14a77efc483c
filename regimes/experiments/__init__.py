"""One module a statement, in the package of its theory, found by its file name; jobs state nothing."""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from regimes.errors import UserError, nearest

_STATES = re.compile(r"^STATEMENT\b", re.MULTILINE)


class Card(NamedTuple):
    """What a statement says of itself, read from its source without importing it; "" where that is computed."""

    theory: str
    title: str
    claim: str


def homes() -> dict[str, str]:
    """The theory (a subpackage) of each statement, by name, in alphabetical order; nothing is imported for it."""
    return {name: _theory(file) for name, file in _files().items()}


def cards() -> dict[str, Card]:
    """Theory, title and claim of each statement, by name, in alphabetical order; nothing is imported for it."""
    found = {}
    for name, file in _files().items():
        texts = _texts(ast.parse(file.read_text(encoding="utf-8")))
        found[name] = Card(_theory(file), texts.get("title", ""), texts.get("claim", ""))
    return found


def names() -> list[str]:
    """Names of the experiments that verify a statement, in alphabetical order; nothing is imported for it."""
    return list(homes())


def load(name: str) -> Any:
    """The module of one experiment; ValueError lists the known ones."""
    known = names()
    if name not in known:
        raise UserError(f"unknown statement {name!r}.{nearest(name, known)} Known statements: {', '.join(known)}")
    return import_module(f"regimes.experiments.{homes()[name]}.{name}")


def _files() -> dict[str, Path]:
    """The modules that hold a STATEMENT, by the names of the statements."""
    here = Path(__file__).parent
    files = {file.stem: file for file in here.glob("*/[a-z]*.py")}
    files |= {file.parent.name: file for file in here.glob("*/[a-z]*/__init__.py")}
    stating = {name: file for name, file in files.items() if _STATES.search(file.read_text(encoding="utf-8"))}
    return {name: stating[name] for name in sorted(stating)}


def _theory(file: Path) -> str:
    return file.relative_to(Path(__file__).parent).parts[0]


def _texts(module: ast.Module) -> dict[str, str]:
    """The texts among the named arguments of STATEMENT = Statement(...)."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STATEMENT":
            arguments = node.value.keywords if isinstance(node.value, ast.Call) else []
            values = {str(one.arg): one.value.value for one in arguments if isinstance(one.value, ast.Constant)}
            return {name: value for name, value in values.items() if isinstance(value, str)}
    return {}
