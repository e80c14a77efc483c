"""A figure that cannot be drawn costs nothing: the results are there, one line says why, the exit code is 0."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hand_made_checkpoint
import matplotlib
import pytest
import toy_experiment
from absent import without_matplotlib
from command import command
from launch import environment

from regimes import experiments
from regimes.lab import drawing, figures
from regimes.lab.drawing import attempt, draw_plainly

ROOT = Path(__file__).parents[1]
SMALL = ("width=8", "train_size=8", "test_size=20", "horizon=3", "times=10", "tolerance=1e-3", "seeds=2")
MAIN = ("lazy-vs-meanfield", "--dataset", "circle", *(part for one in SMALL for part in ("--set", one)))
RUNS = {
    "verify": ("verify", "toy"),
    "train": ("train", "--max-steps", "2", "--epochs", "1", "--batch", "8", "--set", "arch_options.filters=2"),
    "ot-gap": ("ot-gap", "a.pt", "--points", "20"),
    "lazy-vs-meanfield": MAIN,
}


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    load = experiments.load
    monkeypatch.setattr(experiments, "load", lambda name: toy_experiment if name == "toy" else load(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_figure_that_fails_is_one_line_and_the_results_stand(name, tmp_path, monkeypatch):
    def fails(*figure):
        assert (tmp_path / "run" / "result.json").exists()
        assert (tmp_path / "run" / "table.md").exists()
        raise RuntimeError("latex could\nnot be found")

    monkeypatch.setattr(figures, "save", fails)
    if name == "ot-gap":
        hand_made_checkpoint.write(tmp_path / "a.pt", "circles", "dense")
    ended = command(*RUNS[name], "--out", "run")
    assert ended.code == 0, ended.err
    assert "RuntimeError: latex could not be found" in ended.out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["name"] == name.replace("verify", "toy")


@pytest.mark.parametrize("name", ["verify", pytest.param("train", marks=pytest.mark.slow)])
def test_no_run_needs_matplotlib(name, tmp_path, monkeypatch):
    without_matplotlib(monkeypatch)
    ended = command(*RUNS[name], "--out", "run")
    assert ended.code == 0, ended.err
    assert "ModuleNotFoundError: import of matplotlib" in ended.out
    assert (tmp_path / "run" / "table.md").exists()
    assert not (tmp_path / "run" / "figure.png").exists()


def test_settings_of_the_user_do_not_reach_a_figure(tmp_path):
    asked = []
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40.0}):
        assert attempt(lambda: asked.append(matplotlib.rcParams["text.usetex"])) is None
        assert matplotlib.rcParams["text.usetex"]
        assert attempt(lambda: figures.save(toy_experiment.draw(rows()), tmp_path)) is None
    assert asked == [False]
    assert (tmp_path / "figure.png").exists()


def rows():
    import pandas

    return pandas.DataFrame({"x": [1.0, 2.0], "y": [1.0, 4.0]})


def test_the_reason_is_one_short_line_and_debugging_shows_more(monkeypatch, capsys):
    def fails():
        raise OSError("x\ny" * 200)

    assert len(str(attempt(fails)).splitlines()) == 1
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("REGIMES_DEBUG", "1")
    assert attempt(fails) is not None
    assert "Traceback" in capsys.readouterr().err


def test_a_program_draws_by_the_defaults_of_matplotlib(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("MATPLOTLIBRC", "/nowhere/matplotlibrc")
    draw_plainly()
    assert os.environ["MPLBACKEND"] == "Agg"
    assert Path(os.environ["MATPLOTLIBRC"]).read_text().startswith("#### MATPLOTLIBRC FORMAT")
    assert drawing.RC == "matplotlibrc"


SURROUNDINGS = {
    "a notebook": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    "a backend that there is not": {"MPLBACKEND": "nonsense"},
    "LaTeX asked for": {"MATPLOTLIBRC": b"text.usetex: True\nfont.family: serif\n"},
    "a damaged matplotlibrc": {"MATPLOTLIBRC": b"\xff\xfe\x00nonsense\n"},
    "no folder for fonts": {"MPLCONFIGDIR": "/proc/nowhere"},
}


FILES = [(name, True) for name, change in SURROUNDINGS.items() if isinstance(change.get("MATPLOTLIBRC"), bytes)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "here"), [*((name, False) for name in SURROUNDINGS), *FILES])
def test_no_surroundings_hurt_a_run(name, here, tmp_path):
    change = dict(SURROUNDINGS[name])
    if isinstance(content := change.get("MATPLOTLIBRC"), bytes):
        file = tmp_path / ("matplotlibrc" if here else "theirs")
        file.write_bytes(content)
        change = {} if here else {"MATPLOTLIBRC": str(file)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *MAIN, "--out", "run"],
        cwd=tmp_path,
        env=environment(**change),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "could not be drawn" in done.stdout) == (0, False), done.stderr
    assert "matplotlib" not in done.stderr
    assert (tmp_path / "run" / "figure.png").exists()
