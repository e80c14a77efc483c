"""One module a statement, found by its file name; `lazy_vs_meanfield` is the main job and states nothing."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from regimes.lab.config import nearest

_STATES = re.compile(r"^STATEMENT\b", re.MULTILINE)


def names() -> list[str]:
    """Names of the experiments that verify a statement, in alphabetical order; nothing is imported for it."""
    here = Path(__file__).parent
    files = {file.stem: file for file in here.glob("[a-z]*.py")}
    files |= {file.parent.name: file for file in here.glob("[a-z]*/__init__.py")}
    return sorted(name for name, file in files.items() if _STATES.search(file.read_text(encoding="utf-8")))


def load(name: str) -> Any:
    """The module of one experiment; ValueError lists the known ones."""
    known = names()
    if name not in known:
        raise ValueError(f"unknown statement {name!r}.{nearest(name, known)} Known statements: {', '.join(known)}")
    return import_module(f"regimes.experiments.{name}")
