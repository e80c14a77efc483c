"""The fields of measured rows: which there were and of what kind, so that a row that has lost one is told."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from regimes.errors import UserError

Row = Mapping[str, Any]
TABLE = "rows.csv"
KINDS = {"number": "a number", "text": "a text", "truth": "true or false", "none": "none", "undefined": "not a number"}


class Line(NamedTuple):
    """A line of a log: its number, its point and rows, and the fields that were measured (None: an old log's)."""

    number: int
    point: dict[str, Any]
    rows: list[dict[str, Any]]
    fields: list[Any] | None


def kind_of(value: Any) -> str:
    """number, text, truth, none, or undefined (NaN)."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, float) and math.isnan(value):
        return "undefined"
    return {int: "number", float: "number", str: "text", type(None): "none"}.get(type(value), "")


def fields_of(rows: Iterable[Row]) -> list[Any]:
    """Kinds of the fields of each row, rows alike one after the other together: [[how many, {name: kind}], ...]."""
    kinds = ({name: kind_of(value) for name, value in row.items()} for row in rows)
    return [[len(list(alike)), shape] for shape, alike in groupby(kinds)]


def refuse_altered(path: Path, lines: Sequence[Line]) -> None:
    """UserError names line, point, row and field where a log is not what was measured.

    That is known from the line itself. Of an old one it follows from rows.csv, or from the other lines.
    """
    old = [line for line in lines if line.fields is None]
    table = _table(path.parent / TABLE, old)
    for line in lines:
        for row, fields in enumerate(line.rows, 1):
            for name, value in fields.items():
                if not kind_of(value):
                    raise _altered(path, line, row, name, f"holds a {type(value).__name__}, which no run writes")
        expected = _expected(line) if line.fields is not None else table.get(_key(line.point), [])
        if expected or line.fields is not None:
            _compare(path, line, expected, complete=line.fields is not None)
    if not table:
        _refuse_odd_ones(path, old)


def _expected(line: Line) -> list[dict[str, str]]:
    try:
        return [dict(shape) for count, shape in line.fields or [] for _ in range(count)]
    except (TypeError, ValueError):
        return []


def _compare(path: Path, line: Line, expected: Sequence[Mapping[str, str]], *, complete: bool) -> None:
    """complete: whether `expected` has all fields of a row; a table has none for an empty cell."""
    if len(line.rows) != len(expected):
        raise _altered(path, line, None, "", f"has {len(line.rows)} rows, and {len(expected)} were measured")
    for row, (fields, wanted) in enumerate(zip(line.rows, expected, strict=True), 1):
        for name, kind in wanted.items():
            if name not in fields:
                raise _altered(path, line, row, name, "is missing")
            value = fields[name]
            found = kind_of(value if complete or not isinstance(value, str) else value_of(value))
            if found != kind:
                raise _altered(path, line, row, name, f"is {KINDS[found]}, and {KINDS.get(kind, kind)} was measured")
        if complete and (more := [name for name in fields if name not in wanted]):
            raise _altered(path, line, row, more[0], "was never measured")


def _refuse_odd_ones(path: Path, lines: Sequence[Line]) -> None:
    """Of old lines without a table: a row that alone lacks a field, or has a text where all others have numbers."""
    shapes: dict[frozenset[str], set[int]] = {}
    kinds: dict[str, dict[str, list[tuple[Line, int]]]] = {}
    for line in lines:
        for row, fields in enumerate(line.rows, 1):
            shapes.setdefault(frozenset(fields), set()).add(line.number)
            for name, value in fields.items():
                kinds.setdefault(name, {}).setdefault(kind_of(value), []).append((line, row))
    for line in lines:
        for row, fields in enumerate(line.rows, 1):
            own = frozenset(fields)
            wider = [shape for shape in shapes if own < shape and len(shapes[shape]) > 1]
            if wider and len(shapes[own]) == 1:
                raise _altered(path, line, row, min(wider[0] - own), "is missing, and the rows of other points have it")
    for name, found in kinds.items():
        if {"number", "text"} <= set(found):
            line, row = min(found["number"], found["text"], key=len)[0]
            kind = kind_of(line.rows[row - 1][name])
            raise _altered(path, line, row, name, f"is {KINDS[kind]}, unlike in the other rows")


def _altered(path: Path, line: Line, row: int | None, name: str, what: str) -> UserError:
    point = ", ".join(f"{axis}={value}" for axis, value in line.point.items())
    where = f"line {line.number} ({point})" + ("" if row is None else f", row {row}: field {name!r}")
    return UserError(
        f"{path} is damaged: {where} {what}; restore the file, or delete that line to measure its point again"
    )


def _key(point: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in point.values())


def _table(file: Path, lines: Sequence[Line]) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """Kinds of the full cells of rows.csv, by point; nothing without a whole table: it is only derived from the log."""
    axes = list(lines[0].point) if lines else []
    try:
        rows = read_table(file) if lines and file.exists() else []
    except UserError:
        rows = []
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        kinds = {name: kind_of(value) for name, value in row.items() if name not in axes and value is not None}
        found.setdefault(_key({axis: row.get(axis) for axis in axes}), []).append(kinds)
    return found


def read_object(file: Path, advice: str = "delete it and run the same command again") -> dict[str, Any] | None:
    """The object of a JSON file such as result.json; None without one, UserError for a damaged one."""
    if not file.exists():
        return None
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise UserError(f"{file} is damaged: restore it, or {advice}")
    return held


def read_table(file: Path, advice: str = "restore it, or measure with --fresh") -> list[dict[str, Any]]:
    """The rows of a table such as rows.csv, floats exactly; UserError names line and field of a damaged one."""
    with file.open(encoding="utf-8", newline="") as opened:
        return table_in(opened, lambda what: UserError(f"{file} is damaged: {what}; {advice}"))


def table_in(text: Iterable[str], damaged: Callable[[str], UserError]) -> list[dict[str, Any]]:
    """The rows of a table whose lines are given; `damaged` makes the error of what is wrong with it."""
    reader = csv.reader(text, strict=True)
    try:
        names = next(reader, [])
        lines = [(reader.line_num, cells) for cells in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise damaged(str(error)) from None
    rows = []
    for number, cells in lines:
        if len(cells) != len(names):
            field = f", from {names[len(cells)]!r} on" if len(cells) < len(names) else ""
            raise damaged(f"line {number} has {len(cells)} of {len(names)} fields{field}")
        rows.append({name: value_of(cell) for name, cell in zip(names, cells, strict=True)})
    for name in names:
        kinds = {
            kind: [number for (number, _), row in zip(lines, rows, strict=True) if kind_of(row[name]) == kind]
            for kind in ("number", "text")
        }
        if all(kinds.values()):
            odd = min(kinds.values(), key=len)[0]
            kind = "text" if odd in kinds["text"] else "number"
            raise damaged(f"line {odd}: field {name!r} is {KINDS[kind]}, unlike in the other rows")
    return rows


def value_of(text: str) -> Any:
    """The number, truth value or text of a cell of rows.csv; floats exactly."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "": None}.get(text, text)
