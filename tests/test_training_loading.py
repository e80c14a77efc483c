"""`regimes.load`: a run as it lies in its folder gives its network, its samples and its numbers."""

import shutil

import pytest
import torch
from short_training import short, train
from torch.nn.functional import cross_entropy

import regimes
from regimes import training
from regimes.errors import UserError
from regimes.training import results


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        return path, train(path)


@pytest.mark.parametrize("weights", ["best", "last"])
def test_the_accuracy_that_comes_naturally_is_that_of_the_run(run, weights):
    path, outcome = run
    loaded = regimes.load(path, weights=weights)
    for part in ("train", "validation", "test"):
        x, labels = getattr(loaded.data, part)
        with torch.no_grad():
            output = loaded.model(x)
        entry = outcome.result[weights]
        assert entry[f"{part}_accuracy"] == pytest.approx(float((output.argmax(1) == labels).double().mean()))
        assert entry[f"{part}_risk"] == pytest.approx(float(cross_entropy(output, labels)), rel=1e-5)


def test_its_numbers_are_those_of_its_files(run):
    path, outcome = run
    loaded = regimes.load(path)
    assert [row["epoch"] for row in loaded.metrics] == [1, 2, 3, 4]
    assert loaded.metrics[-1]["validation_accuracy"] == outcome.result["last"]["validation_accuracy"]
    assert loaded.result["last"]["test_risk"] == pytest.approx(outcome.result["last"]["test_risk"])
    assert loaded.config["arch"] == "dense"
    assert not loaded.model.training


@pytest.mark.parametrize("file", ["last.pt", "config.yaml"])
def test_an_incomplete_folder_is_told(tmp_path, run, file):
    shutil.copytree(run[0], tmp_path / "copy")
    (tmp_path / "copy" / file).unlink()
    with pytest.raises(ValueError, match=r"is not the folder of a run .* with a last\.pt in it"):
        regimes.load(tmp_path / "copy", weights="last")


def test_a_checkpoint_of_another_run_is_refused(tmp_path, run, monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    train(tmp_path / "other", epochs=1, seed=3)
    shutil.copy(run[0] / "best.pt", tmp_path / "other" / "best.pt")
    with pytest.raises(ValueError, match=r"best\.pt is of another run: seed is 0 in it, 3 here"):
        regimes.load(tmp_path / "other")


@pytest.mark.slow
def test_of_several_seeds_one_is_to_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    training.train(short(seeds=2, epochs=1), tmp_path / "runs")
    with pytest.raises(ValueError, match=r"holds the runs of several seeds: load one of them, for example .*seed0"):
        regimes.load(tmp_path / "runs")
    assert regimes.load(tmp_path / "runs" / "seed1").config["seed"] == 1


def test_a_run_of_train_has_its_own_network(run):
    with pytest.raises(ValueError, match="holds its own network: leave model out"):
        regimes.load(run[0], model=torch.nn.Linear(1, 1))


def copied(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "copy")
    return tmp_path / "copy"


CUT = {
    "a row short": (lambda lines: lines[:-1], r"it has 3 rows, last\.pt 4"),
    "a row cut in half": (
        lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2].rpartition(",")[0]],
        r"line 5 has \d+ of \d+ fields, from '\w+' on",
    ),
    "a row too many": (lambda lines: [*lines, lines[-1].replace("4", "5", 1)], "it has 5 rows"),
    "a row twice": (lambda lines: [*lines[:2], *lines[1:]], "line 3: field 'epoch' is 1"),
    "a number edited": (
        lambda lines: [*lines[:3], ",".join([*lines[3].split(",")[:2], "0.5", *lines[3].split(",")[3:]]), lines[4]],
        r"line 4: field 'running_loss' is 0\.5, and .* in last\.pt",
    ),
    "a number for a word": (
        lambda lines: [*lines[:3], "3,x" + lines[3][3:], *lines[4:]],
        "line 4: field 'steps' is a text",
    ),
    "words for all numbers": (
        lambda lines: [lines[0], *(",".join(["x", *line.split(",")[1:]]) for line in lines[1:])],
        "line 2: field 'epoch' is 'x', not a number",
    ),
    "a truth value": (
        lambda lines: [*lines[:3], ",".join(["3", "True", *lines[3].split(",")[2:]]), *lines[4:]],
        "line 4: field 'steps' is 'True', not a number",
    ),
    "a column lost": (lambda lines: [line.rpartition(",")[0] for line in lines], "line 2: field '.*' is nothing, and"),
    "no row": (lambda lines: [], "it has 0 rows"),
}


@pytest.mark.parametrize("name", CUT)
def test_a_short_torn_or_edited_table_of_numbers_is_told_by_line_and_field(run, tmp_path, name):
    cut, text = CUT[name]
    path = copied(run, tmp_path)
    lines = (path / "metrics.csv").read_text().splitlines()
    (path / "metrics.csv").write_text("".join(f"{line}\n" for line in cut(lines)))
    with pytest.raises(UserError, match=f"metrics.csv is damaged: {text}") as caught:
        regimes.load(path)
    assert "\n" not in str(caught.value)


def test_a_run_that_was_killed_before_its_last_row_is_loaded_whole(run, tmp_path):
    path = copied(run, tmp_path)
    (path / "result.json").unlink()
    lines = (path / "metrics.csv").read_text().splitlines(keepends=True)
    (path / "metrics.csv").write_text("".join(lines[:-1]))
    assert [row["epoch"] for row in regimes.load(path).metrics] == [1, 2, 3, 4]


def test_a_lost_table_of_numbers_is_told(run, tmp_path):
    path = copied(run, tmp_path)
    (path / "metrics.csv").unlink()
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: it does not exist"):
        regimes.load(path)
