"""Submodules of a torch model chosen by name, by pattern, by class or as they are."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

Chosen = str | type[nn.Module] | nn.Module | Iterable[str | type[nn.Module] | nn.Module]


def submodule_names(model: nn.Module, chosen: Chosen, what: str) -> list[str]:
    """Names of the chosen submodules in the order of the model, each module once; ValueError if a choice finds none.

    In a pattern * and ? match within one part of a dotted name: "layer?.*" finds layer1.0 but not layer1.0.conv1.
    The model as a whole is found only as itself.
    """
    named = list(model.named_modules(remove_duplicate=False))
    found: dict[int, str] = {}
    if isinstance(chosen, str | type) or (isinstance(chosen, nn.Module) and not isinstance(chosen, nn.ModuleList)):
        chosen = [chosen]
    elif not isinstance(chosen, Iterable) or isinstance(chosen, Tensor):
        raise ValueError(f"{what} needs names, patterns, module classes or modules; got {chosen!r}.")
    for choice in chosen:
        matched = [(name, module) for name, module in named if _chosen(choice, name, module)]
        if not matched:
            shown = repr(choice) if isinstance(choice, str) else getattr(choice, "__name__", type(choice).__name__)
            raise ValueError(f"the model has no submodule {shown}, as {what} wants; {some_names(model)}.")
        for name, module in matched:
            found.setdefault(id(module), name)
    if not found:
        raise ValueError(f"{what} needs at least one submodule; {some_names(model)}.")
    order = {name: place for place, (name, _) in enumerate(named)}
    return sorted(found.values(), key=order.__getitem__)


def _chosen(choice: Any, name: str, module: nn.Module) -> bool:
    if module is choice:
        return True
    if not name:
        return False
    if isinstance(choice, str):
        pattern, parts = choice.split("."), name.split(".")
        return len(pattern) == len(parts) and all(map(fnmatchcase, parts, pattern))
    return isinstance(choice, type) and isinstance(module, choice)


def some_names(model: nn.Module) -> str:
    """Some names to choose from, those of modules with parts first."""
    names = [name for name, module in model.named_modules() if name and next(module.children(), None) is not None]
    names = names or [name for name, _ in model.named_modules() if name]
    return f"it has {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}" if names else "it has no submodules"
