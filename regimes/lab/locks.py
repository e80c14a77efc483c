"""One writer a folder: the lock of a run."""

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

from regimes.errors import UserError

LOCK = ".lock"


def take_lock(path: Path) -> FileLock:
    """Lock the folder for this process; the system frees the lock when the process ends, however it ends."""
    lock = FileLock(path / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        if not (path / LOCK).exists():  # its owner has ended between our opening and locking
            return take_lock(path)
        raise _in_use(path) from None
    with contextlib.suppress(OSError):  # the owner is a help to the reader only
        (path / LOCK).write_text(str(os.getpid()), encoding="utf-8")
    return lock


def _in_use(path: Path) -> UserError:
    try:
        owner = (path / LOCK).read_text(encoding="utf-8").strip()
    except OSError:
        owner = ""
    process = f"process {owner}" if owner else "another process"
    return UserError(f"{path} is in use by {process}; wait for it, or pass --out for another folder")


def release(path: Path, lock: FileLock) -> None:
    """Let go of the folder."""
    with contextlib.suppress(OSError):  # Windows removes no open file: there it stays, and is taken again
        (path / LOCK).unlink()
    lock.release()
