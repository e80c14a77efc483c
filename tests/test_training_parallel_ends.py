"""Runs of several processes that are killed, stopped or wrong, and go on with any number of processes."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from launch import Ended, free_port, launch
from short_training import STEPS, short
from torch.testing import assert_close

from regimes import processes, training
from regimes.errors import Interrupted, UserError
from regimes.lab import endings, provenance
from regimes.lab.config import dump
from regimes.lab.yaml_text import to_yaml
from regimes.launch import forget_leftovers
from regimes.training import checkpoint, loop, results
from regimes.training import run as runs
from regimes.training.checkpoint import load_checkpoint

PROGRAM = str(Path(__file__).parent / "joined_run.py")


def command(folder: Path, count: int, *more: str, fault: str = "") -> list[Ended]:
    """`train` with the settings in the folder by `count` processes."""
    words = ("train", "--config", str(folder / "short.yaml"), *more)
    words = words if "--out" in more else (*words, "--out", str(folder / "run"))
    return launch(count, PROGRAM, *words, **({"FAULT": fault} if fault else {}))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "short.yaml").write_text(to_yaml(dump(short(checkpoint_seconds=0.0))))
    return tmp_path


def position(folder: Path) -> tuple[int, int]:
    """Epoch and step that the run would go on from."""
    state = load_checkpoint(folder / "run" / "last.pt").state
    return state["epoch"], state["step"]


def assert_same(path: Path, other: Path) -> None:
    """Weights, λ, optimiser, random state, rows and test figures, to the rounding of float64."""
    found, exact = (load_checkpoint(run / "last.pt") for run in (path, other))
    for part in ("model", "objective"):
        assert_close(found.state[part], exact.state[part], rtol=1e-9, atol=1e-9)
    assert_close(found.state["optimizer"]["state"], exact.state["optimizer"]["state"], rtol=1e-9, atol=1e-9)
    assert found.rng["cpu"].equal(exact.rng["cpu"])
    for one, expected in zip(found.rows, exact.rows, strict=True):
        assert one.keys() == expected.keys()
        for name in one.keys() - {"seconds", "images_per_second", "peak_memory_mib"}:
            assert one[name] == pytest.approx(expected[name], rel=1e-9)
    one, expected = (json.loads((run / "result.json").read_text()) for run in (path, other))
    for which in ("best", "last"):
        assert one[which]["test_risk"] == pytest.approx(expected[which]["test_risk"], rel=1e-9)
        assert one[which]["blocks"] == pytest.approx(expected[which]["blocks"], rel=1e-9)


@pytest.mark.slow
def test_a_run_survives_kill_9_and_goes_on_with_other_numbers_of_processes(folder):
    first, second = command(folder, 2, fault="1:6:SIGKILL")
    assert (first.code, second.code) == (1, -9)
    assert first.err.startswith("error: another process of this run has ended; run the same command again to go on")
    assert len(first.err.splitlines()) == 1
    assert second.out + second.err == ""
    assert position(folder) == divmod(6, STEPS)

    stopped = command(folder, 3, "--resume", fault="2:4:SIGTERM")
    assert [process.code for process in stopped] == [130] * 3
    # The word of one process goes along with its next step: 6 + 4 + 1.
    assert stopped[0].err.startswith("interrupted after 11 of 16 steps; run the same command again")
    assert "".join(process.err for process in stopped[1:]) == ""
    assert position(folder) == divmod(11, STEPS)

    first, second = command(folder, 2, "--resume", "--set", "lr=0.04")
    assert first.code == 2
    assert len(first.err.splitlines()) == 1
    assert "holds another configuration: lr is 0.05 there, 0.04 here" in first.err
    assert second.out + second.err == ""

    (last,) = command(folder, 1, "--resume")
    (undisturbed,) = command(folder, 1, "--out", str(folder / "undisturbed"))
    assert undisturbed.code == 0
    assert last.code == 0, last
    assert_same(folder / "run", folder / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "code", "line"),
    [
        (("--set", "lr=1e12", "--epochs", "30"), 1, "diverged at epoch"),
        (("--dataset", "digit"), 2, "dataset"),
        (("--batch", "2"), 2, "3 processes need a sample each of every batch"),
    ],
)
def test_what_goes_wrong_is_said_once(folder, settings, code, line):
    first, *others = command(folder, 3, *settings)
    assert (first.code, len(first.err.splitlines())) == (code, 1), first
    assert line in first.err
    assert "".join(process.out + process.err for process in others) == ""


def test_one_of_several_processes_waits_before_it_speaks_for_itself(monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(endings.time, "sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    assert endings.ending(UserError("the memory is full"), "regimes") == 2
    assert waited == [endings.PATIENCE]
    assert capsys.readouterr().err == "process 1: error: the memory is full\n"
    monkeypatch.setenv("RANK", "0")
    assert endings.ending(UserError("the memory is full"), "regimes") == 2
    assert waited == [endings.PATIENCE]


@pytest.mark.parametrize(
    ("environment", "lost"),
    [
        ({}, "RANK from 0 to 1 and no MASTER_ADDR and no MASTER_PORT"),
        ({"RANK": "1"}, "MASTER_ADDR and no MASTER_PORT"),
        ({"RANK": "1", "MASTER_ADDR": "h"}, "MASTER_PORT"),
        ({"RANK": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "RANK from 0 to 1"),
        ({"RANK": "first", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "RANK from 0 to 1"),
    ],
)
def test_what_one_of_several_processes_lacks_is_named(monkeypatch, environment, lost):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"WORLD_SIZE": "2", **environment}.items():
        monkeypatch.setenv(name, value)
    forget_leftovers(["train"])
    with (
        pytest.raises(UserError, match=f"WORLD_SIZE=2 asks for 2 processes, but this one has no {lost}: start them"),
        processes.processes("cpu"),
    ):
        pass
    assert os.environ.get("RANK", "0") == "0"  # it speaks


def test_a_restart_by_torchrun_goes_on_with_what_was_to_be_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    config = short(epochs=1)
    training.train(config, tmp_path / "run", fresh=True)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    training.train(config, tmp_path / "run", fresh=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    training.train(config, tmp_path / "run", fresh=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run", "run.1"]


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({}, "python cli.py train"),
        ({"WORLD_SIZE": "1"}, "python cli.py train"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, "torchrun --nproc-per-node 4 cli.py train"),
        (
            {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"},
            "torchrun --nnodes 2 --nproc-per-node 4 cli.py train",
        ),
    ],
)
def test_a_run_says_with_how_many_processes_it_was_made(monkeypatch, environment, command):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert provenance.command_line(["/some/where/cli.py", "train"]) == command
    assert provenance.provenance().get("processes", 1) == int(environment.get("WORLD_SIZE", "1"))


@pytest.fixture
def meeting(monkeypatch):
    """The environment of process 0 of two, and the line with which it ends."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(processes, "MEETING", 1)

    def ends(**environment: str) -> str:
        usual = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        for name, value in (usual | environment).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError) as caught, processes.processes("cpu"):
            pass
        return str(caught.value)

    return ends


@pytest.mark.slow
def test_a_meeting_place_that_is_none_is_told_from_processes_that_do_not_come(meeting):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        assert meeting(MASTER_PORT=str(port)).startswith(f"MASTER_PORT={port} is taken by another program on this")
    for port in ("http", "-1", "0", "70000"):
        assert meeting(MASTER_PORT=port) == f"MASTER_PORT needs a number from 1 to 65535; got {port!r}"
    for rank in ("0", "1"):
        assert "MASTER_ADDR=nowhere.invalid is no machine" in meeting(RANK=rank, MASTER_ADDR="nowhere.invalid")
    assert "the others have not come to 127.0.0.1" in meeting()


@pytest.fixture
def one_of_many(monkeypatch):
    """This process alone in a group, where words are heard a step later, as with several."""
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_of_many")
def test_a_timed_checkpoint_is_written_once(tmp_path, monkeypatch):
    clock, saves, see, save = [0.0], [], loop.Guard.see, checkpoint.RunState.save

    def later(self, step):
        clock[0] += 1
        see(self, step)

    def saving(self, file, *others):
        saves.append(clock[0])
        save(self, file, *others)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop.Guard, "see", later)
    monkeypatch.setattr(checkpoint.RunState, "save", saving)
    training.train(short(epochs=1, batch=8, checkpoint_seconds=1.5), tmp_path / "run")
    assert saves == [0, 3, 6, 7, 7]  # at the start, a step after it was due, with the epoch, before the test samples


@pytest.mark.usefixtures("one_of_many")
@pytest.mark.parametrize("where", ["here", "in another process"])
def test_a_stop_is_heard_also_while_the_last_epoch_is_measured(tmp_path, monkeypatch, where):
    close, total = runs.TrainingRun.close_epoch, processes.ProcessGroup.total

    def closing(self):
        close(self)
        if where == "here":
            signal.raise_signal(signal.SIGINT)

    def joined(self, values):
        elsewhere = where != "here" and values.dtype == torch.bool
        return total(self, values) + elsewhere

    monkeypatch.setattr(runs.TrainingRun, "close_epoch", closing)
    monkeypatch.setattr(processes.ProcessGroup, "total", joined)
    with pytest.raises(Interrupted, match=f"after {STEPS} of {STEPS} steps"):
        training.train(short(epochs=1), tmp_path / "run")


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with processes.processes("cpu") as ranks:
        assert ranks is processes.SINGLE
    assert not torch.distributed.is_initialized()
