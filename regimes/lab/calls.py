"""One call of an experiment's `measure`, what it may return, and where it keeps what it goes on from."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regimes.errors import RunFailed, UserError, not_finite
from regimes.lab.config import Settings
from regimes.lab.log import Record
from regimes.threads import threads_for

Point = dict[str, Any]
Rows = list[dict[str, Any]]
Measure = Callable[..., Sequence[Mapping[str, Any] | Sequence[Mapping[str, Any]]]]
UNFINISHED = "unfinished"


def describe(point: Mapping[str, Any]) -> str:
    """Text of a point: alpha=10.0, seed=3."""
    return ", ".join(f"{axis}={value}" for axis, value in point.items())


def unfinished(run: Path, points: Sequence[Point]) -> Path:
    """The folder in which a call on these points keeps, while it lasts, what it goes on from where it is stopped."""
    return run / UNFINISHED / hashlib.sha256(json.dumps(list(points), sort_keys=True).encode()).hexdigest()[:16]


def measure_batch(
    measure: Measure, config: Settings, points: list[Point], work: float | int = 0, run: Path | None = None
) -> list[Record]:
    """Call measure once and check what it returns: for each point one row or a list of rows, of plain values.

    It has the threads that its typical product of `work` multiply-adds deserves. run: folder of the run for a measure
    that goes on where it was stopped, whose third argument is its `unfinished` there; None on a machine without it.
    """
    start = time.perf_counter()
    given = () if run is None else (unfinished(run, points) if run.is_dir() else None,)
    try:
        with threads_for(work):
            results = list(measure(config, [dict(point) for point in points], *given))
    except Exception as error:
        if isinstance(error, (UserError, RunFailed)) or not not_finite(error):
            raise
        raise RunFailed(
            f"the numbers are no longer finite: a net has diverged, or a setting is too large or too small ({error})"
        ) from error
    seconds = (time.perf_counter() - start) / len(points)
    if len(results) != len(points):
        raise TypeError(f"measure needs to return one entry a point; got {len(results)} for {len(points)} points")
    return [Record(point, _rows(point, result), seconds) for point, result in zip(points, results, strict=True)]


def _rows(point: Point, result: Any) -> Rows:
    rows = [result] if isinstance(result, Mapping) else list(result)
    plain = [{str(name): _plain(name, value) for name, value in row.items()} for row in rows]
    for row in plain:
        for axis in row.keys() & point.keys():
            if row[axis] != point[axis]:
                raise TypeError(
                    f"measure gives {axis}={row[axis]} at the point {describe(point)}; name the column otherwise"
                )
    return plain


def _plain(name: str, value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, (bool, int, float, str)) and value is not None:
        raise TypeError(f"the column {name!r} needs numbers or texts; got {type(value).__name__}")
    return value
