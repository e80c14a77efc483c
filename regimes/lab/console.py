"""Progress and tables on screen."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from regimes.lab.report import number

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 60.0
ROOM = 24  # characters to which a column of texts may be folded


def track(iterable: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Pass the items on and show progress on stderr: a bar on a terminal, otherwise a line a minute, of rank 0 only."""
    if os.environ.get("RANK", "0") != "0":
        yield from iterable
    elif sys.stderr.isatty():
        yield from _bar(iterable, total, label)
    else:
        yield from _lines(iterable, total, label)


def print_table(
    rows: Sequence[Mapping[str, Any]],
    title: str | None = None,
    *,
    keep: Collection[str] = (),
    wide: Path | str | None = None,
) -> None:
    """Print rows as a table on stdout; the columns are the keys in the order in which they appear.

    A terminal gets as many of the first columns as it has room for, and those to `keep`; the others are named below
    the table, with the file in which the `wide` one is. A file or a pipe gets all.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(key for row in rows for key in row))
    console = Console()
    shown = _that_fit(rows, columns, console.width, keep) if console.is_terminal else columns
    table = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for column in shown:
        numeric = all(isinstance(row.get(column), (int, float)) for row in rows if column in row)
        table.add_column(
            column, justify="right" if numeric else "left", overflow="fold", min_width=_least(rows, column)
        )
    for row in rows:
        table.add_row(*(Text(number(row.get(column, ""))) for column in shown))
    # A file or a pipe has no width: nothing is folded there.
    width = console.width if console.is_terminal else Console(width=100_000).measure(table).maximum
    Console(width=width).print(table)
    if left := [column for column in columns if column not in shown]:
        where = f", in {wide}" if wide else ""
        print(textwrap.fill(f"Not shown, for want of room: {', '.join(left)}{where}.", console.width), end="\n\n")


def print_lines(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of texts in columns; on a terminal the last column is cut where the line ends."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        line = "  ".join([*(text.ljust(wide) for text, wide in zip(row, widths, strict=False)), row[-1]]).rstrip()
        print(line if len(line) <= width else line[: width - 1] + "…")


def print_entry(title: str, lines: Sequence[str]) -> None:
    """Print a title and lines below it on stdout, folded to the width of a terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    print(title)
    for line in lines:
        print(textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    "))
    print()


def duration(seconds: float) -> str:
    """Text of a time span: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _that_fit(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int, keep: Collection[str]
) -> list[str]:
    """The columns that have room beside each other; of those not to be kept the last ones go first."""
    shown = list(columns)
    for column in reversed(columns):
        if sum(_least(rows, name) + 3 for name in shown) - 1 <= width:
            break
        if column not in keep and len(shown) > 1:
            shown.remove(column)
    return shown


def _least(rows: Sequence[Mapping[str, Any]], column: str) -> int:
    """Characters that a column needs: its longest word, and ROOM of them for a text of many words."""
    cells = [column, *(number(row.get(column, "")) for row in rows)]
    words = max(len(word) for cell in cells for word in cell.split() or [""])
    return max(words, min(ROOM, max(map(len, cells))))


def _bar(iterable: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(iterable, total=total, description=label)


def _lines(iterable: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    start = printed = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - printed >= SECONDS_BETWEEN_LINES and done < total:
            printed, elapsed = now, now - start
            remaining = elapsed / done * (total - done)
            message = f"{label}: {done} of {total}, {duration(elapsed)} so far, {duration(remaining)} to go"
            print(message, file=sys.stderr, flush=True)
