"""Zip archives, such as checkpoints and measurements: torch reads them without a look at their checksums."""

import errno
import struct
import zipfile
import zlib
from pathlib import Path

from regimes.errors import one_line
from regimes.lab.files import cannot_read

FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError)
FAULTS += (ValueError, LookupError, EOFError, OverflowError, MemoryError)
FOLDER = 0x10  # MS-DOS's mark of one, among the attributes of a part


def damage(path: Path) -> str | None:
    """What is wrong with an archive: a part whose content has not the checksum written with it, say. None if nothing.

    Reads the whole file, a block at a time. OSError where it cannot be read, which is no damage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr & FOLDER]
            if folders:  # of which torch reads nothing
                return f"{folders[0]} is marked as a folder"
            part = archive.testzip()
    except FAULTS as error:
        return one_line(error, 100)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which a damaged table of contents asks for, as a place before the start
            cannot_read(path, error)
        return "its table of contents points outside"
    return None if part is None else f"the checksum of {part} is wrong"
