"""Progress and tables on screen."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from regimes.lab.report import number

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 60.0


def track(iterable: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Pass the items on and show progress on stderr: a bar on a terminal, otherwise a line a minute, of rank 0 only."""
    if os.environ.get("RANK", "0") != "0":
        yield from iterable
    elif sys.stderr.isatty():
        yield from _bar(iterable, total, label)
    else:
        yield from _lines(iterable, total, label)


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows as a table on stdout; the columns are the keys in the order in which they appear."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        numeric = all(isinstance(row.get(column), (int, float)) for row in rows if column in row)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(number(row.get(column, ""))) for column in columns))
    console = Console()
    # A file or a pipe has no width: nothing is folded there.
    width = console.width if console.is_terminal else Console(width=100_000).measure(table).maximum
    Console(width=width).print(table)


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
