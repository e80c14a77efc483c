"""How far a kernel is, on stderr: a bar on a terminal, otherwise a line a minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MINUTE = 60.0
Shown = Callable[[int, int], None]  # tiles done, and of how many


@contextmanager
def shown(progress: bool | Shown) -> Iterator[Shown]:
    """A function that is told (done, total) after each tile: the caller's own, or one that shows it."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("kernel", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        start = last = time.monotonic()

        def line(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _MINUTE:
                last = time.monotonic()
                print(f"kernel: {done} of {total} tiles in {last - start:.0f} s", file=sys.stderr, flush=True)

        yield line
