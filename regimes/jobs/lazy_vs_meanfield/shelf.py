"""What the main job has finished so far, kept in its run folder, so that a stopped run goes on."""

import time
from collections.abc import Callable
from pathlib import Path

from regimes.lab.array_files import Arrays, read_arrays, write_arrays
from regimes.lab.runs import RunFolder

SECONDS = 5.0  # between two savings of a piece that is under way
PATIENCE = 50.0  # times the seconds that a saving took: keeping costs at most one part in so many


class Shelf:
    """Pieces of a measurement by name, each a set of arrays in a file of the run folder; without a folder none is kept.

    A piece under way is offered after each of its moments by `hold`, which saves it from time to time; `flush` saves
    what was offered last. A file is the old one or the new one, whenever the process dies.
    """

    def __init__(self, folder: RunFolder | None = None) -> None:
        self.folder = folder
        self._held: tuple[str, Callable[[], Arrays]] | None = None
        self._due = time.monotonic() + SECONDS

    def take(self, name: str) -> Arrays | None:
        """The piece as it was saved last, if it was."""
        file = self._file(name)
        return read_arrays(file) if file is not None and file.exists() else None

    def hold(self, name: str, arrays: Callable[[], Arrays]) -> None:
        """Offer the present state of a piece, made into arrays only when it is saved."""
        self._held = (name, arrays)
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Save the piece under way."""
        if self._held is None or self.folder is None:
            return
        start = time.monotonic()
        (name, arrays), self._held = self._held, None
        write_arrays(self.folder, f"{name}.part.npz", arrays(), packed=False)
        now = time.monotonic()
        self._due = now + max(SECONDS, PATIENCE * (now - start))

    def clear(self) -> None:
        """Remove all pieces: the whole is on the disk."""
        if self.folder is not None:
            for file in self.folder.path.glob("*.part.npz"):
                file.unlink()

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder.path / f"{name}.part.npz"
