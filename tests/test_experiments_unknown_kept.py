"""In the rows of each kept result, values that are not known: no number is made of the rest, none decides."""

import json
import math
import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regimes import experiments
from regimes.lab.resampling import two_way
from regimes.lab.verification import table_rows

RESULTS = Path(__file__).parent.parent / "results"
COLUMNS, TRIED = 10, 3  # of a statement; and rows of each that lose their value
LARGEST = {"p, Holm"}  # what it can be at most, whatever was lost: it may grow
# Columns in which NaN is data: a run that did not arrive or has diverged, or what few of the runs are asked for.
FLAGS = {"reached", "trained", "stopped"}
DIVERGED = {"train_risk"}
DATA = {
    "cifar10_low_data": DIVERGED,
    "depth_without_batch_norm": DIVERGED,
    "infinite_width": {"sources"},
    "mnist_low_data": {*DIVERGED, "equal_epoch"},
    "propagation_of_chaos": {"to_copies", "to_others", "to_law"},
    "spurious_minima": {"curvature", "fall", "needed", "after_worst", "after_random"},
}
GIVEN = {  # no measurements: axes that are not in GRID, and inputs
    "circles": {"block", "x", "y", "label"},
    "contractive_robustness": {"epsilon"},
    "dto_equals_otd": {"h"},
    "euler_step_limit": {"half"},
    "feature_selection": {"d_over_k"},
    "hamiltonian_symplectic": {"h"},
    "integrator_order": {"h"},
    "max_margin": {"level"},
    "reversibility_limit": {"depth"},
}


def runs():
    """The folder of each kept run of a statement, and its name."""
    for file in sorted(RESULTS.glob("*/result.json")):
        name = json.loads(file.read_text(encoding="utf-8")).get("name")
        if name in experiments.homes() and (file.parent / "rows.csv").exists():
            yield pytest.param(file.parent, name, id=file.parent.name)


def family(column):
    """Its name without the number at the end: of the columns of a course one is tried."""
    return re.sub(r"[\d.]+$", "", column)


def measured(name, experiment, rows):
    """A column of each family that is measured."""
    spared = {*experiment.GRID, "seed", *FLAGS, *DATA.get(name, ()), *GIVEN.get(name, ())}
    columns = [column for column in rows.select_dtypes("float") if rows[column].notna().any()]
    return [*{family(column): column for column in columns if not spared & {column, family(column)}}.values()]


def told(judgement):
    """What is told of each number: its value and the ends of its interval."""
    findings = {one.quantity: (one.value, *one.measured) for one in judgement.findings if one.error == one.error}
    return findings | {name: (value,) for name, value in judgement.merits.items()}


def made_of_the_rest(before, after):
    """The numbers that are known and not what they were, or within other ends; and verdicts on what is not known."""
    held = told(before)
    wrong = [
        name
        for name, (value, *ends) in told(after).items()
        if value == value
        and name in held
        and any(one == one != other for one, other in zip((value, *ends), held[name], strict=True))
    ]
    decided = ("supported", "refuted")
    return wrong + [one.quantity for one in after.findings if math.isnan(one.value) and one.verdict in decided]


def cells(experiment, rows):
    """The table's cells, by line and heading: numbers, or words that hold some."""
    return {
        (line, heading): cell
        for line, row in enumerate(table_rows(experiment, rows))
        for heading, cell in row.items()
        if heading not in LARGEST
    }


def remade(before, after):
    """Headings of known numbers, or of their intervals, that are not what they were."""
    changed = []
    for place, cell in after.items():
        held = before[place]
        if isinstance(cell, str):
            same = cell in ("", held) or "nan" in cell
        else:
            same = cell != cell or (not isinstance(held, str) and math.isclose(cell, held, rel_tol=1e-9))
        changed += [] if same else [place[1]]
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), list(runs()))
def test_no_number_of_a_kept_result_is_made_of_the_rest_where_one_value_is_not_known(folder, name, monkeypatch):
    monkeypatch.setattr("regimes.experiments.lazy.criterion_predicts.ranks.RESAMPLES", 50)
    monkeypatch.setattr("regimes.lab.variances.RESAMPLES", 50)
    monkeypatch.setattr("regimes.experiments.least_action.initialisations.two_way", partial(two_way, resamples=50))
    experiment, rows = experiments.load(name), pd.read_csv(folder / "rows.csv", low_memory=False)
    if name == "mnist_low_data":  # which judges all cells, most of them alike
        rows = rows[(rows.encoder == "gain_1") & (rows.train_size == 100)].reset_index(drop=True)
    draw, wrong = np.random.default_rng(0), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, table = experiment.judge(rows), cells(experiment, rows)
        for column in draw.permutation(measured(name, experiment, rows))[:COLUMNS]:
            lost = rows.copy()
            lost.loc[draw.choice(np.flatnonzero(rows[column].notna()), TRIED), column] = math.nan
            wrong += [(column, name) for name in made_of_the_rest(before, experiment.judge(lost))]
            wrong += [(column, heading) for heading in remade(table, cells(experiment, lost))]
    assert wrong == []
