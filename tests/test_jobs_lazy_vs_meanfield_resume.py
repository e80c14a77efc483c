"""A main job that was stopped goes on to the same bits, and one that cannot be is refused before it starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import Killed

from regimes import machine
from regimes.data.origins import files_digest
from regimes.errors import Interrupted, RunFailed, UserError
from regimes.jobs import lazy_vs_meanfield as job
from regimes.jobs.lazy_vs_meanfield import memory, nets, shelf, start
from regimes.lab.array_files import read_arrays
from regimes.lab.config import load
from regimes.lab.runs import RunFolder, read_run
from regimes.lab.stamps import digest

ROOT = Path(__file__).parent.parent
SMALL = ["dataset=circle", "width=10", "seeds=3", "train_size=6", "test_size=10", "horizon=10", "times=10"]


def settings(*more: str) -> job.Config:
    return load(job.Config, None, [*SMALL, "loss_ratio=0.01", "tolerance=1e-3", *more])


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    monkeypatch.setattr(job, "conclude", lambda config, folder: None)


def stopping_at(call: int, error: type[BaseException], monkeypatch):
    """The job is stopped in that call to the measurement of a moment."""
    calls = 0
    original = nets.laziness.tangent_distance

    def counted(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return original(*arguments)

    monkeypatch.setattr(nets.laziness, "tangent_distance", counted)


def measured(path: Path) -> dict[str, np.ndarray]:
    return read_arrays(path / job.ARRAYS)


@pytest.fixture(scope="module")
def undisturbed():
    return sys.modules[f"{job.__name__}.measure"].measure(settings())._asdict()


@pytest.mark.parametrize(
    "call", [1, 14]
)  # one call a moment: at the first moment of the one net, at the fourth of the other
@pytest.mark.parametrize(("error", "raised"), [(KeyboardInterrupt, Interrupted), (Killed, Killed)])
def test_a_stopped_run_goes_on_to_the_same_bits(call, error, raised, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "SECONDS", 0.0)
    monkeypatch.setattr(shelf, "PATIENCE", 0.0)
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        stopping_at(call, error, patch)
        with pytest.raises(raised):
            start(settings(), path)
    monkeypatch.setattr(sys.modules[f"{job.__name__}.measure"], "solve_kernels", None)  # they are kept
    start(settings(), path)
    found = measured(path)
    assert found.keys() == undisturbed.keys()
    for name, values in undisturbed.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert not list(path.glob("*.part.npz"))


def test_ctrl_c_keeps_what_was_not_due_yet(tmp_path, monkeypatch, capsys):
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        stopping_at(5, KeyboardInterrupt, patch)
        with pytest.raises(Interrupted, match=r"kept in .*run; run the same command again"):
            start(settings(), path)
    assert int(read_arrays(path / "scaled-net.part.npz")["moments"]) == 4
    moments = []
    with monkeypatch.context() as patch:
        original = nets._moments

        def noted(config, given, times, kernels, alpha, net):
            moments.append(net.moments)
            return original(config, given, times, kernels, alpha, net)

        patch.setattr(nets, "_moments", noted)
        start(settings(), path)
    assert moments == [4, 0]


def test_a_damaged_piece_is_named(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        stopping_at(5, KeyboardInterrupt, patch)
        with pytest.raises(Interrupted):
            start(settings(), path)
    (path / "scaled-net.part.npz").write_bytes(b"no arrays")
    with pytest.raises(UserError, match=r"scaled-net\.part\.npz is damaged; delete it and run the same command again"):
        start(settings(), path)


@pytest.mark.slow  # two launches of the program
def test_a_run_killed_by_the_system_goes_on_to_the_same_bits(tmp_path):
    command = [sys.executable, "cli.py", "lazy-vs-meanfield", "--alpha", "100", "--dataset", "circle", "--seeds", "2"]
    eager = "import regimes.jobs.lazy_vs_meanfield.shelf as shelf; shelf.SECONDS = shelf.PATIENCE = 0"
    fast = f"{eager}\nfrom regimes.cli import main\nmain()"
    path, other = tmp_path / "run", tmp_path / "other"
    process = subprocess.Popen([sys.executable, "-c", fast, *command[2:], "--out", str(path)], cwd=ROOT)
    while not (path / "scaled-net.part.npz").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (path / job.ARRAYS).exists()
    for folder in (path, other):
        subprocess.run([*command, "--out", str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for name, values in measured(other).items():
        np.testing.assert_array_equal(measured(path)[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("width", "100000000000"), ("train_size", "1000000000"), ("test_size", "1000000000000"), ("seeds", "1000000000")],
)
def test_what_does_not_fit_into_memory_is_refused_before_anything_is_done(setting, value, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2.0**34)
    with pytest.raises(UserError, match=rf"GiB of memory, and 16.0 GiB are free: take a smaller {setting}, which is"):
        start(settings(f"{setting}={value}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_usual_sizes_fit_into_a_small_machine():
    for dataset in memory.INPUTS:
        assert memory.estimate(load(job.Config, None, [f"dataset={dataset}"])) < 2**31


def test_free_memory_is_that_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    assert machine.free_memory("cpu") is None
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:   3 kB\nHugePages_Total: 0\n")
    assert machine.free_memory("cpu") == 3072


def test_a_tangent_model_that_is_zero_is_a_mistake_of_the_settings_and_named(tmp_path):
    few = ["dataset=circle", "width=2", "train_size=2", "test_size=4", "seeds=12", "horizon=3", "times=10"]
    with pytest.raises(UserError, match=r"3 of 12 seeds, 4 the first, is zero .* larger width \(now 2\)"):
        start(load(job.Config, None, [*few, "tolerance=1e-3"]), tmp_path / "run")


def test_the_error_of_outputs_that_have_died_out_is_zero_or_infinite():
    outputs = torch.tensor([[[0.0], [0.0]], [[0.0], [0.0]], [[1.0], [0.0]]])
    difference = torch.tensor([[[0.0], [0.0]], [[0.0], [2.0]], [[0.5], [0.0]]])
    assert nets._relative(difference, outputs).tolist() == [0.0, float("inf"), 0.5]


def test_a_training_that_fails_names_settings_of_this_command(tmp_path, monkeypatch):
    def failing(*arguments, **options):
        raise RunFailed("integrate: run 0 at time 1 has used all 100 steps; loosen rtol or raise max_steps.")
        yield

    monkeypatch.setattr(nets, "displacement_flow", failing)
    with pytest.raises(
        RunFailed, match=r"α = 100 cannot be trained beyond t = 0: .* shorter horizon \(now 10\)"
    ) as caught:
        start(settings("alpha=100"), tmp_path / "run")
    assert "max_steps" not in str(caught.value)


def test_remaining_work_counts_steps_and_not_moments(tmp_path, monkeypatch):
    seen = []

    class Noting(nets.Progress):
        def update(self, done, figures, total=None):
            seen.append((done, total))

    monkeypatch.setattr(nets, "Progress", Noting)
    start(settings("alpha=1"), tmp_path / "run")
    done = [steps for steps, _ in seen]
    assert done == sorted(done)
    assert all(d <= t for d, t in seen)
    assert done[-1] != len(done)
    with RunFolder.existing(tmp_path / "run") as folder:
        assert folder.name == job.NAME


@pytest.mark.parametrize("dataset", ["digits", "circle"])
def test_a_launch_carries_the_digest_of_the_data_that_it_read_whoever_starts_it(tmp_path, monkeypatch, dataset):
    monkeypatch.setattr(job, "run", lambda config, folder: folder.begin())
    start(settings(f"dataset={dataset}"), tmp_path / "run")
    (launch,) = read_run(tmp_path / "run")["launches"]
    read = files_digest(dataset)
    assert launch["stamp"].get("data") == (None if read is None else digest({dataset: read}))
    assert (read is None) == (dataset == "circle")
