"""A run killed at any of its writes ends as the undisturbed one, bit for bit, at its length and at others."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from killing import Killed
from short_training import STEPS, train
from test_training_resume import assert_same, stop_after

from regimes.errors import Interrupted, UserError
from regimes.lab.yaml_text import read_yaml
from regimes.training import results
from regimes.training import run as runs
from regimes.training.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow

CUT = {"epochs": 3, "max_steps": STEPS + 2}  # ended within the second epoch
EXTRA = {"epochs": 3, "evaluate_every": 2}  # the third epoch is measured as the last one


@pytest.fixture(autouse=True, scope="module")
def best_at_the_end_of_the_short_run_else_in_the_first_epoch():
    """Made-up accuracies: the epoch that a longer run takes back is the best, and without it the first one is."""
    measure = runs.TrainingRun.measure

    def made_up(self, batches):
        last = CUT["max_steps"] if self.config.evaluate_every == 1 else 3 * STEPS
        accuracy = 0.9 if self.done == last else 1 / (2 + self.done)
        return measure(self, batches)._replace(accuracy=accuracy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        patch.setattr(runs.TrainingRun, "measure", made_up)
        yield


def killed(monkeypatch, write: int, path, **settings) -> bool:
    """Run, and die before the given replacement of a checkpoint; whether it came to that many."""
    replace, count = os.replace, [0]

    def dying(source, target):
        count[0] += str(target).endswith(".pt")
        if count[0] == write:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        try:
            train(path, **settings)
        except Killed:
            return True
    return False


def assert_equal_runs(path, other) -> None:
    assert_same(path, other)
    assert read_yaml(path / "config.yaml") == read_yaml(other / "config.yaml")
    held, expected = (json.loads((folder / "result.json").read_text()) for folder in (path, other))
    for name in ("best", "last", "config"):
        assert held[name] == expected[name]


class Lengths(NamedTuple):
    """The settings of a short run and of a longer one, and both undisturbed."""

    short: dict[str, Any]
    longer: dict[str, Any]
    path_short: Path
    path_longer: Path


@pytest.fixture(scope="module", params=[CUT, EXTRA], ids=["cut", "extra"])
def lengths(request, tmp_path_factory):
    short = request.param
    longer = short | {"epochs": short["epochs"] + 1, "max_steps": None}
    path = tmp_path_factory.mktemp("undisturbed")
    train(path / "short", **short)
    train(path / "longer", **longer)
    best = [load_checkpoint(path / name / "best.pt").best["epoch"] for name in ("short", "longer")]
    assert best == ([3, 2] if short is EXTRA else [2, 1])
    return Lengths(short, longer, path / "short", path / "longer")


@pytest.mark.parametrize("again", [True, False], ids=["rerun", "made longer at once"])
def test_a_kill_at_any_write_of_the_short_run(tmp_path, monkeypatch, lengths, again):
    write = 3  # of the second measurement
    while killed(monkeypatch, write, path := tmp_path / f"parts{write}", **lengths.short):
        if again:
            train(path, **lengths.short)
            assert_equal_runs(path, lengths.path_short)
        train(path, **lengths.longer)
        assert_equal_runs(path, lengths.path_longer)
        write += 1
    assert write > 5


@pytest.mark.parametrize("back", [True, False], ids=["back to the short one", "rerun"])
def test_a_kill_at_any_write_of_the_longer_run(tmp_path, monkeypatch, lengths, back):
    write, returned = 1, 0
    while True:
        shutil.copytree(lengths.path_short, path := tmp_path / f"parts{write}")
        if not killed(monkeypatch, write, path, **lengths.longer):
            break
        write += 1
        if back:
            try:
                train(path, **lengths.short)
            except UserError:  # more has been trained than that
                assert load_checkpoint(path / "last.pt").state["epoch"] > 1 + (lengths.short is EXTRA)
                continue  # as if it were not asked for
            returned += 1
            assert_equal_runs(path, lengths.path_short)
        train(path, **lengths.longer)
        assert_equal_runs(path, lengths.path_longer)
    assert write > 5
    assert returned > 1 or not back


def test_a_kill_before_a_new_best_epoch_is_noted_leaves_the_old_one_to_a_shorter_run(tmp_path, monkeypatch):
    whole = {"epochs": 3}
    train(tmp_path / "shorter", epochs=2)
    write = 1
    while killed(monkeypatch, write, path := tmp_path / f"parts{write}", **whole):
        write += 1
        last = path / "last.pt"
        if not last.exists() or load_checkpoint(last).state["epoch"] <= 2:
            train(path, epochs=2)
            assert_equal_runs(path, tmp_path / "shorter")
    assert write > 5


@pytest.mark.parametrize("steps", [2, STEPS + 2, 3 * STEPS])
def test_a_run_stopped_between_two_measurements_may_end_there(tmp_path, monkeypatch, steps):
    common = {"evaluate_every": 2, "epochs": 6}
    train(tmp_path / "whole", **common, max_steps=steps)
    stop_after(monkeypatch, steps)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", **common)
    train(tmp_path / "parts", **common, max_steps=steps)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_best_weights_that_were_taken_away_are_missed_only_where_they_are_needed(tmp_path, monkeypatch):
    path = tmp_path / "run"
    stop_after(monkeypatch, STEPS + 1)
    with pytest.raises(Interrupted):
        train(path)
    (path / "best.pt").unlink()
    train(path, max_steps=CUT["max_steps"])  # ends with the best epoch
    (path / "best.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.pt does not exist; put the run's own file back"):
        train(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04 cut off"])
def test_a_run_that_goes_on_says_what_to_do_with_its_own_damaged_file(tmp_path, content, monkeypatch):
    path = tmp_path / "run"
    stop_after(monkeypatch, STEPS + 1)
    with pytest.raises(Interrupted):
        train(path)
    (path / "last.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt is .*put the run's own file back, or pass --fresh to train anew"):
        train(path)


def test_best_weights_of_another_epoch_are_not_taken_for_those_of_the_best(tmp_path, monkeypatch):
    path = tmp_path / "run"
    stop_after(monkeypatch, 2 * STEPS + 1)
    with pytest.raises(Interrupted):
        train(path)
    last, held = load_checkpoint(path / "last.pt"), load_checkpoint(path / "best.pt")
    assert last.best["epoch"] == 1
    save_checkpoint(path / "best.pt", held._replace(best=held.best | {"epoch": 2}, rows=last.rows))
    with pytest.raises(UserError, match=r"best\.pt is of epoch 2, and the best epoch of this run is 1; restore it"):
        train(path, max_steps=2 * STEPS + 3)


def test_best_weights_that_are_damaged_are_taken_from_the_second_file_where_it_has_them(tmp_path, monkeypatch):
    for name in ("run", "undisturbed"):
        with monkeypatch.context() as patch:
            stop_after(patch, 2 * STEPS + 1)
            with pytest.raises(Interrupted):
                train(tmp_path / name)
    best = tmp_path / "run" / "best.pt"
    shutil.copy(best, best.with_name("before.pt"))
    best.write_bytes(best.read_bytes()[:100])
    for name in ("run", "undisturbed"):
        train(tmp_path / name)
    assert_equal_runs(tmp_path / "run", tmp_path / "undisturbed")
