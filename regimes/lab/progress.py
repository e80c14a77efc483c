"""Progress of a training run on stderr: a bar with figures on a terminal, otherwise a line a minute."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from regimes.lab.console import SECONDS_BETWEEN_LINES, duration

SECONDS_BETWEEN_DRAWINGS = 0.5


class Progress:
    """Steps done out of `total`; figures are asked for only when they are shown, as reading them waits for a GPU."""

    def __init__(self, label: str, total: int, done: int = 0, *, shown: bool = True) -> None:
        self.label, self.total, self.first, self.visible = label, total, done, shown
        self.start = self.shown = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> "Progress":
        if self.visible and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self.task = self.bar.add_task(self.label, total=self.total, completed=self.first, figures="")
            self.bar.start()
        return self

    def update(self, done: int, figures: Callable[[], str], total: int | None = None) -> None:
        """Show the state if the time has come; `total` is a new estimate of all steps."""
        if not self.visible:
            return
        now = time.monotonic()
        if now - self.shown < (SECONDS_BETWEEN_DRAWINGS if self.bar else SECONDS_BETWEEN_LINES) or done == self.first:
            return
        self.shown = now
        self.total = self.total if total is None else total
        remaining = duration((now - self.start) / (done - self.first) * (self.total - done))
        text = f"{done} of {'' if total is None else 'about '}{self.total} steps, {figures()}, {remaining} to go"
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total, figures=text)
            self.bar.refresh()
        else:
            print(f"{self.label}: {text}", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
