"""Sphinx extension: pages for the public functions, every module and every setting, built from the code itself."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import regimes
from regimes.experiments import load, names
from regimes.lab.report import markdown_table
from regimes.lab.settings_text import setting_rows

PACKAGES = {
    "transport": "Point clouds and paths: exact optimal transport, its certificate, tests of a map",
    "tangent": "Tangent kernels, tangent models and the numbers of laziness",
    "meanfield": "Measures carried by particles, and their flows",
    "control": "Ordinary differential equations: methods as data, steps, ensembles, and gradients through them",
    "models": "Networks, their scalings and the paths of their states",
    "training": "The trainer: objectives, loop, checkpoints",
    "data": "Data sets and batches",
    "lab": "The bench: settings, runs, sweeps, statistics, verdicts",
}
TARGET = "_generated"


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before the sources are read; show docstrings as they are written."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir, TARGET)))
    app.connect("autodoc-process-docstring", as_written)
    return {"parallel_read_safe": False}


def write(folder: Path) -> None:
    """All generated pages."""
    folder.mkdir(exist_ok=True)
    for name, text in pages():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> Iterator[tuple[str, str]]:
    """Name and text of each generated page."""
    yield "api", api_page()
    for package, title in PACKAGES.items():
        yield package, package_page(package, title)
    yield "settings", settings_page()


def api_page() -> str:
    """The names of `import regimes`, each with its signature and docstring."""
    entries = [_directive(f"regimes.{name}") for name in regimes.__all__ if not name.startswith("_")]
    return "# Public functions and classes\n\n" + "\n".join(["```{eval-rst}", *entries, "```"]) + "\n"


def package_page(package: str, title: str) -> str:
    """Every module of a package, and every package in it that names what it offers, with all that is public in it."""
    folder = Path(regimes.__file__).parent / package
    within = [file.parent.name for file in folder.glob("[a-z]*/__init__.py") if "__all__" in file.read_text("utf-8")]
    modules = sorted([*within, *(file.stem for file in folder.glob("[a-z]*.py"))])
    lines = [f"# regimes.{package}", "", f"{title}.", ""]
    for module in modules:
        if module == "neural_tangents":  # needs jax, which is optional
            continue
        lines += [
            f"## {module}",
            "",
            "```{eval-rst}",
            f".. automodule:: regimes.{package}.{module}",
            "   :members:",
            "```",
            "",
        ]
    return "\n".join(lines)


def settings_page() -> str:
    """Every setting of every command: default and meaning."""
    from regimes.jobs.lazy_vs_meanfield import Config as LazyVsMeanfield
    from regimes.jobs.ot_gap import Config as OtGap
    from regimes.training.config import TrainConfig

    jobs = {"lazy-vs-meanfield": LazyVsMeanfield, "train": TrainConfig, "ot-gap": OtGap}
    known = jobs | {f"verify {name}": load(name).Config for name in names()}
    lines = [
        "# Settings",
        "",
        "Give a setting by `--set 'name=value'`, or in a YAML file by `--config FILE`.",
        "Later ones win: defaults, file, `--set`, then the options of the command.",
        "",
    ]
    for command, settings in known.items():
        lines += [f"## {command}", "", markdown_table(setting_rows(settings))]
    return "\n".join(lines)


def _directive(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    kind = "autoclass" if isinstance(getattr(import_module(module), attribute), type) else "autofunction"
    members = "\n   :members:" if kind == "autoclass" else ""
    return f".. {kind}:: {name}{members}\n"


def as_written(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Formulas and names in plain text are no markup: |a|, *runs, k_ and `x` are shown as they stand."""
    lines[:] = [_escape(line) for line in lines]


def _escape(line: str) -> str:
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(
        f"``{part[1:-1]}``"
        if part.startswith("`") and part.endswith("`") and len(part) > 2
        else re.sub(r"([\\*|_`])", r"\\\1", part)
        for part in parts
    )
