"""A run that is asked for more epochs goes on to what an undisturbed one is, bit for bit, or says why it cannot."""

import json

import pytest
from short_training import STEPS, short, train
from test_training_resume import assert_same, stop_after

from regimes import training
from regimes.errors import Interrupted
from regimes.lab.config import dump
from regimes.lab.yaml_text import read_yaml
from regimes.training import results
from regimes.training.checkpoint import load_checkpoint, save_checkpoint
from regimes.training.run import train_one

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def figures(path):
    """What result.json says of the run, without clock and provenance."""
    result = json.loads((path / "result.json").read_text())
    return {name: result[name] for name in ("samples", "protocol", "best", "last", "config")}


def assert_equal_runs(path, other) -> None:
    assert_same(path, other)
    for file in ("last.pt", "best.pt"):
        assert load_checkpoint(path / file).config == load_checkpoint(other / file).config
    assert read_yaml(path / "config.yaml") == read_yaml(other / "config.yaml")
    assert figures(path) == figures(other)


@pytest.mark.parametrize("settings", [{"schedule": "constant"}, {"milestones": [1, 3]}, {"augment": False, "lr": 1e-9}])
def test_two_epochs_and_two_more_are_four(tmp_path, settings):
    """With the learning rate of 1e-9 the best epoch is among the first two."""
    train(tmp_path / "whole", **settings)
    train(tmp_path / "parts", epochs=2, **settings)
    train(tmp_path / "parts", epochs=4, **settings)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")
    assert len(json.loads((tmp_path / "parts" / "run.json").read_text())["launches"]) == 2


def test_the_best_epoch_may_be_of_the_shorter_run(tmp_path):
    train(tmp_path / "run", epochs=2, lr=1e-9)
    assert load_checkpoint(tmp_path / "run" / "best.pt").best["epoch"] == 1


def test_max_steps_may_grow_from_a_whole_epoch_even_of_a_cosine(tmp_path):
    settings = {"schedule": "cosine", "validation": 30, "test_size": 40}
    train(tmp_path / "whole", **settings)
    train(tmp_path / "parts", max_steps=2 * STEPS, **settings)
    train(tmp_path / "parts", **settings)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        ([2, 3, None], {"validation": None, "test_size": None}),  # within the first epoch, and not all is measured
        ([STEPS + 1, 2 * STEPS + 3, None], {"lr": 1e-9}),  # the best epoch is the first whole one
        ([3 * STEPS + 1, 3 * STEPS + 2], {"schedule": "cosine"}),  # the best epoch is one that was cut
    ],
)
def test_max_steps_may_grow_within_an_epoch(tmp_path, steps, settings):
    train(tmp_path / "whole", **settings, max_steps=steps[-1])
    for most in steps:
        train(tmp_path / "parts", max_steps=most, **settings)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_a_cut_epoch_of_an_older_version_is_told(tmp_path):
    path = tmp_path / "run"
    train(path, max_steps=5)
    last = load_checkpoint(path / "last.pt")
    save_checkpoint(path / "last.pt", last._replace(sums={}))
    with pytest.raises(ValueError, match="ended by max_steps within epoch 2 by an older version"):
        train(path, max_steps=6)


@pytest.mark.parametrize("asked", [2, 9])
def test_a_run_that_was_stopped_may_be_made_longer_or_shorter(tmp_path, monkeypatch, asked):
    train(tmp_path / "whole", epochs=3)
    with monkeypatch.context() as patch:
        stop_after(patch, STEPS + 1)
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", epochs=asked)
    train(tmp_path / "parts", epochs=3)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_a_longer_run_that_is_killed_before_its_end_does_not_show_the_old_result(tmp_path, monkeypatch):
    path = tmp_path / "run"
    train(path, epochs=2)
    monkeypatch.setattr(results, "_page", lambda config, setup, result: 1 / 0)  # all epochs are done, the result is not
    with pytest.raises(ZeroDivisionError):
        train(path, epochs=4)
    monkeypatch.undo()
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    assert train(path, epochs=4).result["last"]["epoch"] == 4


def test_all_seeds_become_longer(tmp_path):
    training.train(short(seeds=2), tmp_path / "whole")
    training.train(short(seeds=2, epochs=2), tmp_path / "parts")
    outcome = training.train(short(seeds=2, epochs=4), tmp_path / "parts", resume=True)
    for seed in ("seed0", "seed1"):
        assert_equal_runs(tmp_path / "parts" / seed, tmp_path / "whole" / seed)
    held, expected = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("parts", "whole"))
    assert {name: held[name] for name in ("best", "last", "config")} == {
        name: expected[name] for name in ("best", "last", "config")
    }
    assert outcome.result["launches"] == 2
    with pytest.raises(ValueError, match="more than --epochs 3"):
        training.train(short(seeds=2, epochs=3), tmp_path / "parts")
    assert read_yaml(tmp_path / "parts" / "config.yaml")["epochs"] == 4


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        ({"schedule": "cosine"}, {"schedule": "cosine", "epochs": 3}, "comes from a cosine over 2 epochs.*--out"),
        ({}, {"epochs": 1}, r"has seen 8 steps, 2 whole epochs: more than --epochs 1; pass --out"),
        ({}, {"max_steps": 7}, r"more than --epochs 2 --max-steps 7; pass --out"),
        ({}, {"epochs": 4, "lr": 0.1}, r"another configuration: lr is 0\.05 there, 0\.1 here"),
    ],
)
def test_what_would_not_be_the_undisturbed_run_is_refused_and_left_alone(tmp_path, first, then, words):
    path, common = tmp_path / "run", {"epochs": 2, "validation": 30, "test_size": 40}
    train(path, **common | first)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(ValueError, match=words) as caught:
        train(path, **common | then)
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    train_one(short(**common | then), path, fresh=True)
    assert dump(short(**common | then)) == read_yaml(path / "config.yaml")
