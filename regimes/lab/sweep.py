"""A sweep: the grid of an experiment, measured ensemble by ensemble, resumable at any moment."""

import csv
import io
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from regimes.errors import Interrupted, RunFailed, UserError, out_of_memory
from regimes.lab.calls import UNFINISHED, Point, describe, measure_batch, unfinished
from regimes.lab.config import Settings
from regimes.lab.console import track as show_progress
from regimes.lab.fields import TABLE, read_table, value_of
from regimes.lab.grid import calls_of_measure, grid_points, is_joint
from regimes.lab.log import LOG, PointLog, Record, point_key, read_log
from regimes.lab.runs import RunFolder
from regimes.lab.stamps import refuse_unlike

if TYPE_CHECKING:
    import pandas

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


class SweepFailed(RuntimeError):
    """Some calls of measure raised what nobody meant: a bug; the rows of all others are kept."""


class Outcome(NamedTuple):
    """The points of one call of measure, with their records or the error."""

    points: list[Point]
    records: list[Record]
    error: BaseException | None


def sweep(
    experiment: Any,
    config: Settings,
    folder: RunFolder,
    executor: Executor | None = None,
    track: Track = show_progress,
    mine: Callable[[int], bool] = lambda index: True,
    *,
    parts: int = 1,
    stamp: Mapping[str, str] | None = None,
) -> "pandas.DataFrame":
    """Measure every point of the grid that the folder does not hold yet; the rows of all points, in the grid's order.

    `mine` says which calls of measure, by number from 0, are for this machine; for `parts` machines calls are cut into
    smaller ones where there are too few, unless the rows of a call depend on each other (the experiment's JOINT).
    `stamp` goes into each record; records held with an unlike one are refused.
    Points that differ only in the axes BATCHED go to one call of measure; where the configuration has a setting
    `ensemble`, at most so many, and of these only the ones not held. Each call's points are on the disk (points.jsonl)
    before the next call counts as done; rows.csv is derived at the end. Any `concurrent.futures.Executor` may do the
    calls; this process alone writes.
    The experiment may say by `work(config, points)` how many multiply-adds a typical product of one call has, from
    which its threads follow; without it, and for what does not say more itself, they are one. With RESUMABLE its
    measure takes a folder besides, in which it keeps what it goes on from where it was stopped: see `calls.unfinished`.
    SweepFailed, or UserError and RunFailed where measure raised those: some calls raised; Interrupted: Ctrl-C; all
    after the finished points were kept.
    """
    points = grid_points(experiment, config)
    batches = calls_of_measure(experiment, config, parts)
    log = PointLog(folder.path)
    held = _resume(log, folder, points, batches, joint=is_joint(experiment), single=hasattr(config, "ensemble"))
    refuse_unlike(str(folder.path), held.values(), stamp or {})
    waiting = [
        rest
        for index, batch in enumerate(batches)
        if mine(index) and (rest := [point for point in batch if point_key(point) not in held])
    ]
    failures: list[Outcome] = []
    if waiting:
        folder.begin()
    try:
        outcomes = _outcomes(experiment, config, waiting, executor, folder.path)
        for outcome in track(outcomes, len(waiting), folder.name):
            if outcome.error is not None:
                failures.append(outcome)
                continue
            records = [record._replace(stamp=dict(stamp or {})) for record in outcome.records]
            log.append(records)
            shutil.rmtree(unfinished(folder.path, outcome.points), ignore_errors=True)
            held.update((point_key(record.point), record) for record in records)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: {len(held)} of {len(points)} points are kept in {folder.path}; "
            "run the same command again to go on from there"
        ) from None
    finally:
        log.close()
    records = [held[key] for key in map(point_key, points) if key in held]
    if records:
        folder.write("rows.csv", to_csv(records))
    if len(records) == len(points):
        shutil.rmtree(folder.path / UNFINISHED, ignore_errors=True)
    if failures:
        kept = f"; all other rows are kept in {folder.path}" if held else ""
        raise _failed(failures, len(batches), kept) from failures[0].error
    return to_frame(records)


class Measured(NamedTuple):
    """The rows of a run, how many points they come from and the seconds spent on them (None: not known)."""

    rows: "pandas.DataFrame"
    points: int | None
    seconds: float | None


def rows_of(folder: RunFolder | Path, planned: Sequence[Point] = ()) -> Measured:
    """The rows that a folder holds, from points.jsonl or else from rows.csv; in the order of the planned points.

    points.jsonl has them as they were finished, by whichever worker: colours and tables would follow that.
    """
    import pandas

    path = folder if isinstance(folder, Path) else folder.path
    order = {point_key(point): place for place, point in enumerate(planned)}
    records = read_log(path).records
    if records:
        if planned:
            _refuse_unknown(path / LOG, records, order)
        records.sort(key=lambda record: order.get(point_key(record.point), len(order)))
        return Measured(to_frame(records), len(records), sum(record.seconds for record in records))
    table = path / TABLE
    if not table.exists():
        raise FileNotFoundError(f"{path} holds no rows yet; run the experiment there first")
    lines = read_table(table)
    return Measured(pandas.DataFrame(lines), _points_in(lines, planned), None)


def _points_in(lines: Sequence[Mapping[str, Any]], planned: Sequence[Point]) -> int | None:
    """How many planned points the lines of rows.csv come from; None where they do not say it."""
    axes = list(planned[0]) if planned else []
    if not axes or any(axis not in line for line in lines for axis in axes):
        return None
    plan = {tuple(value_of("" if point[axis] is None else str(point[axis])) for axis in axes) for point in planned}
    found = {tuple(line[axis] for axis in axes) for line in lines}
    return len(found) if found <= plan else None


def to_frame(records: Iterable[Record]) -> "pandas.DataFrame":
    """One line a row: the axes of its point, then what was measured."""
    import pandas

    return pandas.DataFrame([{**record.point, **row} for record in records for row in record.rows])


def to_csv(records: Sequence[Record]) -> str:
    """The same as text; floats are written so that they are read back exactly."""
    lines = [{**record.point, **row} for record in records for row in record.rows]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _resume(
    log: PointLog, folder: RunFolder, points: list[Point], batches: list[list[Point]], *, joint: bool, single: bool
) -> dict[str, Record]:
    """The records that stand; the log is rewritten without what a crash left of a batch that it cut.

    Where no crash has torn the log, single records are those of another cut, as of a part that was merged: they stand.
    """
    content = read_log(folder.path)
    if single or not (content.torn or joint):
        batches = [[point] for point in points]
    found = {point_key(record.point): record for record in content.records}
    _refuse_unknown(log.path, content.records, {point_key(point) for point in points})
    calls = ([point_key(point) for point in batch] for batch in batches)
    whole = {key: found[key] for keys in calls if all(key in found for key in keys) for key in keys}
    if content.torn or len(whole) < len(content.records):
        log.replace(list(whole.values()))
    return whole


def _refuse_unknown(log: Path, records: Iterable[Record], known: Container[str]) -> None:
    for record in records:
        if point_key(record.point) not in known:
            raise UserError(
                f"{log} holds the point {describe(record.point)}, which the grid does not have: give settings that "
                "have it, or, where the experiment has changed, pass --fresh to move the old run aside, or --out for "
                "another folder"
            )


def _outcomes(
    experiment: Any, config: Settings, batches: list[list[Point]], executor: Executor | None, run: Path
) -> Iterator[Outcome]:
    measure, work = experiment.measure, getattr(experiment, "work", _small)
    place = run.resolve() if getattr(experiment, "RESUMABLE", False) else None
    if executor is None:
        for batch in batches:
            try:
                yield Outcome(batch, measure_batch(measure, config, batch, work(config, batch), place), None)
            except Exception as error:
                yield Outcome(batch, [], error)
        return
    running: dict[Future[list[Record]], list[Point]] = {
        executor.submit(measure_batch, measure, config, batch, work(config, batch), place): batch for batch in batches
    }
    for future in as_completed(running):
        error = future.exception()
        yield Outcome(running[future], [] if error else future.result(), error)


def _small(config: Settings, points: list[Point]) -> int:
    """The work of an experiment that has no `work` of its own: products for which one thread is best."""
    return 0


def _failed(failures: list[Outcome], batches: int, kept: str) -> Exception:
    """The first failure; a mistake of the user (UserError, OSError) and a RunFailed stay what they are."""
    first = failures[0]
    error = first.error
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror + (f": {error.filename}" if error.filename else "")
    shared = {axis: value for axis, value in first.points[0].items() if all(p[axis] == value for p in first.points)}
    where = describe(shared if shared else first.points[0])
    kind = "" if isinstance(error, (UserError, OSError, RunFailed)) else f"{type(error).__name__}: "
    if full := error is not None and out_of_memory(error):
        kind, kept = "the memory is too small for this: ", f"; choose smaller settings{kept}"
    count = f" ({len(failures)} of {batches} calls failed)" if batches > 1 else ""
    message = f"measuring {where} failed{count}: {kind}{text}{kept}"
    if isinstance(error, (UserError, OSError)):
        return UserError(message)
    return RunFailed(message) if full or isinstance(error, (RunFailed, BrokenExecutor)) else SweepFailed(message)
