"""One module a statement, in the package of its theory, found by its file name; jobs state nothing."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from regimes.errors import UserError
from regimes.lab.config import nearest

_STATES = re.compile(r"^STATEMENT\b", re.MULTILINE)


def homes() -> dict[str, str]:
    """The theory (a subpackage) of each statement, by name, in alphabetical order; nothing is imported for it."""
    here = Path(__file__).parent
    files = {file.stem: file for file in here.glob("*/[a-z]*.py")}
    files |= {file.parent.name: file for file in here.glob("*/[a-z]*/__init__.py")}
    stating = {name: file for name, file in files.items() if _STATES.search(file.read_text(encoding="utf-8"))}
    return {name: stating[name].relative_to(here).parts[0] for name in sorted(stating)}


def names() -> list[str]:
    """Names of the experiments that verify a statement, in alphabetical order; nothing is imported for it."""
    return list(homes())


def load(name: str) -> Any:
    """The module of one experiment; ValueError lists the known ones."""
    known = names()
    if name not in known:
        raise UserError(f"unknown statement {name!r}.{nearest(name, known)} Known statements: {', '.join(known)}")
    return import_module(f"regimes.experiments.{homes()[name]}.{name}")
