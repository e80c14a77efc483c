"""One writer a folder: the lock of a run."""

import contextlib
import errno
import os
import sys
import warnings
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from regimes.errors import UserError
from regimes.lab.files import cannot_write

LOCK, SOFT = ".lock", ".lock.held"  # of the system; a file that is there as long as the folder is held
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # what file systems without locks answer


def take_lock(path: Path) -> BaseFileLock:
    """Lock the folder for this process; the system frees the lock when the process ends, however it ends.

    On a file system without locks a file stands for it, which a process that is killed leaves behind; that is said.
    """
    lock: BaseFileLock = FileLock(path / LOCK, timeout=0, thread_local=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # filelock may take the same way out, in its own words
            lock.acquire()
    except Timeout:
        if not (path / LOCK).exists():  # its owner has ended between our opening and locking
            return take_lock(path)
        raise _in_use(path, path / LOCK) from None
    except NotImplementedError:
        return _soft_lock(path)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            cannot_write(path / LOCK, error)
        return _soft_lock(path)
    if isinstance(lock, SoftFileLock):
        _say(path / LOCK)
        return lock
    with contextlib.suppress(OSError):  # the owner is a help to the reader only
        (path / LOCK).write_text(str(os.getpid()), encoding="utf-8")
    return lock


def _soft_lock(path: Path) -> BaseFileLock:
    lock = SoftFileLock(path / SOFT, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise _in_use(
            path, path / SOFT, f", or, if none runs, delete {path / SOFT}: one that was killed left it"
        ) from None
    _say(path / SOFT)
    return lock


def _say(file: Path) -> None:
    print(
        f"{file.parent} lies on a file system without locks: {file.name} keeps other processes out, and stays if this "
        "one is killed; then delete it",
        file=sys.stderr,
    )


def _in_use(path: Path, file: Path, more: str = "") -> UserError:
    try:
        owner = " ".join(file.read_text(encoding="utf-8").split()[:1])
    except OSError:
        owner = ""
    process = f"process {owner}" if owner else "another process"
    return UserError(f"{path} is in use by {process}; wait for it, or pass --out for another folder{more}")


def release(path: Path, lock: BaseFileLock) -> None:
    """Let go of the folder."""
    with contextlib.suppress(OSError):  # Windows removes no open file: there it stays, and is taken again
        (path / LOCK).unlink()
    lock.release()
