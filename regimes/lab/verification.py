"""From the rows of a sweep to the verdict: result.json, table.md and the figure of a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regimes.lab.config import load
from regimes.lab.report import Judgement, write_result
from regimes.lab.runs import RunFolder
from regimes.lab.sweep import grid_points, rows_of

if TYPE_CHECKING:
    import pandas


def conclude(experiment: Any, folder: RunFolder) -> Judgement:
    """Judge the rows that the folder holds, write result.json, table.md and the figure; nothing is measured.

    The experiment gives STATEMENT, judge(rows) and draw(rows); its table(rows) may replace the means over seeds.
    """
    from regimes.lab.figures import save

    rows, points = rows_of(folder)
    judgement = experiment.judge(rows)
    planned = len(grid_points(experiment, load(experiment.Config, folder.path / "config.yaml")))
    shown = table_rows(experiment, rows)
    write_result(
        folder,
        experiment.STATEMENT,
        judgement,
        table=shown,
        rows=len(rows),
        points=points or planned,
        points_planned=planned,
    )
    save(experiment.draw(rows), folder)
    return judgement


def table_rows(experiment: Any, rows: "pandas.DataFrame") -> Sequence[dict[str, Any]]:
    """The table for people: the experiment's own `table(rows)`, or the means of all numbers over the seeds."""
    if hasattr(experiment, "table"):
        table = experiment.table(rows)
    else:
        axes = [axis for axis in experiment.GRID if axis != "seed" and axis in rows]
        numbers = [name for name in rows.select_dtypes("number").columns if name not in (*axes, "seed")]
        groups = rows.groupby(axes if axes else [0] * len(rows), sort=False)
        table = groups[numbers].mean().reset_index(drop=not axes)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
