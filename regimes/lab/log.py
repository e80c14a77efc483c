"""The log of a sweep: one line of JSON a finished point, on the disk before the next one counts as done."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regimes.errors import UserError
from regimes.lab.fields import Line, fields_of, refuse_altered
from regimes.lab.files import cannot_write, write_whole

LOG = "points.jsonl"


class Record(NamedTuple):
    """A finished point, its rows, and its share of the seconds of the call that measured it.

    `stamp` says what it was measured for, and by what: see `lab.stamps`; older logs have none.
    """

    point: dict[str, Any]
    rows: list[dict[str, Any]]
    seconds: float
    stamp: dict[str, str] = {}


def point_key(point: Mapping[str, Any]) -> str:
    """Canonical text of a point, the same after a round trip through JSON."""
    return json.dumps(point, sort_keys=True)


class PointLog:
    """Append-only log with a single writer; floats come back bit for bit, NaN and infinity included."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self._descriptor: int | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Write the points of one call at once, wait until they are on the disk; on failure nothing of them stays."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            except OSError as error:
                cannot_write(self.path, error)
        data = "".join(_line(record) for record in records).encode("utf-8")
        size = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            cannot_write(self.path, error, "; the points finished before are kept")

    def replace(self, records: Sequence[Record]) -> None:
        """Write the whole log anew, in one step."""
        self.close()
        write_whole(self.path, "".join(_line(record) for record in records))

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Content(NamedTuple):
    """The records of a log, and whether its last line was torn by a crash (it is left out then)."""

    records: list[Record]
    torn: bool


def read_log(folder: Path) -> Content:
    """All whole records of a folder's log; UserError names line, row and field if one before the end is damaged."""
    path = folder / LOG
    if not path.exists():
        return Content([], torn=False)
    *lines, rest = path.read_bytes().split(b"\n")
    return Content(list(_records(path, lines)), torn=bool(rest))


def _records(path: Path, lines: list[bytes]) -> Iterator[Record]:
    found: list[Line] = []
    records: list[Record] = []
    seen: dict[str, int] = {}
    for number, text in enumerate(lines, 1):
        try:
            content = json.loads(text)
            rows, stamp = [dict(row) for row in content["rows"]], dict(content.get("stamp", {}))
            record = Record(dict(content["point"]), rows, _seconds(content["seconds"]), stamp)
            found.append(Line(number, record.point, rows, content.get("fields")))
        except (ValueError, KeyError, TypeError) as error:
            lost = f": it lacks {error}" if isinstance(error, KeyError) else ""
            raise UserError(
                f"{path} is damaged: line {number} is no finished point{lost}; restore the file, "
                "or delete that line to measure its point again"
            ) from None
        if (first := seen.setdefault(point_key(record.point), number)) != number:
            raise UserError(
                f"{path} is damaged: line {number} holds the point of line {first} again; delete one of the two"
            )
        records.append(record)
    refuse_altered(path, found)
    return iter(records)


def names_its_fields(folder: Path) -> bool:
    """Whether each line of a log says which fields were measured: then `read_log` has found none missing."""
    path = folder / LOG
    lines = path.read_bytes().splitlines() if path.exists() else []
    return bool(lines) and all("fields" in json.loads(line) for line in lines if line.endswith(b"}"))


def _seconds(value: Any) -> float:
    if isinstance(value, bool | str) or not float(value) >= 0:
        raise ValueError
    return float(value)


def _line(record: Record) -> str:
    content = record._asdict()
    plain = content if record.stamp else {key: content[key] for key in content if key != "stamp"}
    return json.dumps({**plain, "fields": fields_of(record.rows)}) + "\n"
