"""How far an exact solve is, on stderr: a line that changes on a terminal, otherwise a line a minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from regimes import checks

_MINUTE = 60.0


class Solving(NamedTuple):
    """Where a solve stands. `primal` and `dual` bracket the optimum of the problem at hand.

    That has `points` on its larger side, fewer than were `asked` for while a coarser problem gives the first
    potentials. `round` counts its rounds, 0 before the first. `seconds` are those since the start, `last` those that
    the last round took (before the first: may take), 0 where nothing is known.
    """

    asked: int
    points: int
    round: int
    doing: str
    primal: float
    dual: float
    seconds: float
    last: float

    def line(self) -> str:
        """The state in words."""
        coarser = f", first {self.points:,} of them" if self.points < self.asked else ""
        width = f"; cost known to {(self.primal - self.dual) / self.primal:.1e} of itself" if self.primal > 0 else ""
        each = f", {self.last:.0f} s a round" if self.last >= 1 else ""
        where = f"round {self.round}" if self.round else "start"
        return (
            f"exact transport of {self.asked:,} points{coarser}, {where}: {self.doing}{width}; "
            f"{self.seconds:.0f} s so far{each}"
        )


Shown = Callable[[Solving], object]
Said = Callable[[int, int, str, float, float, float], None]  # points, round, doing, primal, dual, last


def silent(points: int, round: int, doing: str, primal: float, dual: float, last: float) -> None:
    """Tells nobody."""


def check_progress(caller: str, progress: bool | Shown, name: str = "progress") -> None:
    """ValueError unless it is True, False or a function."""
    if not isinstance(progress, bool):
        checks.given(caller, **{name: progress})
        checks.function(caller, **{name: progress})


@contextmanager
def saying(caller: str, progress: bool | Shown, asked: int) -> Iterator[Said]:
    """A function to be told of each part of the work; it passes the state on to the caller's own, or shows it."""
    check_progress(caller, progress)
    began = time.monotonic()
    with _shown(progress) as show:
        if show is None:
            yield silent
            return

        def said(points: int, round: int, doing: str, primal: float, dual: float, last: float) -> None:
            show(Solving(asked, points, round, doing, primal, dual, time.monotonic() - began, last))

        yield said


@contextmanager
def _shown(progress: bool | Shown) -> Iterator[Shown | None]:
    if callable(progress):
        yield progress
    elif not progress:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status("exact transport") as status:
            yield lambda state: status.update(escape(state.line()))
    else:
        yield lines()


def lines() -> Shown:
    """A line a minute on stderr, from now on; above a bar that rich draws there."""
    last = time.monotonic()

    def line(state: Solving) -> None:
        nonlocal last
        if time.monotonic() - last >= _MINUTE:
            last = time.monotonic()
            print(state.line(), file=sys.stderr, flush=True)

    return line
