"""The course of a verification: sweep, verdict, table, figure."""

import shlex
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from regimes.errors import UserError
from regimes.lab.cluster import cluster
from regimes.lab.config import Settings, dump, load, override
from regimes.lab.drawing import attempt
from regimes.lab.folders import shipped_with, what
from regimes.lab.grid import calls_of_measure, grid_points, is_joint
from regimes.lab.log import names_its_fields
from regimes.lab.merging import Part
from regimes.lab.provenance import git_state
from regimes.lab.report import Judgement, write_result
from regimes.lab.runs import CONFIG, MISSING, RunFolder, differences
from regimes.lab.stamps import PLACES, stamp
from regimes.lab.statements import FEW
from regimes.lab.sweep import rows_of, sweep
from regimes.lab.workers import worker_pool

if TYPE_CHECKING:
    import pandas


FEW_SEEDS = "Two seeds are few, also for what has to hold in every run."


class Conclusion(NamedTuple):
    """A judgement, the table for people, and what went wrong on the way without costing a result."""

    judgement: Judgement
    table: list[dict[str, Any]]
    troubles: tuple[str, ...] = ()


def verify(
    experiment: Any,
    name: str,
    config: Settings,
    path: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    part: Part | None = None,
    fresh: bool = False,
    across_commits: bool = False,
    data: str | None = None,
) -> Conclusion | None:
    """Measure what the folder does not hold yet, then conclude; `fresh` moves an old run aside first.

    A `part` of a run is measured only: there is no conclusion before it is merged with the others. `scheduler` is the
    address of a Dask scheduler, whose workers take the place of those here. Rows by other code than that of now are
    added to a run only with `across_commits`. A run may be given more points, as by more seeds, where the experiment
    names the setting in PLAN. `data` is the digest of the data sets, for the stamp of the rows: their files may lie in
    another folder than before, and rows of other files are refused.
    """
    calls_of_measure(experiment, config, 1 if part is None else part.of)  # before a run is moved aside
    if scheduler is not None and workers != 1:
        raise UserError(f"give either workers here or a cluster, not both; got workers={workers} and {scheduler}.")
    with (
        worker_pool(workers) if scheduler is None else cluster(scheduler) as pool,
        RunFolder.open(
            path, name, config, fresh=fresh, free=_free(experiment), across_commits=across_commits
        ) as folder,
    ):
        mark = stamp(experiment, config, data=data, commit=folder.commit)
        if part is not None:
            sweep(experiment, config, folder, pool, mine=part.has, parts=part.of, stamp=mark)
            return None
        sweep(experiment, config, folder, pool, stamp=mark)
        return conclude(experiment, folder)


def _free(experiment: Any) -> tuple[str, ...]:
    """The settings by which a run may go on: where its data lie, and what is planned, if each call stands alone.

    A plan that lacks a point which is measured already is refused when the points are read.
    """
    return ("data_dir", *(() if is_joint(experiment) else getattr(experiment, "PLAN", ())))


def conclude(experiment: Any, folder: RunFolder) -> Conclusion:
    """Judge the rows that the folder holds, write result.json, table.md and the figure; nothing is measured.

    The experiment gives STATEMENT, judge(rows) and draw(rows); its table(rows) may replace the means over seeds.
    """
    config = load(experiment.Config, folder.path / CONFIG)
    plan = grid_points(experiment, config)
    planned = len(plan)
    rows, points, seconds = rows_of(folder, plan)
    if points is None and (lost := [axis for axis in getattr(experiment, "GRID", ()) if axis not in rows]):
        raise UserError(
            f"{folder.path}/rows.csv is damaged: it has no column {lost[0]}; restore it, or measure with --fresh"
        )
    try:
        judgement = judged(experiment, rows, config, None if points is None else (points, planned))
    except (ValueError, KeyError, AttributeError) as error:
        if (lost := _lost_field(error, rows)) is not None and not names_its_fields(folder.path):
            raise UserError(
                f"the rows of {folder.path} have no field {lost!r}, which their judgement needs: they were damaged, or "
                "measured by other code; restore the file, or measure with --fresh"
            ) from error
        if points is None or points >= planned or isinstance(error, AttributeError):
            raise
        raise UserError(
            f"{folder.path} is unfinished: {points} of {planned} points are measured, too few for a verdict "
            f"({error}); run the same verify command again to measure the rest"
        ) from None
    table = table_rows(experiment, rows)
    commit, changed = git_state()
    size = {
        "points": planned if points is None else points,
        "points_planned": planned,
        "rows": len(rows),
        "measure_seconds": seconds,
        "judged_by": {"commit": commit, "uncommitted_changes": changed},
        "reproduce": reproduce(experiment, folder.name, config),
    }
    write_result(folder, experiment.STATEMENT, judgement, table=table, caption=caption(experiment), size=size)
    return Conclusion(judgement, table, _draw(experiment, rows, folder))


def judged(
    experiment: Any, rows: "pandas.DataFrame", config: Settings, points: tuple[int, int] | None = None
) -> Judgement:
    """What the experiment says of the rows; one seed decides nothing, and a smoke run claims nothing.

    Nor does a run with fewer points than are planned; points: both, where they are known. That there are two seeds, or
    one value of an axis that the settings give several by default, is told.
    """
    judgement = experiment.judge(rows).with_notes(*_narrow(experiment, config))
    if "seed" in rows and (seeds := rows.seed.nunique()) <= FEW:
        judgement = judgement.of_one_seed() if seeds == 1 else judgement.with_notes(FEW_SEEDS)
    if smoke_run(experiment, config):
        judgement = judgement.of_smoke_run()
    return judgement if points is None else judgement.of_points(*points)


def _narrow(experiment: Any, config: Settings) -> Iterator[str]:
    """A sentence for each axis of the grid of which one value was measured, where by default there are several."""
    usual, held = dump(type(config)()), dump(config)
    for axis in experiment.GRID:
        lists = usual.get(axis), held.get(axis)
        if all(isinstance(values, list) for values in lists) and len(held[axis]) == 1 < len(usual[axis]):
            yield f"Of {axis} only {held[axis][0]} was measured: the verdict says nothing of other values."


def _lost_field(error: Exception, rows: "pandas.DataFrame") -> str | None:
    """The column that a judgement asked for and no row has; None where that is not what went wrong."""
    import pandas

    if isinstance(error, AttributeError) and isinstance(error.obj, pandas.DataFrame | pandas.Series):
        return None if error.name in rows else error.name
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    asked = isinstance(name, str) and Path(raised).is_relative_to(Path(pandas.__file__).parent)
    return name if asked and name not in rows else None


def _draw(experiment: Any, rows: "pandas.DataFrame", folder: RunFolder) -> tuple[str, ...]:
    """Write the figure; one that fails costs nothing that was measured, and is told in a line."""

    def draw() -> None:
        from regimes.lab.figures import save

        save(experiment.draw(rows), folder)

    reason = attempt(draw)
    return () if reason is None else (f"The figure could not be drawn ({reason}). Table and result stand.",)


def smoke_run(experiment: Any, config: Settings) -> bool:
    """Whether a run only shows that the code runs: its settings of size have their defaults.

    That is: of all settings only the axes of the grid (lists), the number of seeds, what PLAN names, and PLACES may
    differ from the defaults, and counts (of steps, samples, ...) that are smaller still. Real sizes are in configs/.
    """
    usual, held = dump(type(config)()), dump(config)
    free = {*experiment.GRID, *getattr(experiment, "PLAN", ()), *PLACES, "seeds"}
    return all(
        held[name] == value
        or name in free
        or (isinstance(value, list) and isinstance(held[name], list))
        or (type(value) is type(held[name]) is int and held[name] < value)
        for name, value in usual.items()
    )


def reproduce(experiment: Any, name: str, config: Settings) -> str:
    """The command that measures with these settings: by a file that the repository has, or by every setting changed."""
    if (file := shipped_with(name, config)) is not None:
        return shlex.join(["python", "cli.py", "verify", name, "--config", file])
    changed = differences(what(type(config)()), what(config), "")
    sets = [part for key, _, new in changed if new is not MISSING for part in ("--set", override(key, new))]
    return shlex.join(["python", "cli.py", "verify", name, *sets])


def table_rows(experiment: Any, rows: "pandas.DataFrame") -> list[dict[str, Any]]:
    """The table for people: the experiment's own `table(rows)`, or the means of all numbers over the seeds."""
    if hasattr(experiment, "table"):
        table: Any = experiment.table(rows)
    else:
        from regimes.lab.averages import averages

        axes = [axis for axis in experiment.GRID if axis != "seed" and axis in rows]
        numbers = [name for name in rows.select_dtypes("number").columns if name not in (*axes, "seed")]
        table = averages(rows, axes, numbers)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def caption(experiment: Any) -> str:
    """What the numbers of the table are: the first line of what the experiment's `table` says of itself."""
    own = getattr(experiment, "table", None)
    return "Arithmetic means over the seeds." if own is None else (own.__doc__ or "").partition("\n")[0]
