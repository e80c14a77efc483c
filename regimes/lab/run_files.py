"""The files of a run folder: which there are, and whether they are a run's."""

import contextlib
from pathlib import Path

from regimes.errors import UserError
from regimes.lab.locks import LOCK

CONFIG, RUN = "config.yaml", "run.json"
DIFF = "uncommitted"  # files of what a launch's code had that its commit does not


def holds_run(path: Path) -> bool:
    """Whether a run has been begun there."""
    return (path / CONFIG).exists() or (path / RUN).exists()


def holds_results(path: Path) -> bool:
    """Whether a run has left more than its configuration: until then nothing is lost by another one."""
    files = (entry.name for entry in path.iterdir() if not entry.name.endswith((".part", ".diff")))
    return any(file not in (CONFIG, RUN) and not file.startswith(LOCK) for file in files)


def begun(file: str) -> bool:
    """Whether a launch that came no further, as on a full disk, may have left this file."""
    return file.endswith(".part") or file.startswith(LOCK) or (file.startswith(f"{DIFF}-") and file.endswith(".diff"))


def refuse_foreign(path: Path) -> None:
    """Refuse a path that is a file, or a folder with files that no run has written."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give a folder with --out")
    if path.is_dir() and not holds_run(path):
        foreign = [entry.name for entry in path.iterdir() if not begun(entry.name)]
        if foreign:
            raise UserError(
                f"{path} holds files that are no run's ({min(foreign)}, ...); give a new or an empty folder with --out"
            )


def remove_begun(path: Path) -> None:
    """Remove what a launch has begun, and the folder if nothing else is in it."""
    with contextlib.suppress(OSError):  # another process may have come
        for file in path.iterdir():
            if file.name in (CONFIG, RUN) or begun(file.name):
                file.unlink()
        path.rmdir()
