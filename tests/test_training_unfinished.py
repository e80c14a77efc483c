"""A point of a table that was stopped in the midst of its training goes on from there, bit for bit."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
import torch
from killing import Killed, killed
from stand_in_card import stand_in_card
from torch.optim.optimizer import register_optimizer_step_post_hook

from regimes.errors import Interrupted, UserError
from regimes.experiments import load
from regimes.experiments.lazy.lazy_cnn import runs
from regimes.lab import config as configuration
from regimes.lab.calls import unfinished
from regimes.lab.grid import grid_points
from regimes.lab.merging import Part
from regimes.lab.tensor_files import read_tensors
from regimes.lab.verification import verify
from regimes.lab.workers import prepare_worker, worker_pool
from regimes.machine import stoppable
from regimes.models.build import build
from regimes.training import unfinished as kept
from regimes.training.loop import Training
from regimes.training.objectives import LeastAction, Plain
from regimes.training.unfinished import FILE, Unfinished

TABLE = ["train_size=[40]", "arm=[lap]", "first_half=20", "second_half=20", "seeds=2"]
SMALL = {  # settings of a training of nine or so steps, at most
    "cifar10_low_data": [*TABLE, "training={batch: 16, epochs: 3, arch_options: {filters: 2, blocks: 2}}"],
    "cifar100_resnext50": [*TABLE, "training={batch: 16, epochs: 2, arch: resnet9, arch_options: {filters: 2}}"],
    "mnist_low_data": [
        *(*TABLE, "epochs=3", "first_look=1", "batch=16", "filters=2", "blocks=2", "norm=[batch]", "equal_risk=0"),
        "encoder=[gain_1]",
    ],
    "depth_without_batch_norm": [
        *("train_size=[40]", "depth=[2,3]", "block=[last_convolution]", "arm=[lap]", "first_half=20", "second_half=20"),
        *("seeds=1", "training={batch: 16, epochs: 3, arch_options: {filters: 2}}"),
    ],
    "mean_field_resnet": [
        *("arm=[mean_field]", "extra_arm=[]", "seeds=1", "train_size=40", "validation=20", "test_size=20"),
        "training={batch: 16, epochs: 3, arch_options: {depth: 8}, milestones: [1]}",
    ],
}


EVALUATION = {  # what measures a net after its training
    "cifar10_low_data": "regimes.experiments.least_action.low_data.course.state",
    "mean_field_resnet": "regimes.experiments.mean_field.mean_field_resnet.arms.evaluate",
}
LAZY = [
    *("seeds=2", "alpha=[1.0]", "alpha_float32=[10.0]", "train_size=40", "test_size=20", "epochs=2", "batch=16"),
    "width=1",
]
MANY = 20000  # epochs, which no machine ends while the test waits for its first file


class steps:
    """Counts the optimiser's steps; does something at step `at`."""

    def __init__(self, at=None, then=lambda: None):
        self.count, self.at, self.then = 0, at, then

    def __call__(self, *_):
        self.count += 1
        if self.count == self.at:
            self.then()

    def __enter__(self):
        self.hook = register_optimizer_step_post_hook(self)
        return self

    def __exit__(self, *_):
        self.hook.remove()


def asked():
    signal.raise_signal(signal.SIGTERM)


def given(name, *more):
    experiment = load(name)
    config = configuration.load(experiment.Config, overrides=[*SMALL[name], *more])
    return experiment, config, grid_points(experiment, config)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_stopped_point_goes_on_bit_for_bit(tmp_path, monkeypatch, name):
    experiment, config, (point, *_) = given(name)
    with steps() as whole:
        rows = experiment.measure(config, [point])
    monkeypatch.setattr(kept, "SECONDS", 0.0)
    for number, at in enumerate({2, whole.count // 2 + 1, whole.count}):
        folder = tmp_path / str(number)
        with steps(at, killed) as before, pytest.raises(Killed):
            experiment.measure(config, [point], folder)
        with steps() as after:
            assert json.dumps(experiment.measure(config, [point], folder)) == json.dumps(rows)
        assert before.count - 1 + after.count == whole.count  # the step of the kill was not kept
    monkeypatch.setattr(kept, "SECONDS", 60.0)
    with steps(3, asked), pytest.raises(KeyboardInterrupt):  # nothing was kept before, the third step is
        experiment.measure(config, [point], tmp_path / "asked")
    with steps() as after:
        assert json.dumps(experiment.measure(config, [point], tmp_path / "asked")) == json.dumps(rows)
    assert 3 + after.count == whole.count


@pytest.mark.slow
@pytest.mark.parametrize("name", EVALUATION)
def test_a_point_killed_while_it_is_measured_at_the_end_is_not_trained_again(tmp_path, monkeypatch, name):
    experiment, config, (point, *_) = given(name)
    rows = experiment.measure(config, [point])
    with monkeypatch.context() as patch:
        patch.setattr(EVALUATION[name], lambda *given, **more: killed())
        with pytest.raises(Killed):
            experiment.measure(config, [point], tmp_path)
    with steps() as after:
        assert json.dumps(experiment.measure(config, [point], tmp_path)) == json.dumps(rows)
    assert after.count == 0


@pytest.mark.slow
def test_a_point_of_the_lazy_net_goes_on_in_its_tangent_model_or_in_itself(tmp_path, monkeypatch):
    config = configuration.load(load("lazy_cnn").Config, overrides=LAZY)

    def measured(point, folder=None):
        runs.TANGENTS.clear()  # as in a process of its own
        return json.dumps(load("lazy_cnn").measure(config, [point], folder))

    for point in grid_points(load("lazy_cnn"), config)[:2]:
        with steps() as whole:
            row = measured(point)
        for at in (2, whole.count // 2, whole.count // 2 + 1, whole.count):
            folder = tmp_path / f"{point['alpha']}-{at}"
            with steps(at, asked), pytest.raises(KeyboardInterrupt):
                measured(point, folder)
            with steps() as after:
                assert measured(point, folder) == row
            assert at + after.count == whole.count


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_low_data", "mnist_low_data"])
def test_seeds_side_by_side_go_on_bit_for_bit(tmp_path, monkeypatch, name):
    experiment, config, points = given(name, "ensemble=2")
    points = [point for point in points if point["arm"] == "lap"][:2]
    assert [point["seed"] for point in points] == [0, 1]
    rows = experiment.measure(config, points)
    for at in (4, 6):  # within the second epoch, and at its end
        with steps(at, asked), pytest.raises(KeyboardInterrupt):
            experiment.measure(config, points, tmp_path / str(at))
        with steps() as after:
            assert json.dumps(experiment.measure(config, points, tmp_path / str(at))) == json.dumps(rows)
        assert after.count == 9 - at


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["ensemble=2"]], ids=["one seed", "two seeds"])
@pytest.mark.parametrize(
    "place",
    [
        "stand-in",
        pytest.param(
            "card",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ],
)
def test_a_point_on_a_card_goes_on_there(tmp_path, monkeypatch, place, more):
    experiment, config, points = given("cifar10_low_data", "device=cuda", *more)
    points = points[: 1 + len(more)]
    with stand_in_card(monkeypatch) if place == "stand-in" else nullcontext():
        with steps(4, asked), pytest.raises(KeyboardInterrupt):
            experiment.measure(config, points, tmp_path)
        with steps() as after:
            assert len(experiment.measure(config, points, tmp_path)) == len(points)
    assert after.count == 9 - 4


@pytest.mark.slow
def test_the_same_command_goes_on_within_the_point(tmp_path):
    experiment, config, points = given("cifar10_low_data")
    verify(experiment, "cifar10_low_data", config, tmp_path / "whole", part=Part(1, 1))
    run = tmp_path / "run"
    with steps(14, asked), pytest.raises(Interrupted, match=r"1 of 2 points are kept"):
        verify(experiment, "cifar10_low_data", config, run, part=Part(1, 1))
    assert (unfinished(run, points[1:]) / FILE).exists()
    assert not unfinished(run, points[:1]).exists()
    other = configuration.load(experiment.Config, overrides=[*SMALL["cifar10_low_data"], "look_every=2"])
    with pytest.raises(UserError, match="another configuration: look_every"):
        verify(experiment, "cifar10_low_data", other, run, part=Part(1, 1))
    with steps() as after:
        verify(experiment, "cifar10_low_data", config, run, part=Part(1, 1))
    assert after.count == 4
    assert (run / "rows.csv").read_text() == (tmp_path / "whole" / "rows.csv").read_text()
    assert not (run / "unfinished").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_from_what_it_kept(tmp_path):
    settings = ["seeds=1", f"training.epochs={MANY}", "training.lr=1e-6"]  # λ grows until a larger rate diverges
    more = [part for setting in (*SMALL["cifar10_low_data"], *settings) for part in ("--set", setting)]
    words = ["verify", "cifar10_low_data", *more, "--part", "1/1", "--out", str(tmp_path / "run")]
    code = "from regimes.training import unfinished; unfinished.SECONDS = 0.1; from regimes.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL)
    experiment, config, points = given("cifar10_low_data", *settings)
    file = unfinished(tmp_path / "run", points) / FILE
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    held = read_tensors(file, "")["trainings"][0]
    with steps(4, asked), pytest.raises(Interrupted):
        verify(experiment, "cifar10_low_data", config, tmp_path / "run", part=Part(1, 1))
    now = read_tensors(file, "")["trainings"][0]
    assert 3 * now["epoch"] + now["step"] == 3 * held["epoch"] + held["step"] + 4


def training(seed=0, objective=Plain):
    torch.manual_seed(seed)
    model = build("dense", (3,), 2, blocks=1, width=2)
    return Training(model, objective(), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))


def test_what_was_kept_comes_back_with_what_was_seen(tmp_path):
    one, other = training(0), training(1)
    one.epoch, one.step = 3, 2
    state = torch.get_rng_state()
    Unfinished(tmp_path, {"seeds": [0]}, [one]).keep([{"curve": [(1, 0.5)]}])
    torch.manual_seed(9)
    assert Unfinished(tmp_path, {"seeds": [0]}, [other]).take_up() == [{"curve": [[1, 0.5]]}]
    assert (other.epoch, other.step) == (3, 2)
    assert torch.equal(torch.get_rng_state(), state)
    for mine, yours in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_a_state_that_is_not_finite_leaves_the_last_one_that_was(tmp_path):
    one, other = training(0), training(1)
    one.epoch = 3
    kept = Unfinished(tmp_path, {}, [one])
    kept.keep([1])
    with torch.no_grad():
        next(one.model.parameters()).fill_(torch.nan)
    one.epoch = 4
    kept.keep([2])
    assert Unfinished(tmp_path, {}, [other]).take_up() == [1]
    assert other.epoch == 3


def test_a_mask_of_minus_infinity_is_kept(tmp_path):
    one, other = training(0), training(1)
    for each in (one, other):
        each.model.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    Unfinished(tmp_path, {}, [one]).keep([1])
    assert Unfinished(tmp_path, {}, [other]).take_up() == [1]


def test_what_was_kept_for_something_else_is_refused(tmp_path):
    Unfinished(tmp_path, {"train": {"lr": 0.1}, "seeds": [0]}, [training()]).keep([])
    for whose, what in (
        ({"train": {"lr": 0.2}, "seeds": [0]}, r"train\.lr is 0\.1 in it, 0\.2 here; delete it"),
        ({"train": {"lr": 0.1}, "seeds": [1]}, r"seeds is \[0\] in it, \[1\] here"),
        ({"train": {"lr": 0.1}, "seeds": [0], "data": "a"}, "data is"),
    ):
        with pytest.raises(UserError, match=what):
            Unfinished(tmp_path, whose, [training()]).take_up()


@pytest.mark.parametrize(
    ("objective", "others"),
    [(Plain, [training(), training()]), (LeastAction, [training()])],
    ids=["of two networks", "of another objective"],
)
def test_what_does_not_fit_ends_in_one_line(tmp_path, objective, others):
    Unfinished(tmp_path, {}, [training(objective=objective)]).keep([])
    if objective is LeastAction:
        content = read_tensors(tmp_path / FILE, "")
        content["trainings"][0]["model"].popitem()
        torch.save(content, tmp_path / FILE)
    with pytest.raises(UserError, match=r"trainings\.pt.*delete it, and what it is of") as error:
        Unfinished(tmp_path, {}, others).take_up()
    assert "\n" not in str(error.value)


def test_a_damaged_file_ends_in_one_line(tmp_path):
    Unfinished(tmp_path, {}, [training()]).keep([])
    content = bytearray((tmp_path / FILE).read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Unfinished(tmp_path, {}, [training()]).take_up()


def test_without_a_folder_nothing_is_kept_and_no_signal_is_taken():
    before = signal.getsignal(signal.SIGTERM)
    nothing = Unfinished(None, {}, [training()])
    assert nothing.take_up() == []
    with nothing.watched(list) as stepped:
        assert signal.getsignal(signal.SIGTERM) is before
        stepped()
    nothing.keep([])


def _asked_in_a_worker(number):
    """Whether a worker is asked to stop by this signal."""
    prepare_worker(2)
    with stoppable() as stop:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        return stop.asked


@pytest.mark.slow
def test_a_worker_leaves_ctrl_c_to_its_parent():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_asked_in_a_worker, [signal.SIGINT, signal.SIGTERM]) == [False, True]


def endless(folder, number, step):
    """A call that goes on, in steps of so many seconds, until it is asked to stop."""
    with Unfinished(folder / str(number), {}, []).watched(list) as stepped:
        (folder / f"started{number}").touch()
        while True:
            time.sleep(step)
            stepped()


def exit_code(process):
    """That of a process of a pool: a thread of the pool waits for it too, and may be told of its end before we are."""
    limit = time.monotonic() + 20
    process.join(20)
    while process.exitcode is None and time.monotonic() < limit:
        time.sleep(0.05)
    return process.exitcode


def begun(folder):
    return {file.name.removeprefix("started") for file in folder.glob("started*")}


@pytest.mark.slow
def test_stopped_workers_keep_their_state_end_and_begin_no_other_call(tmp_path):
    """One is within a long step when the pool, which sees the other end, sends it the signal a second time."""
    processes = []

    def stopped():
        with worker_pool(2) as pool:
            for number, step in enumerate((0.02, 1.0, 0.02, 0.02, 0.02)):
                pool.submit(endless, tmp_path, number, step)
            limit = time.monotonic() + 60
            while begun(tmp_path) != {"0", "1"} and time.monotonic() < limit:
                time.sleep(0.05)
            processes.extend(pool._processes.values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    codes = [exit_code(process) for process in processes]
    for process in processes:  # else a worker that goes on would hold this process for ever
        process.kill()
    assert codes == 2 * [128 + signal.SIGTERM]
    assert begun(tmp_path) == {"0", "1"}
    assert all((tmp_path / number / FILE).exists() for number in ("0", "1"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_what_is_no_worker(number):
    with stoppable() as stop:
        signal.raise_signal(number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
