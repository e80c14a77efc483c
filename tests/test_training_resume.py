"""A run that is stopped and taken up again ends as the undisturbed one, bit for bit: Ctrl-C, full disks, kill -9."""

import csv
import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command import command
from launch import environment
from short_training import STEPS, short, train
from torch import nn
from torch.testing import assert_close

from regimes import training
from regimes.errors import Interrupted, UserError
from regimes.lab.config import dump
from regimes.lab.yaml_text import to_yaml
from regimes.training import assemble, loop, results
from regimes.training import checkpoint as checkpoints
from regimes.training import run as runs
from regimes.training.checkpoint import load_checkpoint
from regimes.training.run import train_one

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
CLOCK = ("seconds", "images_per_second", "peak_memory_mib")  # of the machine, not of the run


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def stop_after(monkeypatch, steps: int) -> None:
    """A Ctrl-C after so many steps of this process."""
    see, count = loop.Guard.see, [0]

    def counting(self, step):
        see(self, step)
        count[0] += 1
        if count[0] == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Guard, "see", counting)


def metrics(path: Path) -> list[dict[str, str]]:
    with (path / "metrics.csv").open() as file:
        return [{key: value for key, value in line.items() if key not in CLOCK} for line in csv.DictReader(file)]


def assert_same(path: Path, other: Path) -> None:
    """Weights, optimiser, schedule, λ, random state, rows and the best weights, bit for bit."""
    for file in ("last.pt", "best.pt"):
        held, expected = load_checkpoint(path / file), load_checkpoint(other / file)
        assert held.state.keys() == expected.state.keys()
        for part in ("model", "objective"):
            assert_close(held.state[part], expected.state[part], rtol=0, atol=0)
        assert_close(held.state["optimizer"]["state"], expected.state["optimizer"]["state"], rtol=0, atol=0)
        for part in ("scheduler", "epoch", "step"):
            assert held.state[part] == expected.state[part]
        assert_close(held.rng["cpu"], expected.rng["cpu"], rtol=0, atol=0)
        assert held.best == expected.best
    assert metrics(path) == metrics(other)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        return path, train(path)


@pytest.mark.parametrize("steps", [1, STEPS - 1, STEPS, 2 * STEPS, 2 * STEPS + 2])
def test_two_parts_are_the_whole_bit_for_bit(tmp_path, monkeypatch, undisturbed, steps):
    path = tmp_path / "run"
    stop_after(monkeypatch, steps)
    with pytest.raises(Interrupted, match=f"after {steps} of 16 steps; run the same command again"):
        train(path)
    held = load_checkpoint(path / "last.pt")
    assert (held.state["epoch"], held.state["step"]) == divmod(steps, STEPS)
    assert len(metrics(path)) == steps // STEPS
    torch.rand(7)  # another process would have another random state
    outcome = train_one(short(), path, resume=True)
    assert_same(path, undisturbed[0])
    assert outcome.table == undisturbed[1].table


@pytest.mark.parametrize(
    ("lap", "level"), [(False, "batch"), *((True, level) for level in ("batch", "batch_after", "running", "whole"))]
)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_every_objective_and_optimiser_goes_on(tmp_path, monkeypatch, lap, level, optimiser):
    settings = {"lap": lap, "level": level, "optimiser": optimiser, "epochs": 2, "schedule": "cosine", "lr": 0.01}
    train(tmp_path / "whole", **settings)
    stop_after(monkeypatch, STEPS + 1)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", **settings)
    train(tmp_path / "parts", **settings)
    assert_same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("sort", ["forward", "epoch"])
def test_times_and_their_order_go_on(tmp_path, monkeypatch, sort):
    settings = {
        "mean_field": True, "tau_start": "random", "tau_sort": sort, "tau_lr_factor": 4, "tau_clip": 1, "epochs": 3,
        "arch_options": {"blocks": 5, "width": 6, "batch_norm": True},
    }  # fmt: skip
    train(tmp_path / "whole", **settings)
    assert int(metrics(tmp_path / "whole")[0]["exchanges"]) > 0
    for count, steps in enumerate((STEPS + 1, 2 * STEPS)):
        path = tmp_path / f"parts{count}"
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Interrupted):
                train(path, **settings)
        train(path, **settings)
        assert_same(path, tmp_path / "whole")


def test_augmented_images_in_channels_last_go_on(tmp_path, monkeypatch):
    settings = {"arch": "resnet9", "arch_options": {"filters": 4, "blocks": 2}, "augment": True, "epochs": 2}
    train(tmp_path / "whole", **settings)
    stop_after(monkeypatch, STEPS + 1)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", **settings)
    train(tmp_path / "parts", **settings)
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_dropout_goes_on_with_the_same_random_numbers(tmp_path, monkeypatch):
    network_of = assemble.network_of

    def with_dropout(*arguments, **options):
        model = network_of(*arguments, **options)
        model.head = nn.Sequential(nn.Dropout(0.5), model.head)
        return model

    monkeypatch.setattr(assemble, "network_of", with_dropout)
    train(tmp_path / "whole", epochs=2)
    stop_after(monkeypatch, STEPS + 1)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", epochs=2)
    torch.manual_seed(99)
    train(tmp_path / "parts", epochs=2)
    assert_same(tmp_path / "parts", tmp_path / "whole")
    other = load_checkpoint(tmp_path / "whole" / "last.pt").rng["cpu"]
    assert not torch.equal(other, torch.get_rng_state())


def test_the_random_state_and_signals_of_the_caller_are_put_back(tmp_path):
    before = torch.get_rng_state(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(tmp_path / "run", epochs=1)
    assert_close(torch.get_rng_state(), before[0], rtol=0, atol=0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before[1:]
    assert float(torch.tensor(1e-40) * 1) > 0  # denormal numbers exist again


def test_a_second_ctrl_c_stops_at_once_and_the_run_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch, undisturbed):
    measure = runs.TrainingRun.measure

    def impatient(self, batches):
        if len(self.state.rows) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return measure(self, batches)

    monkeypatch.setattr(runs.TrainingRun, "measure", impatient)
    with pytest.raises(Interrupted, match="run the same command again"):
        train(tmp_path / "run")
    monkeypatch.setattr(runs.TrainingRun, "measure", measure)
    assert load_checkpoint(tmp_path / "run" / "last.pt").state["epoch"] == 1
    train(tmp_path / "run")
    assert_same(tmp_path / "run", undisturbed[0])


def test_sigterm_is_a_polite_end_too(tmp_path, monkeypatch):
    see = loop.Guard.see
    monkeypatch.setattr(loop.Guard, "see", lambda self, step: see(self, step) or os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="after 1 of 16 steps"):
        train(tmp_path / "run")


def test_rows_beyond_the_checkpoint_are_cut(tmp_path, monkeypatch, undisturbed):
    path = tmp_path / "run"
    stop_after(monkeypatch, STEPS + 1)
    with pytest.raises(Interrupted):
        train(path)
    lines = (undisturbed[0] / "metrics.csv").read_text()
    (path / "metrics.csv").write_text(lines)  # as if a crash had come between the two files
    stop_after(monkeypatch, 1)
    with pytest.raises(Interrupted):
        train(path)
    assert len(metrics(path)) == 1


@pytest.mark.parametrize("write", [1, 3, 5])  # each save flushes its file, then the folder
def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on(tmp_path, monkeypatch, undisturbed, write):
    path, fsync, count = tmp_path / "run", os.fsync, [0]
    save = checkpoints.save_checkpoint

    def fills_up(descriptor):
        count[0] += 1
        if count[0] == write:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    def saving(file, checkpoint):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fills_up)
            save(file, checkpoint)

    monkeypatch.setattr(checkpoints, "save_checkpoint", saving)
    with pytest.raises(OSError, match="No space left on device; make room") as caught:
        train(path)
    assert "\n" not in str(caught.value)
    held = load_checkpoint(path / "last.pt") if (path / "last.pt").exists() else None
    assert held is None or all(w.isfinite().all() for w in held.state["model"].values())
    assert not [file for file in path.iterdir() if file.name.endswith(".part")]
    monkeypatch.setattr(checkpoints, "save_checkpoint", save)
    train(path)
    assert_same(path, undisturbed[0])


@pytest.mark.parametrize("copy", [1, 2, 3])  # of best.pt: to last.pt, then at the next epoch to before.pt and last.pt
def test_a_disk_that_fills_up_where_the_best_weights_get_another_name_keeps_them_all(
    tmp_path, monkeypatch, undisturbed, copy
):
    path, count = tmp_path / "run", [0]

    def without_links(*paths):
        raise OSError(errno.EPERM, "no links on this file system")

    def fills_up(source, target, copyfile=shutil.copyfile):
        count[0] += 1
        if count[0] == copy:
            target.write_bytes(source.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        copyfile(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", without_links)
        patch.setattr(shutil, "copyfile", fills_up)
        with pytest.raises(OSError, match=r"cannot write .*\.pt: No space left on device; make room") as caught:
            train(path)
        assert "\n" not in str(caught.value)
        assert not [file for file in path.iterdir() if file.name.endswith(".part")]
        train(path)
    assert count[0] > copy
    assert_same(path, undisturbed[0])


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no last\.pt to go on from; leave out --resume"):
        train_one(short(), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_another_configuration_is_refused_and_fresh_moves_the_old_run_aside(tmp_path, monkeypatch):
    path = tmp_path / "run"
    stop_after(monkeypatch, 1)
    with pytest.raises(Interrupted):
        train(path)
    before = (path / "last.pt").read_bytes()
    with pytest.raises(ValueError, match=r"lr is 0\.05 there, 0\.1 here.*--fresh"):
        train(path, lr=0.1)
    assert (path / "last.pt").read_bytes() == before
    train_one(short(lr=0.1, epochs=1), path, fresh=True)
    assert (tmp_path / "run.1" / "last.pt").read_bytes() == before


def weights_by(held, change):
    """A checkpoint with its real weights changed."""
    weights = {name: change(w) if w.is_floating_point() else w for name, w in held.state["model"].items()}
    return held._replace(state={**held.state, "model": weights})


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda held: held._replace(state={**held.state, "model": {}}), "do not fit dense"),
        (lambda held: weights_by(held, lambda w: w * math.nan), r"last\.pt was altered: .* is NaN or infinite"),
        (lambda held: weights_by(held, torch.Tensor.half), "do not fit dense .* is of 16 bits in the checkpoint"),
        (lambda held: held._replace(state={**held.state, "objective": {}}), "does not fit this run"),
        (lambda held: held._replace(state={**held.state, "optimizer": {"state": {}, "param_groups": []}}), "not fit"),
    ],
)
def test_a_checkpoint_of_another_run_in_the_folder_is_refused(tmp_path, monkeypatch, change, part):
    path = tmp_path / "run"
    stop_after(monkeypatch, 1)
    with pytest.raises(Interrupted):
        train(path)
    checkpoints.save_checkpoint(path / "last.pt", change(load_checkpoint(path / "last.pt")))
    with pytest.raises(ValueError, match=part) as caught:
        train(path)
    assert "\n" not in str(caught.value)


def test_ctrl_c_on_the_command_line_saves_says_how_to_go_on_and_ends_with_130(tmp_path, monkeypatch, undisturbed):
    path = tmp_path / "run"
    (tmp_path / "settings.yaml").write_text(to_yaml(dump(short())))
    arguments = ("train", "--config", str(tmp_path / "settings.yaml"), "--out", str(path))
    stop_after(monkeypatch, 3)
    ended = command(*arguments)
    assert ended.code == 130
    assert ended.err.strip().splitlines() == [
        f"interrupted after 3 of 16 steps; run the same command again to go on from {path / 'last.pt'}"
    ]
    assert command(*arguments, "--resume").code == 0
    assert_same(path, undisturbed[0])


def test_a_run_killed_at_random_moments_ends_as_the_undisturbed_one(tmp_path):
    """Ten kill -9 in processes of their own, from within the start of training to near its end."""
    settings = dump(short(epochs=60, checkpoint_seconds=0.0, train_size=400))
    (tmp_path / "settings.yaml").write_text(to_yaml(settings))

    def start(name: str, *more: str) -> subprocess.Popen:
        arguments = ["train", "--config", str(tmp_path / "settings.yaml"), "--out", str(tmp_path / name), *more]
        return subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), *arguments],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    whole = start("whole")
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    moments, kills = random.Random(0), 0
    last = tmp_path / "parts" / "last.pt"
    while True:
        process = start("parts", *(["--resume"] if last.exists() else []))
        begun = last.stat().st_mtime_ns if last.exists() else 0
        while process.poll() is None and (not last.exists() or last.stat().st_mtime_ns == begun):
            time.sleep(0.01)  # until this process has saved something of its own
        if kills < 10:
            time.sleep(moments.uniform(0, 0.4))
        if kills == 10 or process.poll() is not None:
            output, _ = process.communicate()
            assert process.returncode == 0, output
            break
        process.kill()
        process.communicate()
        kills += 1
    assert kills == 10
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_other_code_goes_on_with_a_training_only_when_that_is_asked_for(tmp_path, monkeypatch):
    commits = iter("abcdefghijkl")
    monkeypatch.setattr("regimes.lab.runs.same_code", lambda old, new: False)
    monkeypatch.setattr("regimes.lab.runs.provenance", lambda device: {"commit": next(commits) * 40, "started": "now"})
    few = {"seeds": 2, "schedule": "constant"}
    training.train(short(**few, epochs=1), tmp_path / "run", across_commits=False)
    training.train(short(**few, epochs=1), tmp_path / "run", across_commits=False)  # a finished set is shown again
    train_one(short(epochs=1), tmp_path / "one")
    held = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"}
    for config, path in ((short(**few, epochs=2), "run"), (short(epochs=2), "one")):
        with pytest.raises(UserError, match="pass --across-commits"):
            training.train(config, tmp_path / path, across_commits=False)
    assert all(file.exists() and file.read_bytes() == content for file, content in held.items())  # nothing is lost
    outcome = training.train(short(**few, epochs=2), tmp_path / "run", across_commits=True)
    assert len(outcome.result["commits"]) == 2
    launches = json.loads((tmp_path / "run" / "seed0" / "run.json").read_text())["launches"]
    assert len({launch["stamp"]["data"] for launch in launches}) == 1
    assert "at commits " in (tmp_path / "run" / "seed0" / "table.md").read_text()


def test_the_largest_seed_is_trained_and_a_larger_one_named(tmp_path):
    training.train(short(seed=2**63 - 1, epochs=1), tmp_path / "run")
    with pytest.raises(ValueError, match="seed"):
        short(seed=2**63)
    with pytest.raises(UserError, match=f"seed {2**63 - 2} with seeds 3"):
        training.train(short(seed=2**63 - 2, seeds=3), tmp_path / "other")
