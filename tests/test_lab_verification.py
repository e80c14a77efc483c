import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import toy_experiment as toy

from regimes.experiments import load, names
from regimes.lab.config import load as settings
from regimes.lab.report import Interval
from regimes.lab.statements import ONCE
from regimes.lab.verification import FEW_SEEDS, reproduce, smoke_run, table_rows, verify

ROOT = Path(__file__).parent.parent

ROWS = pandas.DataFrame({"x": [2.0, 2.0, 1.0], "seed": [0, 1, 0], "y": [1.0, 3.0, 5.0], "label": ["a", "b", "c"]})


def test_the_table_holds_means_over_seeds_in_the_order_of_the_grid():
    assert table_rows(toy, ROWS) == [{"x": 2.0, "y": 2.0}, {"x": 1.0, "y": 5.0}]


def test_a_grid_of_seeds_alone_has_one_line():
    assert table_rows(SimpleNamespace(GRID=("seed",)), ROWS[["seed", "y"]]) == [{"y": 3.0}]


def test_an_experiment_may_have_a_table_of_its_own():
    own = SimpleNamespace(GRID=("x",), table=lambda rows: rows[["y"]].tail(1))
    assert table_rows(own, ROWS) == [{"y": 5.0}]


def test_a_grid_that_cannot_be_measured_touches_no_folder(tmp_path):
    with pytest.raises(ValueError, match="at least one value"):
        verify(toy, "toy", toy.Config(x=[]), tmp_path / "a")
    with pytest.raises(ValueError, match="at least 1"):
        verify(toy, "toy", toy.Config(), tmp_path / "a", workers=0)
    assert not (tmp_path / "a").exists()


REAL = {"pause": 1e-6}  # a setting that is no axis: the run is no smoke run


def test_a_run_of_default_sizes_is_a_smoke_run_on_whatever_part_of_the_axes():
    assert smoke_run(toy, toy.Config())
    assert smoke_run(toy, toy.Config(x=[1.0, 2.0], seeds=9))
    assert not smoke_run(toy, toy.Config(**REAL))


def test_a_run_that_is_smaller_than_a_smoke_run_is_one():
    smaller = load("trajectories")
    assert smoke_run(smaller, smaller.Config(iterations=smaller.Config().iterations - 1))
    assert not smoke_run(smaller, smaller.Config(iterations=smaller.Config().iterations + 1))


@pytest.mark.parametrize("name", names())
def test_no_kept_configuration_is_a_smoke_run(name):
    experiment = load(name)
    assert smoke_run(experiment, experiment.Config())
    for file in (ROOT / "configs").rglob(f"{name}.yaml"):
        if "train" not in file.parts:
            assert not smoke_run(experiment, settings(experiment.Config, file)), file


@pytest.mark.slow
def test_a_smoke_run_has_no_verdict_in_any_file(tmp_path):
    found = verify(toy, "toy", toy.Config(), tmp_path / "a")
    assert found is not None
    assert found.judgement.verdict == "no verdict"
    assert found.judgement.notes[0] == "Smoke run: no verdict."
    assert json.loads((tmp_path / "a" / "result.json").read_text())["verdict"] == "no verdict"
    assert "supported" not in (tmp_path / "a" / "table.md").read_text()
    found = verify(toy, "toy", toy.Config(**REAL), tmp_path / "b")
    assert found is not None
    assert found.judgement.verdict == "supported"
    assert (tmp_path / "b" / "table.md").read_text().startswith("# toy: supported")


def test_one_seed_decides_nothing_even_where_its_intervals_are_points(tmp_path):
    def judge(rows):
        return toy.STATEMENT.judge({toy.SLOPE: Interval(2.0, 2.0)})

    parts = ("GRID", "Config", "measure", "draw", "STATEMENT")
    point = SimpleNamespace(judge=judge, **{name: getattr(toy, name) for name in parts})
    found = verify(point, "toy", toy.Config(seeds=1, **REAL), tmp_path / "a")
    assert found is not None
    assert found.judgement.verdict == "inconclusive"
    assert found.judgement.notes == (ONCE,)


def test_two_seeds_and_an_axis_of_one_value_are_told(tmp_path):
    sized = toy.Config(pause=0.001, seeds=2, x=[1.0, 2.0])
    judgement = verify(toy, "toy", sized, tmp_path / "two").judgement
    assert judgement.notes == (FEW_SEEDS,)
    alone = SimpleNamespace(**{**vars(toy), "judge": lambda rows: toy.STATEMENT.judge({toy.SLOPE: Interval(2.0, 2.0)})})
    judgement = verify(alone, "toy", toy.Config(pause=0.001, x=[2.0]), tmp_path / "one").judgement
    assert judgement.notes == ("Of x only 2.0 was measured: the verdict says nothing of other values.",)


def test_a_figure_that_fails_costs_neither_table_nor_result(tmp_path):
    def draw(rows):
        raise ArithmeticError("no ink")

    blank = SimpleNamespace(
        **{name: getattr(toy, name) for name in ("GRID", "Config", "measure", "judge", "STATEMENT")}
    )
    blank.draw = draw
    found = verify(blank, "toy", toy.Config(**REAL), tmp_path / "a")
    assert found is not None
    assert "no ink" in found.troubles[0]
    assert (tmp_path / "a" / "table.md").exists()
    assert json.loads((tmp_path / "a" / "result.json").read_text())["verdict"] == "supported"


def test_the_command_to_reproduce_names_a_file_of_the_repository_or_every_setting():
    experiment = load("low_energy_bias")
    kept = settings(experiment.Config, ROOT / "configs" / "cifar10" / "low_energy_bias.yaml")
    assert reproduce(experiment, "low_energy_bias", kept) == (
        "python cli.py verify low_energy_bias --config configs/cifar10/low_energy_bias.yaml"
    )
    changed = toy.Config(x=[1.0, 3.0], seeds=2)
    command = shlex.split(reproduce(toy, "toy", changed))
    assert command == ["python", "cli.py", "verify", "toy", "--set", "x=[1.0, 3.0]", "--set", "seeds=2"]
    assert settings(toy.Config, None, command[5::2]) == changed
