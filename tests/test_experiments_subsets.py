"""A run on a part of its axes is judged, tabled and drawn: what has no rows is not measured, and nothing fails."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from regimes import experiments
from regimes.lab.config import load
from regimes.lab.sweep import rows_of
from regimes.lab.verification import judged, table_rows

RESULTS = Path(__file__).parent.parent / "results"
KEPT = {  # statement: its kept run, whose rows are real
    json.loads(file.read_text())["name"]: file.parent for file in sorted(RESULTS.glob("*/run.json"), reverse=True)
}
each = pytest.mark.parametrize("name", [name for name in experiments.names() if name in KEPT])


@cache
def kept(name: str) -> tuple[Any, Any, Any]:
    experiment = experiments.load(name)
    return experiment, load(experiment.Config, KEPT[name] / "config.yaml"), rows_of(KEPT[name]).rows


def parts(name: str) -> Iterator[tuple[str, Any]]:
    """Along each axis the rows of the first value alone, of the last alone, and of all but the first."""
    experiment, _, rows = kept(name)
    for axis in experiment.GRID:
        values = list(dict.fromkeys(rows[axis])) if axis in rows else []
        if len(values) > 1:
            yield f"{axis} = {values[0]}", rows[rows[axis] == values[0]]
            yield f"{axis} = {values[-1]}", rows[rows[axis] == values[-1]]
            yield f"{axis} without {values[0]}", rows[rows[axis] != values[0]]


def failing(name: str, *functions: str) -> dict[str, str]:
    experiment, config, _ = kept(name)
    calls = {
        "judge": lambda rows: judged(experiment, rows, config),
        "table": lambda rows: table_rows(experiment, rows),
        "draw": lambda rows: experiment.draw(rows),
    }
    found = {}
    for part, rows in parts(name):
        for function in functions:
            try:
                calls[function](rows.reset_index(drop=True))
            except Exception as error:  # all of them are shown at once
                found[f"{function}, {part}"] = f"{type(error).__name__}: {error}"
    return found


@each
@pytest.mark.slow
def test_any_part_of_the_axes_is_judged_and_tabled(name):
    assert failing(name, "judge", "table") == {}


@each
@pytest.mark.slow
def test_any_part_of_the_axes_is_drawn(name):
    assert failing(name, "draw") == {}
