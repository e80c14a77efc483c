"""An installation that lacks a package, for the tests."""

import sys

import pytest


def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every import of matplotlib fail from now on, also in the modules for figures that are imported already."""
    for name in [*sys.modules]:
        figures = name.startswith("regimes.") and "figure" in name.rpartition(".")[2]
        if figures or name.startswith("matplotlib."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
