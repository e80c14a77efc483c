"""Durable files: a file is either the old one or the whole new one, whatever happens in between."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: temporary file beside it, flushed to the disk, then renamed."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with _replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def link_whole(source: Path, target: Path) -> None:
    """Give a whole file a second name in one step, in the place of another file; a copy where there are no links.

    Files that are only ever replaced, as `write_whole` does, may share their bytes.
    """
    with _replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to be filled, which takes its place at the end; it is gone after an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process of this number, and perhaps one file with another
        yield temporary
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        cannot_write(path, error)
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError, kept: str = "") -> NoReturn:
    """Raise the error again as one line that names the file, the reason and the way out."""
    reason = error.strerror or str(error)
    advice = f"{kept}; make room or choose another folder with --out, then run the same command again"
    raise type(error)(error.errno, f"cannot write {path}: {reason}{advice}") from error


def cannot_read(path: Path, error: OSError) -> NoReturn:
    """Raise the error again as one line that names the file and the reason: nothing is said against its content."""
    reason = error.strerror or str(error)
    raise type(error)(error.errno, f"cannot read {path}: {reason}; make it readable, then try again") from error


def flush_folder(folder: Path) -> None:
    """Make a rename durable; systems that cannot flush folders are left as they are."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
