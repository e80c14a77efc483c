"""`regimes/training` can be read in one sitting: a run passes through eight files, the ones that the docs name."""

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from short_training import short

from regimes.training import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
MOST = 8
IMAGES = {"arch": "resnet9", "arch_options": {"filters": 4}, "augment": True, "level": "batch_after"}


def reading_path() -> list[str]:
    """The files of the numbered list in docs/developing.md, in its order."""
    text = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
    section = text.split("## How `train` runs")[1].split("\n## ")[0]
    return re.findall(r"^\d\. `regimes/training/(\w+)\.py`", section, flags=re.M)


def entered(path: Path, **changes: Any) -> set[str]:
    """Modules of regimes.training of which a function runs in a run, its settings and its figure included."""
    names: set[str] = set()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__") or ""
        if event == "call" and name.startswith("regimes.training."):
            names.add(name.removeprefix("regimes.training."))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        train(short(epochs=2, **changes), path)
    finally:
        sys.setprofile(before)
    return names


@pytest.mark.parametrize("changes", [{"lap": False}, {}, IMAGES], ids=["risk alone", "least action", "images"])
def test_a_run_passes_through_the_eight_files_that_the_docs_name(tmp_path, changes):
    files = reading_path()
    assert len(files) == len(set(files)) == MOST
    assert entered(tmp_path / "run", **changes) == set(files)
