"""`train` on the command line: flags, recipes, what it prints, and its exit codes."""

import json

import pytest
from command import command
from short_training import short

from regimes.lab.config import dump
from regimes.lab.yaml_text import read_yaml, to_yaml
from regimes.training import results


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """The working folder is empty but for the settings of a short run; nothing is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    (tmp_path / "short.yaml").write_text(to_yaml(dump(short())))


SHORT = ("train", "--config", "short.yaml", "--out", "run")


def test_flags_win_over_settings_and_those_over_the_file(tmp_path):
    flags = ("--train-size", "48", "--epochs", "1", "--batch", "12", "--seed", "3", "--lap", "--arch", "dense")
    assert command(*SHORT, "--set", "lr=0.02", "--set", "batch=20", *flags).code == 0
    config = read_yaml(tmp_path / "run" / "config.yaml")
    expected = {"train_size": 48, "epochs": 1, "batch": 12, "seed": 3, "lap": True, "lr": 0.02, "validation": 30}
    assert expected.items() <= config.items()


def test_the_data_set_alone_brings_a_whole_recipe(tmp_path):
    ended = command("train", "--dataset", "circles", "--max-steps", "3")
    assert ended.code == 0, ended
    (folder,) = (tmp_path / "runs").iterdir()
    config = read_yaml(folder / "config.yaml")
    assert {"arch": "dense", "optimiser": "adam", "lr": 0.01, "batch": 10, "epochs": 100}.items() <= config.items()
    assert ended.out.rstrip().endswith(f"Results: runs/{folder.name}")


def test_the_table_on_screen_is_that_of_the_results(tmp_path):
    ended = command(*SHORT)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for which in ("best", "last"):
        assert f"{which}, epoch {result[which]['epoch']}" in ended.out
        assert f"{result[which]['test_accuracy']:.4g}" in ended.out
    assert "The best epoch is chosen by accuracy on 30 validation samples" in ended.out
    assert ended.err == ""


def test_the_same_command_again_shows_the_finished_run():
    first, second = command(*SHORT), command(*SHORT, "--resume")
    assert (first.code, second.code) == (0, 0)
    assert first.out.partition("weights")[2] == second.out.partition("weights")[2]
    assert "finished" in second.out


@pytest.mark.slow
def test_seeds_end_in_one_table_with_intervals(tmp_path):
    ended = command(*SHORT, "--seeds", "2", "--epochs", "1")
    assert ended.code == 0, ended
    assert {"seed0", "seed1", "result.json", "table.md"} <= {file.name for file in (tmp_path / "run").iterdir()}
    mean = json.loads((tmp_path / "run" / "result.json").read_text())["last"]["test_accuracy"]["mean"]
    assert f"{mean:.4g} [" in ended.out


@pytest.mark.slow
def test_least_action_lowers_the_transport_cost(tmp_path):
    """What the objective is for: where both nets tell the circles apart, least action moves the samples less."""
    found = {}
    for name, more in (("plain", ()), ("lap", ("--lap", "--set", "multiplier=0.1", "--set", "growth=0.1"))):
        ended = command("train", "--dataset", "circles", "--epochs", "12", "--out", name, *more)
        assert ended.code == 0, ended
        found[name] = json.loads((tmp_path / name / "result.json").read_text())["last"]
    assert min(entry["test_accuracy"] for entry in found.values()) > 0.95
    assert found["lap"]["transport"] < found["plain"]["transport"] / 2


def test_divergence_is_one_line_and_exit_code_1():
    ended = command(*SHORT, "--set", "lr=1e12", "--set", "epochs=30")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "none: diverged" in ended.out  # its table all the same
    for part in ("diverged at epoch", "last finite loss", "--set lr=0.05 --fresh"):
        assert part in ended.err


def test_help_names_every_flag_with_its_meaning():
    text = command("train", "--help").out
    for flag in ("--dataset", "--arch", "--lap", "--train-size", "--epochs", "--seeds", "--seed", "--batch"):
        assert flag in text
    for flag in ("--max-steps", "--device", "--data-dir", "--config", "--set", "--resume", "--fresh", "--out"):
        assert flag in text


@pytest.mark.slow
def test_the_digits_are_learned_by_their_recipe(tmp_path):
    ended = command("train", "--dataset", "digits", "--out", "run")
    assert ended.code == 0, ended
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"]["test_accuracy"] > 0.97
