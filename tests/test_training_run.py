"""Runs of `train`: what they leave behind is what happened; protocol, divergence, seeds, progress."""

import csv
import importlib.util
import json
import math
import sys
import types

import pytest
import torch
from absent import without_matplotlib
from short_training import STEPS, short, train
from torch.testing import assert_close

from regimes import training
from regimes.data.batches import Batches
from regimes.errors import Diverged
from regimes.lab import progress, training_figure
from regimes.lab.intervals import SHARE
from regimes.lab.statistics import mean_interval
from regimes.training import loop, results
from regimes.training import run as runs
from regimes.training.assemble import assemble
from regimes.training.checkpoint import data_of, load_checkpoint, model_of
from regimes.training.config import folder_of
from regimes.training.loop import Step, descend
from regimes.training.metrics import Sums, evaluate
from regimes.training.run import train_one
from regimes.transport.energy import mean_over_features


@pytest.fixture(autouse=True)
def without_figure(request, monkeypatch):
    if "the_figure" not in request.node.name:
        monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        return path, train(path)


def rows(path) -> list[dict[str, str]]:
    with (path / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_all_that_a_reader_needs(finished):
    path, _ = finished
    names = {file.name for file in path.iterdir() if not file.name.startswith("uncommitted")}
    weights = {"initial.pt", "last.pt", "best.pt"}
    assert names == {"config.yaml", "run.json", "metrics.csv", "result.json", "table.md"} | weights


def test_metrics_are_means_over_the_samples_of_the_steps_before_their_updates(finished):
    path, _ = finished
    assembly = assemble(short())
    steps = list(descend(assembly.training, assembly.batches, epochs=4))
    for epoch, line in enumerate(rows(path)):
        mine = [step for step in steps if step.epoch == epoch]
        assert (line["epoch"], line["steps"], sum(step.samples for step in mine)) == (
            str(epoch + 1),
            str(4 * epoch + 4),
            56,
        )
        shares = (
            sum(float(step.penalty) * step.samples for step in mine),
            sum(float(step.value) * step.samples for step in mine),
        )
        assert_close(float(line["penalty_share"]), shares[0] / shares[1], rtol=1e-6, atol=0)
        assert 0 < shares[0] < shares[1]
        for name, of in (("loss", "value"), ("risk", "risk"), ("transport", "transport")):
            mean = sum(float(getattr(step, of)) * step.samples for step in mine) / 56
            assert_close(float(line[f"running_{name}"]), mean, rtol=1e-6, atol=0)
        assert float(line["running_accuracy"]) == sum(int(step.correct) for step in mine) / 56
    assert_close(float(line["multiplier"]), float(assembly.training.objective.multiplier), rtol=0, atol=0)


def test_lambda_grows_and_the_learning_rate_falls_at_its_milestone(finished):
    found = rows(finished[0])
    scales = [float(line["multiplier"]) for line in found]
    assert 1 < scales[0] < scales[1] < scales[2] < scales[3]
    assert [float(line["lr"]) for line in found] == [0.05, 0.05, pytest.approx(0.005), pytest.approx(0.005)]


@pytest.mark.parametrize("which", ["best", "last"])
def test_the_results_are_those_of_the_saved_weights_on_samples_never_seen(finished, which):
    path, outcome = finished
    held = load_checkpoint(path / f"{which}.pt")
    data = data_of(held.config)
    entry = outcome.result[which]
    test = evaluate(
        model_of(held), Batches(data.test, 7, normalise=data.normalise, shuffle=False), convention=mean_over_features
    )
    assert entry["test_accuracy"] == pytest.approx(test.accuracy)
    assert entry["test_risk"] == pytest.approx(test.risk)
    assert entry["transport"] == pytest.approx(test.transport)
    assert entry["blocks"] == pytest.approx(test.blocks.tolist())
    validation = Batches(data.validation, 7, normalise=data.normalise, shuffle=False)
    found = evaluate(model_of(held), validation, convention=mean_over_features)
    line = rows(path)[entry["epoch"] - 1]
    assert float(line["validation_accuracy"]) == pytest.approx(found.accuracy) == entry["validation_accuracy"]
    assert float(line["validation_risk"]) == pytest.approx(found.risk)
    assert float(line["energy"]) == pytest.approx(found.transport)
    assert [float(line[f"energy_{k}"]) for k in (1, 2)] == pytest.approx(found.blocks.tolist())


def test_the_best_epoch_is_the_first_of_highest_validation_accuracy_and_least_risk(finished):
    path, outcome = finished
    scores = [(float(line["validation_accuracy"]), -float(line["validation_risk"])) for line in rows(path)]
    assert outcome.result["best"]["epoch"] == scores.index(max(scores)) + 1
    assert outcome.result["protocol"] == "best epoch by validation accuracy"


def test_validation_and_not_test_chooses(tmp_path, monkeypatch):
    """Measured accuracies are made up: falling on the validation samples, so that the first epoch is the best."""
    real, falling = runs.evaluate, iter([0.9, 0.8, 0.7, 0.6])
    seen = []

    def made_up(model, batches, *risk, **how):
        found = real(model, batches, *risk, **how)
        seen.append(len(batches.data.labels))
        return found._replace(accuracy=next(falling)) if seen[-1] == 30 else found

    monkeypatch.setattr(runs, "evaluate", made_up)
    outcome = train(tmp_path / "run")
    assert outcome.result["best"]["epoch"] == 1
    assert load_checkpoint(tmp_path / "run" / "best.pt").state["epoch"] == 1
    # Training and test samples come once for each weights, after all training.
    assert seen == [30, 30, 30, 30, 56, 40, 56, 40]


def test_without_validation_samples_the_training_risk_chooses(tmp_path):
    outcome = train(tmp_path / "run", validation=0)
    found = rows(tmp_path / "run")
    risks = [float(line["running_risk"]) for line in found]
    assert outcome.result["best"]["epoch"] == risks.index(min(risks)) + 1
    assert outcome.result["protocol"] == "best epoch by training risk"
    assert {line["validation_accuracy"] for line in found} == {""}
    assert all(float(line["energy"]) > 0 for line in found)
    assert "validation accuracy" not in outcome.table[0]


def test_the_risk_alone_has_an_energy_but_no_multiplier(tmp_path):
    outcome = train(tmp_path / "run", lap=False, epochs=1)
    (line,) = rows(tmp_path / "run")
    assert (line["multiplier"], line["running_transport"], line["penalty_share"]) == ("", "", "")
    assert float(line["energy"]) > 0
    assert line["running_loss"] == line["running_risk"]
    assert "λ" not in outcome.table[0]


def test_max_steps_ends_within_an_epoch(tmp_path):
    outcome = train(tmp_path / "run", max_steps=STEPS + 1, validation=30)
    assert [line["steps"] for line in rows(tmp_path / "run")] == ["4", "5"]
    assert outcome.result["last"]["epoch"] == 2
    held = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (held.state["epoch"], held.state["step"]) == (1, 1)


def test_a_finished_run_is_shown_again_and_not_trained_again(finished, monkeypatch):
    path, outcome = finished
    before = (path / "last.pt").stat().st_mtime_ns, (path / "result.json").read_bytes()
    said = []
    monkeypatch.setattr(runs, "descend", None)  # a step would fail
    again = train_one(short(), path, say=said.append)
    assert again.result == json.loads((path / "result.json").read_text())
    assert again.table == outcome.table
    assert before == ((path / "last.pt").stat().st_mtime_ns, (path / "result.json").read_bytes())
    assert any("--fresh" in line for line in said)


def test_the_start_says_what_is_trained_and_how_the_best_is_chosen(tmp_path):
    said = []
    train_one(short(epochs=1), tmp_path / "run", say=said.append)
    for part in ("56 training, 30 validation, 40 test", "4 steps of batch 16", "accuracy on 30 validation samples"):
        assert part in said[0]


@pytest.mark.parametrize("lap", [True, False])
def test_a_diverging_run_stops_with_its_place_and_the_cure(tmp_path, lap):
    with pytest.raises(Diverged, match="diverged at epoch") as caught:
        train(tmp_path / "run", lr=1e12, epochs=30, lap=lap)
    text = str(caught.value)
    assert "\n" not in text
    for part in ("step", "last finite loss", "--set lr=0.05 --fresh"):
        assert part in text
    last = tmp_path / "run" / "last.pt"
    if last.exists():
        assert all(w.isfinite().all() for w in load_checkpoint(last).state["model"].values())


def test_a_weight_that_overflows_after_finite_losses_is_not_saved(tmp_path, monkeypatch):
    real = runs.descend

    def poisoned(training, *arguments, **how):
        for step in real(training, *arguments, **how):
            if step.epoch == 1 and step.number == STEPS - 1:
                next(training.model.parameters()).data[0] = math.inf
            yield step

    monkeypatch.setattr(runs, "descend", poisoned)
    with pytest.raises(Diverged, match=r"epoch 2, step 4: a weight is no longer finite.*last\.pt keeps"):
        train(tmp_path / "run")
    held = load_checkpoint(tmp_path / "run" / "last.pt")
    assert held.state["epoch"] == 1
    assert all(w.isfinite().all() for w in held.state["model"].values())


@pytest.mark.parametrize("where", ["assemble", "descend", "measure_ends"])
def test_a_full_graphics_card_is_one_line_with_a_smaller_batch(tmp_path, monkeypatch, where):
    def full(*arguments, **how):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")

    monkeypatch.setattr(runs, where, full)
    with pytest.raises(RuntimeError, match=r"the memory of the graphics card is full; take a smaller batch.*--batch 8"):
        train(tmp_path / "run")


def steps(*losses: float) -> list[Step]:
    zero = torch.zeros(())
    return [Step(0, number, torch.tensor(loss), zero, zero, zero, 1) for number, loss in enumerate(losses)]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_first_loss_that_is_not_finite_is_named_however_late_it_is_read(device):
    guard = loop.Guard(device, every=3)
    list(map(guard.see, steps(0.5, math.nan, math.nan)))
    assert guard.lost == {0: "epoch 1, step 2: the loss is nan, the last finite loss was 0.5"}
    guard = loop.Guard(device, every=3)
    for step in steps(0.5, 0.25):
        guard.see(step)
    guard.read()
    assert (guard.losses, guard.lost) == ([0.25], {})


def test_a_first_loss_that_is_not_finite_has_none_before():
    guard = loop.Guard("cpu")
    guard.see(*steps(math.inf))
    assert guard.lost == {0: "epoch 1, step 1: the loss is inf, no loss before was finite"}


def test_a_gpu_is_waited_for_every_few_steps_only():
    guard = loop.Guard("cuda", every=3)
    for step in steps(0.5, math.inf):
        guard.see(step)
    assert len(guard.unread) == 2
    assert not guard.lost
    guard.read()
    assert guard.lost[0].startswith("epoch 1, step 2: the loss is inf")


def test_a_lost_member_is_named_by_its_number_and_the_others_stay():
    guard = loop.Guard("cpu", 3)
    for number, losses in enumerate(([0.5, 0.5, 0.5], [0.25, math.nan, 0.25], [math.inf, math.nan, 0.125])):
        guard.see(steps(0.0)[0]._replace(number=number, value=torch.tensor(losses)))
    assert list(guard.lost) == [1, 0]
    assert guard.lost[1] == "epoch 1, step 2: the loss is nan, the last finite loss was 0.5"
    assert guard.losses[2] == 0.125


@pytest.mark.slow
def test_seeds_have_a_folder_each_and_student_intervals(tmp_path):
    outcome = training.train(short(seeds=3, seed=5, epochs=1), tmp_path / "runs")
    values = []
    for seed in (5, 6, 7):
        one = json.loads((tmp_path / "runs" / f"seed{seed}" / "result.json").read_text())
        assert one["config"]["seed"] == seed
        values.append(one["last"]["test_accuracy"])
    assert len(set(values)) > 1
    found = mean_interval(values, within=SHARE)
    mean, interval = found.value, found.interval
    summary = outcome.result["last"]["test_accuracy"]
    assert summary["values"] == values
    assert (summary["mean"], tuple(summary["interval"])) == (mean, tuple(interval))
    held = json.loads((tmp_path / "runs" / "result.json").read_text())
    assert held["last"]["test_accuracy"]["interval"] == pytest.approx(list(interval))
    assert f"{mean:.4g} {interval}" in (tmp_path / "runs" / "table.md").read_text()
    assert {"figure.png", "figure.pdf"} <= {file.name for file in (tmp_path / "runs").iterdir()}


@pytest.mark.slow
def test_one_seed_of_several_is_the_run_alone(tmp_path):
    training.train(short(seeds=2, epochs=1), tmp_path / "runs")
    training.train(short(seed=1, epochs=1), tmp_path / "alone")
    together, alone = (load_checkpoint(tmp_path / name / "last.pt") for name in ("runs/seed1", "alone"))
    assert_close(together.state["model"], alone.state["model"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "train-circles-dense"),
        ({"lap": True}, "train-circles-dense-lap"),
        ({"lap": True, "train_size": 50, "seed": 3}, "train-circles-dense-lap-n50-seed3"),
        ({"seeds": 4}, "train-circles-dense-4seeds"),
        ({"data_dir": "elsewhere"}, "train-circles-dense"),
        ({"lap": True, "mean_field": True}, "train-circles-dense-lap-meanfield"),
    ],
)
def test_the_default_folder_says_what_it_holds(changes, name):
    assert str(folder_of(short().model_copy()))[:5] == "runs/"
    config = type(short())(dataset="circles", **changes)
    assert str(folder_of(config)) == f"runs/{name}"
    other = str(folder_of(type(config)(dataset="circles", **changes, lr=0.5)))
    assert other.startswith(f"runs/{name}-")


@pytest.mark.slow
def test_the_figure_is_drawn_or_its_absence_explained(tmp_path, monkeypatch):
    train(tmp_path / "with", epochs=2)
    assert (tmp_path / "with" / "figure.png").stat().st_size > 10_000
    assert (tmp_path / "with" / "figure.pdf").exists()

    without_matplotlib(monkeypatch)
    said = []
    outcome = train_one(short(epochs=1), tmp_path / "without", say=said.append)
    assert outcome.result["figure"].startswith("not drawn: ModuleNotFoundError: import of matplotlib")
    assert any("matplotlib" in line for line in said)
    assert not (tmp_path / "without" / "figure.png").exists()


def test_bfloat16_trains_and_stays_near_float32(tmp_path, finished):
    train(tmp_path / "run", bf16=True)
    risk, exact = (float(rows(path)[-1]["running_risk"]) for path in (tmp_path / "run", finished[0]))
    assert risk != exact
    assert abs(risk - exact) < 0.1


def test_events_for_tensorboard_on_request(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            written.append("closed")

        def add_scalar(self, name, value, epoch):
            written.append((name, epoch))

        def flush(self):
            pass

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: name == "tensorboard" or found(name, *a))
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    train(tmp_path / "run", epochs=2, tensorboard=True)
    assert written[0] == (str(tmp_path / "run" / "events"), 1)
    assert {("running_risk", 1), ("multiplier", 2), ("energy_2", 2)} <= set(written[1:])
    assert written[-1] == "closed"


def test_tensorboard_that_is_absent_is_one_line(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else found(name, *a)
    )
    with pytest.raises(ValueError, match="tensorboard=true needs the package tensorboard"):
        train(tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_progress_is_a_line_a_minute_where_there_is_no_terminal(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    asked = []
    with progress.Progress("train", 100, 20) as bar:
        for done in range(21, 61):
            now[0] += 2.0
            bar.update(done, lambda: asked.append(1) or "loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["train: 50 of 100 steps, loss 0.5, 2 min to go"]
    assert len(asked) == 1


def test_progress_on_a_terminal_is_a_bar_with_figures(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_DRAWINGS", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    with progress.Progress("train", 10) as bar:
        bar.update(5, lambda: "loss 0.5, λ 3")
    assert "5 of 10 steps, loss 0.5, λ 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("schedule", "steps", "told"), [("cosine", 5, True), ("cosine", 99, False), ("multistep", 5, False)]
)
def test_a_cosine_that_max_steps_cuts_short_is_told(tmp_path, schedule, steps, told):
    said = []
    train_one(short(schedule=schedule, max_steps=steps, epochs=2), tmp_path / "run", say=said.append)
    assert ("max_steps ends it before the learning rate is 0, after 8 steps." in said[0]) == told
    assert rows(tmp_path / "run")[0]["lr"] == "0.05"


@pytest.mark.slow
def test_the_share_of_the_penalty_in_the_loss_is_in_the_progress_line_the_table_and_the_figure(tmp_path):
    sums = Sums(0.1)
    one = torch.tensor(1.0)
    sums.add(Step(0, 0, 4 * one, 3 * one, 2 * one, torch.tensor(5), 10, one))
    assert "penalty 25.0% of the loss" in sums.words()
    train(tmp_path / "run", epochs=2)
    lines = rows(tmp_path / "run")
    assert all(0 < float(line["penalty_share"]) < 1 for line in lines)
    drawn = training_figure.draw(load_checkpoint(tmp_path / "run" / "last.pt").rows)
    (panel,) = [axes for axes in drawn.axes if axes.get_ylabel() == "share of penalty in loss"]
    shown = panel.get_lines()[0].get_ydata()
    assert list(shown) == [float(line["penalty_share"]) for line in lines]
