"""What every experiment has to offer, whichever it is; its own claims are tested in its own file."""

import json
import math
from pathlib import Path
from typing import get_args

import pytest
from command import command

from regimes import experiments
from regimes.lab.config import Settings, dump, load
from regimes.lab.grid import grid_points
from regimes.lab.report import Interval, Origin, Statement
from regimes.lab.shipped import shipped

ROOT = Path(__file__).parent.parent
NAMES = experiments.names()
FILES = {"config.yaml", "run.json", "points.jsonl", "rows.csv", "result.json", "table.md", "figure.png", "figure.pdf"}
each = pytest.mark.parametrize("name", NAMES)


def test_experiments_are_found_by_their_files():
    assert sorted(NAMES) == NAMES
    assert "lazy_vs_meanfield" not in NAMES  # the main job states nothing


def test_an_unknown_statement_names_the_nearest_and_all_known_ones(monkeypatch):
    monkeypatch.setattr(experiments, "names", lambda: ["kernel_drift", "lazy_rate"])
    with pytest.raises(
        ValueError, match=r"unknown statement 'lazy_rat'. Did you mean 'lazy_rate'\? Known .*: kernel_drift"
    ):
        experiments.load("lazy_rat")


@each
def test_it_states_predictions_with_their_source(name):
    statement = experiments.load(name).STATEMENT
    assert isinstance(statement, Statement)
    assert statement.claim.endswith(".")
    assert statement.source.startswith("[")
    assert statement.predictions
    quantities = [prediction.quantity for prediction in statement.predictions]
    assert len(set(quantities)) == len(quantities)
    for _, interval, origin in statement.predictions:
        assert origin in get_args(Origin)
        assert isinstance(interval, Interval)
        assert interval.low <= interval.high
        assert math.isfinite(interval.low) or math.isfinite(interval.high)


@each
def test_it_says_what_it_does(name):
    assert len(experiments.load(name).__doc__.split()) > 40


@each
def test_its_grid_is_made_of_its_settings(name):
    experiment = experiments.load(name)
    assert issubclass(experiment.Config, Settings)
    points = grid_points(experiment, experiment.Config())
    axes = set(points[0])
    assert all(set(point) == axes for point in points)
    assert set(getattr(experiment, "BATCHED", ("seed",))) <= axes
    assert json.loads(json.dumps(points)) == points


@each
def test_it_measures_judges_and_draws(name):
    experiment = experiments.load(name)
    for function in ("measure", "judge", "draw"):
        assert callable(getattr(experiment, function))


@each
def test_its_configuration_survives_being_written(name, tmp_path):
    config = experiments.load(name).Config()
    (tmp_path / "config.yaml").write_text(json.dumps(dump(config)))
    assert load(type(config), tmp_path / "config.yaml") == config


@each
def test_its_real_size_is_a_valid_configuration(name):
    experiment = experiments.load(name)
    config = load(experiment.Config, ROOT / "configs" / f"{name}.yaml")
    assert config != experiment.Config()  # the defaults are a smoke run
    assert len(grid_points(experiment, config)) >= len(grid_points(experiment, experiment.Config()))


@each
def test_every_file_that_is_offered_for_it_is_one_of_its_configurations(name):
    files = shipped(name)
    assert files[0] == f"configs/{name}.yaml"
    assert len({json.dumps(dump(load(experiments.load(name).Config, file))) for file in files}) == len(files)


def test_every_configuration_belongs_to_an_experiment():
    known = {*NAMES, "lazy_vs_meanfield"}
    assert {file.stem for file in (ROOT / "configs").rglob("*.yaml") if file.parent.name != "train"} <= known


@each
@pytest.mark.slow
def test_its_smoke_run_ends_in_a_report(name, tmp_path, monkeypatch):
    ended = command("verify", name, "--out", str(tmp_path / name))
    assert ended.code == 0, ended.err
    assert {file.name for file in (tmp_path / name).iterdir()} >= FILES
    result = json.loads((tmp_path / name / "result.json").read_text())
    assert result["verdict"] == "no verdict"
    assert "moke run: no verdict" in ended.out
    assert ended.out.index("moke run: no verdict") < ended.out.index("quantity")
    assert result["points"] == result["points_planned"] > 0
    assert [finding["quantity"] for finding in result["findings"]] == [
        prediction.quantity for prediction in experiments.load(name).STATEMENT.predictions
    ]
    monkeypatch.setattr("regimes.lab.figures.save", lambda figure, folder: None)  # it was written once
    assert command("judge", str(tmp_path / name)).code == 0
    assert json.loads((tmp_path / name / "result.json").read_text())["findings"] == result["findings"]


def test_what_a_statement_says_of_itself_can_be_read_without_importing_it():
    for name, card in experiments.cards().items():
        statement = experiments.load(name).STATEMENT
        assert (card.title, card.claim) == (statement.title, statement.claim)
        assert 20 <= len(card.title) <= 64


@each
def test_each_setting_says_what_it_means(name):
    silent = [key for key, field in experiments.load(name).Config.model_fields.items() if not field.description]
    assert silent == []
