"""Times of several ways to do the same work, which take turns in one process."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch


class Seconds(NamedTuple):
    """What a step took: by the clock of the process, of all its threads together, and by the clock on the wall."""

    process: float
    wall: float


class Spread(NamedTuple):
    """Median and middle half of some numbers."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f}" + (
            f" (middle half {self.low:.3f} to {self.high:.3f})" if self.high > self.low else ""
        )


def spread(numbers: Sequence[float]) -> Spread:
    """Median, and the two numbers between which the middle half lies."""
    ordered = sorted(numbers)
    quarter = len(ordered) // 4
    return Spread(statistics.median(ordered), ordered[quarter], ordered[-1 - quarter])


def whole(text: str, least: int = 0) -> int:
    """A whole number of at least 0, or `least`, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least {least}; got {text}")
    return int(text)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    return whole(text, 1)


def require_equal(way: str, distance: float, tolerance: float) -> None:
    """End where two ways do not do the same work, as no ratio of their times says anything then; NaN is no distance."""
    if not distance <= tolerance:
        raise SystemExit(f"{way} differs by {distance:.1e}, more than {tolerance:.0e}: no speed to compare")


def wait(device: str) -> None:
    """Until a card has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def turn(work: Callable[[], Any], device: str, count: int = 1) -> Seconds:
    """Seconds of a call, the mean over `count` of them."""
    wait(device)
    process, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        work()
    wait(device)
    return Seconds((time.process_time() - process) / count, (time.perf_counter() - wall) / count)


def interleave(
    ways: Mapping[str, Iterator[Any]], device: str, *, repeats: int, steps: int, warm_up: int
) -> dict[str, list[Seconds]]:
    """Seconds a step of each way, one a repeat: turns of `steps` steps, in an order that rotates, after a warm-up.

    The turns of one repeat are neighbours in time: what else the machine does slows them alike.
    """
    times: dict[str, list[Seconds]] = {name: [] for name in ways}
    for name, way in ways.items():
        try:
            for _ in range(warm_up):
                turn(lambda way=way: next(way), device, steps)
        except RuntimeError as error:  # bfloat16 or a compiler that this machine lacks costs one way, not all
            print(f"{name}: left out, {' '.join(str(error).split())[:120]}", flush=True)
            del times[name]
    order = list(times)
    for _ in range(repeats):
        for name in order:
            times[name].append(turn(lambda way=ways[name]: next(way), device, steps))
        order = [*order[1:], *order[:1]]
    return times


def ratio(above: Sequence[Seconds], below: Sequence[Seconds], clock: str) -> Spread:
    """Time of one way over that of another, turn by turn."""
    pairs = zip(above, below, strict=True)
    return spread([getattr(one, clock) / getattr(other, clock) for one, other in pairs])


def clocks(device: str) -> dict[str, str]:
    """The clocks that count on a device, with their names; the first one decides."""
    return {"wall": "wall time"} if device == "cuda" else {"process": "processor time", "wall": "wall time"}
