"""The course of a verification: sweep, verdict, table, figure."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from regimes.errors import UserError
from regimes.lab.cluster import cluster
from regimes.lab.config import Settings, load
from regimes.lab.merging import Part
from regimes.lab.provenance import git_state
from regimes.lab.report import Judgement, write_result
from regimes.lab.runs import CONFIG, RunFolder
from regimes.lab.sweep import grid_points, rows_of, sweep
from regimes.lab.workers import worker_pool

if TYPE_CHECKING:
    import pandas


class Conclusion(NamedTuple):
    """A judgement and the table for people."""

    judgement: Judgement
    table: list[dict[str, Any]]


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
) -> Conclusion | None:
    """Measure what the folder does not hold yet, then conclude; `fresh` moves an old run aside first.

    A `part` of a run is measured only: there is no conclusion before it is merged with the others. `scheduler` is the
    address of a Dask scheduler, whose workers take the place of those here.
    """
    grid_points(experiment, config)
    if scheduler is not None and workers != 1:
        raise UserError(f"give either workers here or a cluster, not both; got workers={workers} and {scheduler}.")
    with (
        worker_pool(workers) if scheduler is None else cluster(scheduler) as pool,
        RunFolder.open(path, name, config, fresh=fresh) as folder,
    ):
        if part is not None:
            sweep(experiment, config, folder, pool, mine=part.has)
            return None
        sweep(experiment, config, folder, pool)
        return conclude(experiment, folder)


def conclude(experiment: Any, folder: RunFolder) -> Conclusion:
    """Judge the rows that the folder holds, write result.json, table.md and the figure; nothing is measured.

    The experiment gives STATEMENT, judge(rows) and draw(rows); its table(rows) may replace the means over seeds.
    """
    from regimes.lab.figures import save

    rows, points, seconds = rows_of(folder)
    planned = len(grid_points(experiment, load(experiment.Config, folder.path / CONFIG)))
    try:
        judgement = experiment.judge(rows)
    except (ValueError, KeyError) as error:
        if points is None or points >= planned:
            raise
        raise UserError(
            f"{folder.path} is unfinished: {points} of {planned} points are measured, too few for a verdict "
            f"({error}); run the same verify command again to measure the rest"
        ) from None
    table = table_rows(experiment, rows)
    commit, changed = git_state(Path(__file__).resolve().parent)
    size = {
        "points": planned if points is None else points,
        "points_planned": planned,
        "rows": len(rows),
        "measure_seconds": seconds,
        "judged_by": {"commit": commit, "uncommitted_changes": changed},
    }
    write_result(folder, experiment.STATEMENT, judgement, table=table, size=size)
    save(experiment.draw(rows), folder)
    return Conclusion(judgement, table)


def table_rows(experiment: Any, rows: "pandas.DataFrame") -> list[dict[str, Any]]:
    """The table for people: the experiment's own `table(rows)`, or the means of all numbers over the seeds."""
    if hasattr(experiment, "table"):
        table: Any = experiment.table(rows)
    else:
        axes = [axis for axis in experiment.GRID if axis != "seed" and axis in rows]
        numbers = [name for name in rows.select_dtypes("number").columns if name not in (*axes, "seed")]
        groups: Any = rows.groupby(axes if axes else [0] * len(rows), sort=False)
        table = groups[numbers].mean().reset_index(drop=not axes)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
