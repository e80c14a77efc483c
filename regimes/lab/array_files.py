"""Named arrays in one file of a run folder: whole at any moment, read without running any code."""

import io
from pathlib import Path

import numpy as np

from regimes.errors import UserError
from regimes.lab.archives import FAULTS, damage
from regimes.lab.files import cannot_read
from regimes.lab.runs import RunFolder

Arrays = dict[str, np.ndarray]


def write_arrays(folder: RunFolder, file: str, arrays: Arrays, *, packed: bool = True) -> None:
    """Write the arrays as one file of the folder."""
    buffer = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)  # pyright: ignore[reportArgumentType]: names are free
    folder.write(file, buffer.getvalue())


def read_arrays(file: Path) -> Arrays:
    """Read them back; UserError names a damaged file, OSError says why one cannot be read."""
    if damage(file) is not None:
        raise damaged(file)
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except OSError as error:
        cannot_read(file, error)
    except MemoryError:
        raise
    except (*FAULTS, TypeError):
        raise damaged(file) from None


def damaged(file: Path) -> UserError:
    """What to say of a file that holds something else than was written."""
    return UserError(f"{file} is damaged; delete it and run the same command again")
