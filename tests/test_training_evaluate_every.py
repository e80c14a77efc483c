"""Epochs between two measurements: fewer rows, the same training."""

import pytest
import torch
from short_training import short, train
from test_training_resume import assert_same, metrics, stop_after

import regimes
from regimes.errors import Interrupted
from regimes.training import checkpoint as checkpoints
from regimes.training import results
from regimes.training.checkpoint import load_checkpoint
from regimes.training.run import train_one

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def weights(path):
    return load_checkpoint(path / "last.pt").state["model"]


def test_the_last_epoch_is_measured_and_of_the_others_every_second(tmp_path):
    found = train(tmp_path / "two", epochs=5, evaluate_every=2).result
    every = train(tmp_path / "one", epochs=5).result
    assert [row["epoch"] for row in metrics(tmp_path / "two")] == ["2", "4", "5"]
    assert found["best"]["epoch"] in (2, 4, 5)
    assert found["last"]["epoch"] == every["last"]["epoch"] == 5
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
    whole = {row["epoch"]: row for row in metrics(tmp_path / "one")}
    for row in metrics(tmp_path / "two"):
        assert row["validation_risk"] == whole[row["epoch"]]["validation_risk"]
    mean = sum(float(whole[epoch]["running_loss"]) for epoch in ("3", "4")) / 2
    assert float(metrics(tmp_path / "two")[1]["running_loss"]) == pytest.approx(mean)


@pytest.mark.parametrize("steps", [3, 6, 11])
def test_a_run_stopped_between_two_measurements_ends_as_the_undisturbed_one(tmp_path, monkeypatch, steps):
    config = short(epochs=3, evaluate_every=2)
    train_one(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Interrupted):
            train_one(config, tmp_path / "stopped")
    train_one(config, tmp_path / "stopped")
    assert_same(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("first", [{"epochs": 4}, {"epochs": 3}, {"epochs": 6, "max_steps": 10}])
def test_a_longer_run_takes_back_a_row_that_it_would_not_have(tmp_path, first):
    train(tmp_path / "run", **first, evaluate_every=2)
    train(tmp_path / "run", epochs=6, evaluate_every=2)
    train(tmp_path / "other", epochs=6, evaluate_every=2)
    assert [row["epoch"] for row in metrics(tmp_path / "run")] == ["2", "4", "6"]
    assert_same(tmp_path / "run", tmp_path / "other")


def test_a_best_epoch_is_written_once_under_two_names(tmp_path, monkeypatch):
    written, real = [], checkpoints.save_checkpoint
    monkeypatch.setattr(
        checkpoints, "save_checkpoint", lambda path, *rest: written.append(path.name) or real(path, *rest)
    )
    outcome = train(tmp_path / "run", epochs=3)
    assert written.pop(0) == "initial.pt"
    assert len(written) <= 3 + 1  # one an epoch, and one that notes how often the test samples were measured
    assert written[outcome.result["best"]["epoch"] - 1] == "best.pt"
    best, last = (load_checkpoint(tmp_path / "run" / name) for name in ("best.pt", "last.pt"))
    assert (best.state["epoch"], last.state["epoch"]) == (outcome.result["best"]["epoch"], 3)


def test_a_fit_measured_every_second_epoch_ends_and_is_loaded(tmp_path):
    torch.manual_seed(0)
    x, labels = torch.randn(24, 3), torch.randint(0, 2, (24,))
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    fitted = regimes.fit(net, (x, labels), out=tmp_path / "run", epochs=5, batch=8, lr=0.01, evaluate_every=2)
    loaded = regimes.load(tmp_path / "run", model=net)
    assert [row["epoch"] for row in fitted.metrics] == [row["epoch"] for row in loaded.metrics] == [2, 4, 5]
