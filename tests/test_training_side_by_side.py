"""Seeds trained side by side leave what the seeds alone leave: stopped, killed, diverged, in one way or the other."""

import json
import os
import signal

import pytest
import torch
from killing import Killed
from short_training import STEPS, short
from test_training_resume import assert_same, metrics
from torch.testing import assert_close

from regimes import load
from regimes.errors import Diverged, Interrupted, UserError
from regimes.lab.journal import all_or_none
from regimes.lab.locks import release, take_lock
from regimes.processes import SINGLE
from regimes.training import assemble, results, run, side_by_side, train
from regimes.training import seeds as seeds_of_run
from regimes.training.checkpoint import load_checkpoint
from regimes.training.loop import Guard

SEEDS = 3
# Without batch norm: Adam divides the rounding of a gradient that is exactly 0 by its ε instead of a norm.
ADAM = {"optimiser": "adam", "lr": 0.01, "arch_options": {"blocks": 2, "width": 6}}
# Times that move fast from random places: the members exchange their blocks each in a way of its own.
TIMES = {
    "mean_field": True,
    "tau_start": "random",
    "tau_lr_factor": 50.0,
    "tau_clip": 0.01,
    "arch_options": {"blocks": 4, "width": 6, "batch_norm": True},
    "level": "batch_after",
}
RESNET = {"arch": "resnet9", "arch_options": {"filters": 2, "blocks": 1}, "augment": True}


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    """Nor the machine's rate, which is measured for each run: both take longer than these runs."""
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    monkeypatch.setattr(seeds_of_run, "_figure", lambda folder, seeds: {})
    monkeypatch.setattr(results, "matrix_rate", lambda *_, **__: 1e9)


def together(path, ensemble=True, **changes):
    return train(short(**{"seeds": SEEDS, **changes}), path, ensemble=ensemble)


def seeds(path):
    return [path / f"seed{seed}" for seed in range(SEEDS)]


def stop_after(monkeypatch, steps, alone=False):
    """A Ctrl-C after so many steps of this process: joint ones, or those of seeds that are trained alone."""
    see, count = Guard.see, [0]

    def counting(self, step):
        count[0] += alone == (step.value.ndim == 0)
        see(self, step)
        if count[0] == steps and alone == (step.value.ndim == 0):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Guard, "see", counting)


def stop_alone(monkeypatch, steps):
    """A Ctrl-C after so many steps of seeds that are trained alone."""
    stop_after(monkeypatch, steps, alone=True)


def lose(monkeypatch, *lost):
    """The loss of some members is NaN from a step on, as long as they go along: (seed, epoch, number)."""
    see, advance, present = Guard.see, side_by_side.SideBySide._advance, []

    def advancing(self, *arguments):
        present[:] = [member.config.seed for member in self.runs]
        return advance(self, *arguments)

    def losing(self, step):
        value = step.value.clone()
        for seed, epoch, number in lost if value.ndim else ():
            if seed in present and (step.epoch, step.number) >= (epoch, number):
                value[present.index(seed)] = torch.nan
        see(self, step._replace(value=value))

    monkeypatch.setattr(Guard, "see", losing)
    monkeypatch.setattr(side_by_side.SideBySide, "_advance", advancing)


@pytest.fixture
def exact(monkeypatch):
    """Everything in float64, so that two orders of summing part by rounding too small to change an answer."""
    stored = assemble.data_of
    monkeypatch.setattr(assemble, "data_of", lambda config: stored(config).to(dtype=torch.float64))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_equal_to_rounding(path, other):
    """Rows, results, weights, the state of optimiser, schedule and λ."""
    for own, alone in zip(metrics(path), metrics(other), strict=True):
        numbers = [{name: float(cell) for name, cell in row.items() if cell} for row in (own, alone)]
        assert_close(*numbers, rtol=1e-6, atol=1e-9)
    for file in ("last.pt", "best.pt"):
        held, expected = load_checkpoint(path / file), load_checkpoint(other / file)
        for part in ("model", "objective"):
            assert_close(held.state[part], expected.state[part], rtol=1e-6, atol=1e-8)
        assert_close(held.state["optimizer"]["state"], expected.state["optimizer"]["state"], rtol=1e-5, atol=1e-8)
        for part in ("scheduler", "epoch", "step"):
            assert held.state[part] == expected.state[part]
        assert held.state["optimizer"]["param_groups"] == expected.state["optimizer"]["param_groups"]
        assert held.config == expected.config
        assert held.best["epoch"] == expected.best["epoch"]
    held, expected = (json.loads((folder / "result.json").read_text()) for folder in (path, other))
    assert held.keys() - {"diff", "command"} == expected.keys() - {"diff", "command"}
    assert held["config"] == expected["config"]
    for which in ("best", "last"):
        assert held[which]["test_risk"] == pytest.approx(expected[which]["test_risk"], rel=1e-6)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"level": "batch_after", "form": "multiplied", "epochs": 1}, id="batch_after", marks=pytest.mark.slow
        ),
        *(
            pytest.param(changes, id=name, marks=pytest.mark.slow)
            for name, changes in {
                "plain": {"lap": False},
                "whole": {"level": "whole", "form": "multiplied"},
                "whole, without norms": {**ADAM, "level": "whole"},
                "mean-field": TIMES,
                "mean-field, sorted by epochs": {**TIMES, "tau_sort": "epoch", "level": "whole"},
                "mean-field, never sorted": {**TIMES, "tau_sort": "never", "tau_weight_decay": 0.1, "lap": False},
                "running, adam, cosine": {**ADAM, "level": "running", "schedule": "cosine"},
                "resnet9": RESNET,
                "cut short": {"max_steps": STEPS + 2, "checkpoint_seconds": 0.0},
                "every second epoch": {"evaluate_every": 2, "epochs": 3},
            }.items()
        ),
    ],
)
def test_each_member_is_the_run_of_its_seed(tmp_path, changes):
    changes = {"epochs": 2, **changes}
    outcomes = [together(tmp_path / name, name == "ensemble", **changes) for name in ("ensemble", "alone")]
    for path, other in zip(seeds(tmp_path / "ensemble"), seeds(tmp_path / "alone"), strict=True):
        assert_equal_to_rounding(path, other)
    own, alone = (outcome.result["last"]["test_risk"] for outcome in outcomes)
    assert own["values"] == pytest.approx(alone["values"], rel=1e-6)
    assert len(set(own["values"])) == SEEDS
    names = [{file.name for file in path.iterdir()} for path in (tmp_path / "ensemble", tmp_path / "alone")]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("first", [True, False], ids=["begun side by side", "begun one after the other"])
def test_either_way_goes_on_with_what_the_other_has_begun(tmp_path, monkeypatch, first):
    with monkeypatch.context() as patch:
        stop_after(patch, STEPS + 1)
        stop_alone(patch, 5 * STEPS + 1)  # the first seed is done, the second in its second epoch
        with pytest.raises(Interrupted):
            together(tmp_path / "both", ensemble=first)
    together(tmp_path / "both", ensemble=not first)
    together(tmp_path / "alone", ensemble=False)
    for path, other in zip(seeds(tmp_path / "both"), seeds(tmp_path / "alone"), strict=True):
        assert_equal_to_rounding(path, other)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        together(path / "dense")
    return path / "dense"


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, STEPS, STEPS + 2, 4 * STEPS - 1])
def test_an_interrupted_ensemble_ends_as_the_undisturbed_one(tmp_path, monkeypatch, undisturbed, steps):
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Interrupted, match=f"after {steps} of 16 steps"):
            together(tmp_path)
    together(tmp_path)
    for path, other in zip(seeds(tmp_path), seeds(undisturbed), strict=True):
        assert_same(path, other)


def killed(monkeypatch, act, path, **changes):
    """Train, and die before the given replacement, second name or removal of a file; whether it came to that many."""
    count = [0]

    def dying(do):
        def counted(*names, **more):
            of_run = any(str(name).endswith((".pt", ".json")) or name in "0123456789" for name in map(_last, names))
            count[0] += of_run
            if count[0] == act and of_run:
                raise Killed
            return do(*names, **more)

        return counted

    with monkeypatch.context() as patch:
        for name in ("replace", "link", "unlink"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            together(path, **changes)
        except Killed:
            return True
    return False


def _last(name):
    return os.path.basename(str(name))


@pytest.mark.slow
@pytest.mark.parametrize("start", [12, 16, 21])
def test_an_ensemble_killed_at_some_changes_of_files_ends_as_the_undisturbed_one(tmp_path, monkeypatch, start):
    changes = {"epochs": 2, "max_steps": STEPS + 1, "checkpoint_seconds": 0.0, "seeds": SEEDS}
    together(tmp_path / "undisturbed", **changes)
    act, step = start, 13  # the folders are made; over the starts, changes of each kind
    while killed(monkeypatch, act, path := tmp_path / f"killed{act}", **changes):
        together(path, **changes)
        for own, other in zip(seeds(path), seeds(tmp_path / "undisturbed"), strict=True):
            assert_same(own, other)
        act += step
    assert act > 60


def half_saved(path):
    """As if an ensemble had been killed while it saved all of its seeds."""
    files = [folder / "last.pt" for folder in seeds(path) if folder.exists()]
    all_or_none(path / run.JOURNAL, files).__enter__()
    return files


@pytest.mark.slow
def test_a_killed_saving_is_undone_before_the_run_is_asked_for_another_length(tmp_path):
    for name, epochs in (("run", 1), ("longer", 2)):
        together(tmp_path / name, epochs=epochs, seeds=2)
    first, _ = half_saved(tmp_path / "run")
    os.replace(tmp_path / "longer" / "seed0" / "last.pt", first)  # has seen more steps than are asked for
    together(tmp_path / "run", epochs=1, max_steps=STEPS, seeds=2)
    assert load_checkpoint(first).state["epoch"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_a_seed_of_a_killed_ensemble_goes_on_by_itself(tmp_path, fresh):
    together(tmp_path, epochs=1, seeds=2)
    files = half_saved(tmp_path)
    lock = take_lock(tmp_path)
    with pytest.raises(UserError, match="is in use by"):
        train(short(epochs=2), tmp_path / "seed0", fresh=fresh)
    release(tmp_path, lock)
    train(short(epochs=2), tmp_path / "seed0", fresh=fresh)
    together(tmp_path, epochs=2, seeds=2)
    assert [load_checkpoint(file).state["epoch"] for file in files] == [2, 2]
    assert len(metrics(tmp_path / "seed0")) == 2


@pytest.mark.slow
def test_stopped_at_the_last_step_of_some_seeds_the_others_are_not_begun(tmp_path, monkeypatch):
    together(tmp_path / "stopped", epochs=1, seeds=2)
    begun = []
    with monkeypatch.context() as patch:
        patch.setattr(side_by_side, "_carried_out", lambda run, say: begun.append(run))
        stop_after(patch, STEPS)
        with pytest.raises(Interrupted, match="after 8 of 8 steps"):
            together(tmp_path / "stopped", epochs=2, seeds=2)
    assert not begun
    together(tmp_path / "stopped", epochs=2, seeds=2)
    together(tmp_path / "undisturbed", epochs=2, seeds=2)
    for path, other in zip(seeds(tmp_path / "stopped")[:2], seeds(tmp_path / "undisturbed")[:2], strict=True):
        assert_same(path, other)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in the last step", "while its epoch is measured"])
def test_stopped_at_the_last_step_of_a_seed_the_next_one_is_not_begun(tmp_path, monkeypatch, when):
    with monkeypatch.context() as patch:
        if when == "in the last step":
            stop_alone(patch, STEPS)
        else:
            close = run.TrainingRun.close_epoch
            patch.setattr(
                run.TrainingRun, "close_epoch", lambda self: (close(self), os.kill(os.getpid(), signal.SIGINT))
            )
        with pytest.raises(Interrupted, match="after 4 of 4 steps"):
            together(tmp_path / "stopped", ensemble=False, epochs=1, seeds=2)
    assert not (tmp_path / "stopped" / "seed1").exists()
    for name in ("stopped", "undisturbed"):
        together(tmp_path / name, ensemble=False, epochs=1, seeds=2)
    for path, other in zip(seeds(tmp_path / "stopped")[:2], seeds(tmp_path / "undisturbed")[:2], strict=True):
        assert_same(path, other)


@pytest.mark.slow
def test_a_member_that_diverges_becomes_a_row_and_stops_itself_alone(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        lose(patch, (1, 1, 2))
        outcome = together(tmp_path, epochs=2)
    assert outcome.result["diverged"] == [1]
    assert outcome.table[-1] == {"weights": "diverged: seed 1", "seeds": 1}
    gone = json.loads((tmp_path / "seed1" / "result.json").read_text())
    assert gone["outcome"] == "diverged"
    assert gone["reason"].startswith("epoch 2, step 3: the loss is nan, the last finite loss was ")
    assert [len(metrics(path)) for path in seeds(tmp_path)] == [2, 1, 2]
    with monkeypatch.context() as patch:
        patch.setattr(side_by_side, "descend", None)  # all is there: nothing is trained
        patch.setattr(run, "descend", None)
        assert together(tmp_path, epochs=2).result["diverged"] == [1]


@pytest.mark.slow
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("lost", [[(0, 1, 2)], [(0, 1, 3)], [(0, 0, 1), (2, 0, 1)], [(0, 0, 1), (2, 1, 1)]], ids=str)
def test_the_others_are_the_runs_of_their_seeds(tmp_path, monkeypatch, lost):
    with monkeypatch.context() as patch:
        lose(patch, *lost)
        outcome = together(tmp_path / "ensemble")
    together(tmp_path / "alone", ensemble=False)
    gone = outcome.result["diverged"]
    assert gone == sorted(seed for seed, *_ in lost)
    for seed in set(range(SEEDS)) - set(gone):
        assert_equal_to_rounding(tmp_path / "ensemble" / f"seed{seed}", tmp_path / "alone" / f"seed{seed}")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [[(0, 1, 2)], [(0, 1, 2), (2, 1, 2)]], ids=["two go on", "one goes on"])
@pytest.mark.parametrize("steps", [STEPS + 1, STEPS + 3, 2 * STEPS + 1])
def test_stopped_before_or_after_a_loss_it_ends_as_the_undisturbed_one(tmp_path, monkeypatch, lost, steps):
    lose(monkeypatch, *lost)
    together(tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        stop_alone(patch, steps - STEPS - 3)  # where one goes on it trains alone
        with pytest.raises(Interrupted):
            together(tmp_path / "stopped")
    assert together(tmp_path / "stopped").result["diverged"] == [seed for seed, *_ in lost]
    for seed, (path, other) in enumerate(
        zip(seeds(tmp_path / "stopped"), seeds(tmp_path / "undisturbed"), strict=True)
    ):
        if seed not in [seed for seed, *_ in lost]:
            assert_same(path, other)


@pytest.mark.slow
def test_where_all_members_diverge_the_run_has_failed(tmp_path, monkeypatch):
    lose(monkeypatch, *((seed, 0, 1) for seed in range(SEEDS)))
    with pytest.raises(Diverged, match="all 3 seeds diverged"):
        together(tmp_path)


@pytest.mark.slow
def test_a_member_whose_numbers_overflow_diverges_by_itself(tmp_path, monkeypatch):
    assembled = side_by_side.assemble

    def too_large(config):
        setup, scale = assembled(config), 1e30 if config.seed == 1 else 1.0
        normalise = setup.batches.normalise
        setup.batches.normalise = lambda x: scale * normalise(x)
        return setup

    monkeypatch.setattr(side_by_side, "assemble", too_large)
    assert together(tmp_path, lap=False, lr=1e-4).result["diverged"] == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, "pass --seeds 2 or more"),
        (
            {"compile": True, "mean_field": True, "tau_sort": "epoch"},
            "not compiled with mean_field: which of them pass",
        ),
    ],
)
def test_what_an_ensemble_cannot_have_is_refused_in_one_line_before_work_begins(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        together(tmp_path / "run", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_networks_that_cannot_be_joined_are_refused_before_work_begins(tmp_path, monkeypatch):
    def branching(config, shape, classes):
        made = assemble.network_of(config, shape, classes)
        made.head.register_forward_pre_hook(lambda module, inputs: inputs if float(inputs[0].sum()) else None)
        return made

    monkeypatch.setattr(side_by_side, "network_of", branching)
    with pytest.raises(UserError, match="networks dense cannot be joined into one ensemble") as caught:
        together(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arch",
    [
        "dense",
        "resnet9",
        "resnet20",
        "resnext29",
        "wide_resnet",
        "vgg11",
        "contractive",
        pytest.param("hamiltonian", marks=pytest.mark.slow),
        pytest.param("odenet", marks=pytest.mark.slow),
        pytest.param("resnext50", marks=pytest.mark.slow),
    ],
)
def test_the_architectures_can_be_joined(arch):
    lap = arch != "vgg11"
    side_by_side.refuse_unfit(short(dataset="cifar10", arch=arch, arch_options={}, lap=lap, seeds=2), SINGLE)


@pytest.mark.slow
def test_a_member_is_loaded_as_a_run_of_its_own_and_its_file_holds_it_alone(tmp_path):
    together(tmp_path, epochs=1)
    train(short(seed=1, epochs=1), tmp_path / "alone")
    found = load(tmp_path / "seed1")
    assert found.config["seed"] == 1
    assert found.model(found.data.test.x).shape == (40, 10)
    sizes = [(tmp_path / name / "last.pt").stat().st_size for name in ("seed1", "alone")]
    assert abs(sizes[0] - sizes[1]) < 2000
