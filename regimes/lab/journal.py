"""Files that change together: after a crash in the midst of it all of them are what they were before."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from regimes.errors import UserError
from regimes.lab.files import cannot_write, flush_folder, link_whole, write_whole

LIST = "files.json"  # which files; the journal counts from the moment that this is written


@contextmanager
def all_or_none(journal: Path, files: Sequence[Path]) -> Iterator[None]:
    """Within, the files are replaced, in any order; where this does not come to its end, `put_back` undoes all of it.

    For files that are only ever replaced (`files.write_whole`): the folder `journal` holds second names of the old
    ones.
    """
    root = journal.parent
    try:
        shutil.rmtree(journal, ignore_errors=True)
        journal.mkdir()
        for number, file in enumerate(files):
            if file.exists():
                link_whole(file, journal / str(number))
        flush_folder(journal)
    except OSError as error:
        cannot_write(journal, error)
    write_whole(journal / LIST, json.dumps([str(file.relative_to(root)) for file in files]))
    yield
    (journal / LIST).unlink()
    flush_folder(journal)
    shutil.rmtree(journal, ignore_errors=True)


def pending(journal: Path) -> bool:
    """Whether something was left unfinished."""
    return (journal / LIST).exists()


def put_back(journal: Path) -> None:
    """Undo what was left unfinished, if anything was; itself it may be cut short, and called again."""
    marker = journal / LIST
    if pending(journal):
        try:
            names = json.loads(marker.read_text(encoding="utf-8"))
            files = [journal.parent / name for name in names]
        except (ValueError, TypeError):
            raise UserError(f"{marker} is damaged: restore it, or pass --fresh to train anew") from None
        for number, file in enumerate(files):
            kept = journal / str(number)
            if kept.exists():
                link_whole(kept, file)
            else:
                file.unlink(missing_ok=True)
            flush_folder(file.parent)
        marker.unlink()
    shutil.rmtree(journal, ignore_errors=True)
