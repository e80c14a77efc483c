"""What a run says of itself: accuracies in eval mode, divergence by its name, the same samples however short it is."""

import json
import math

import pytest
import torch
from short_training import STEPS, short, train

from regimes import training
from regimes.data.batches import Batches
from regimes.errors import Diverged, RunFailed, UserError
from regimes.lab import seeds_figure, training_figure, wild_risks
from regimes.lab.endings import full_card_told
from regimes.training import assemble, results
from regimes.training import run as runs
from regimes.training.checkpoint import data_of, load_checkpoint, model_of
from regimes.training.config import TrainConfig
from regimes.training.loop import descend
from regimes.training.metrics import evaluate
from regimes.training.run import train_one

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def without_figure(request, monkeypatch):
    if "figure" not in request.node.name:
        monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def poison(monkeypatch, *seeds: int) -> None:
    """Runs of these seeds meet a weight that is not finite in their second epoch."""
    real = runs.descend

    def poisoned(training, batches, **how):
        for step in real(training, batches, **how):
            if batches.seed in seeds and step.epoch == 1:
                next(training.model.parameters()).data[0] = math.inf
            yield step

    monkeypatch.setattr(runs, "descend", poisoned)


def test_train_accuracy_is_that_of_the_weights_named_in_eval_mode(tmp_path):
    outcome = train(tmp_path / "run")
    for which in ("best", "last"):
        held, entry = load_checkpoint(tmp_path / "run" / f"{which}.pt"), outcome.result[which]
        data = data_of(held.config)
        found = evaluate(model_of(held), Batches(data.train, 9, normalise=data.normalise, shuffle=False))
        assert entry["train_accuracy"] == pytest.approx(found.accuracy)
        assert entry["train_risk"] == pytest.approx(found.risk)
        row = held.rows[entry["epoch"] - 1]
        assert (entry["running_risk"], entry["running_accuracy"]) == (row["running_risk"], row["running_accuracy"])
        assert entry["running_risk"] != pytest.approx(entry["train_risk"])
    assert outcome.table[1]["train accuracy"] == outcome.result["last"]["train_accuracy"]
    assert "in eval mode, on all training samples" in (tmp_path / "run" / "table.md").read_text()


def test_of_many_training_samples_a_stated_part_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(assemble, "FITTED", 20)
    outcome = train(tmp_path / "run", epochs=1)
    assert outcome.result["samples"]["train_measured"] == 20
    assert "in eval mode, on 20 of the training samples" in (tmp_path / "run" / "table.md").read_text()


@pytest.mark.parametrize(
    "changes", [{"max_steps": 3}, {"epochs": 2}, {"max_steps": 3, "train_size": 90, "validation": None}]
)
@pytest.mark.parametrize("dataset", ["circles", "digits"])
def test_the_length_of_a_run_changes_no_part_of_its_data(dataset, changes):
    same = {name: value for name, value in changes.items() if name not in ("max_steps", "epochs")}
    few, whole = (data_of(TrainConfig(dataset=dataset, batch=8, **given)) for given in (changes, same))
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(few, part).x, getattr(whole, part).x)
        assert torch.equal(getattr(few, part).labels, getattr(whole, part).labels)


def test_a_validation_risk_that_is_nan_is_never_the_best(tmp_path, monkeypatch):
    real, risks = runs.evaluate, iter([math.nan, 2.0, math.nan, math.inf, 1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(
        runs, "evaluate", lambda *given, **options: real(*given, **options)._replace(risk=next(risks), accuracy=0.5)
    )
    outcome = train(tmp_path / "run")
    assert outcome.result["best"]["epoch"] == load_checkpoint(tmp_path / "run" / "best.pt").best["epoch"] == 2


def test_a_run_whose_validation_risks_are_all_nan_has_diverged(tmp_path, monkeypatch):
    real = runs.evaluate
    monkeypatch.setattr(runs, "evaluate", lambda *given, **options: real(*given, **options)._replace(risk=math.nan))
    with pytest.raises(Diverged) as caught:
        train(tmp_path / "run", epochs=2)
    assert not (tmp_path / "run" / "best.pt").exists()
    assert caught.value.outcome.result["outcome"] == "diverged"


def test_the_table_says_how_often_the_test_samples_were_measured(tmp_path):
    path = tmp_path / "run"

    def told(**changes):
        result = train(path, **changes).result
        return result["test_measurements"], path.joinpath("table.md").read_text().split("the test samples were ")[1]

    count, words = told(epochs=1)
    assert (count, words.split(".")[0]) == (1, "measured once, at the end")
    again, _ = told(epochs=1)  # a finished run is shown, and not measured again
    assert again == 1
    count, words = told(epochs=2)
    differ = json.loads((path / "result.json").read_text())["best"]["epoch"] == 1
    assert count == 2 + differ
    assert "each time that the run had come to an end" in words or count == 2
    assert ("with the best and with the last weights" in words) == differ


def test_a_run_says_that_fewer_test_images_were_measured(tmp_path):
    said = []
    train_one(short(epochs=1), tmp_path / "run", say=said.append)
    assert "40 test samples (of 359)" in said[0]
    assert "40 test samples (of 359)" in (tmp_path / "run" / "table.md").read_text()


def test_a_risk_far_beyond_a_guess_is_a_divergence():
    limit = wild_risks.WILD * math.log(10)
    assert wild_risks.wild(0.99 * limit, 10, 2.0) is None
    assert "over 1,000 times that of a guess, 2.3" in wild_risks.wild(1.01 * limit, 10, 2.0)
    assert wild_risks.wild(1.01 * limit, 10, 50.0) is None  # the initial weights were wild already
    assert "over 1,000 times that of the first step, 50" in wild_risks.wild(50_001.0, 10, 50.0)
    assert wild_risks.wild(1e30, None, 1.0) is None  # a regression has no guess to be compared with
    for risk in (math.nan, math.inf):
        assert str(risk) in wild_risks.wild(risk, None, 1.0)


def test_the_risk_of_the_first_step_survives_a_resume(tmp_path):
    train(tmp_path / "run", epochs=1)
    first = load_checkpoint(tmp_path / "run" / "last.pt").start
    made = assemble.assemble(short())
    assert first == pytest.approx(float(next(iter(descend(made.training, made.batches, epochs=1))).risk), rel=1e-5)
    train(tmp_path / "run", epochs=2)
    assert load_checkpoint(tmp_path / "run" / "last.pt").start == first


@pytest.mark.parametrize("lr", [10.0, 3.0])
def test_a_run_whose_measured_risk_is_wild_is_called_diverged_whenever_it_is_looked_at(tmp_path, monkeypatch, lr):
    """With a finite training loss."""
    monkeypatch.setattr(wild_risks, "WILD", 0.1)
    for _ in range(2):  # the second time it is finished
        with pytest.raises(Diverged, match=r"the risk on the test samples is .*--set lr=0.05") as caught:
            train(tmp_path / "run", lr=lr, epochs=1, lap=False)
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert result["outcome"] == "diverged"
        assert "the risk on the test samples is" in result["reason"]
        assert [line["weights"] for line in caught.value.outcome.table] == [
            "best, epoch 1, diverged",
            "last, epoch 1, diverged",
        ]
        assert "Diverged: the risk" in (tmp_path / "run" / "table.md").read_text()


def test_a_run_that_trains_is_called_so(tmp_path):
    assert train(tmp_path / "run", epochs=1).result["outcome"] == "trained"


def test_a_run_that_stops_at_a_divergence_leaves_a_result_that_says_so(tmp_path, monkeypatch):
    poison(monkeypatch, 0)
    with pytest.raises(Diverged, match="diverged at epoch 2, step 2") as caught:
        train(tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["outcome"], result["epochs"], result["last"]) == ("diverged", 1, None)
    assert result["reason"].startswith("epoch 2, step 2:")
    assert caught.value.outcome.table == [{"weights": "none: diverged", "whole epochs": 1}]
    assert "# dense on digits, least action: diverged" in (tmp_path / "run" / "table.md").read_text()


def test_a_diverging_seed_does_not_block_the_others(tmp_path, monkeypatch):
    poison(monkeypatch, 1)
    said = []
    outcome = training.train(short(seeds=3, epochs=2), tmp_path / "runs", say=said.append)
    assert outcome.result["diverged"] == [1]
    assert len(outcome.result["last"]["test_accuracy"]["values"]) == 2
    assert [(line["weights"], line["seeds"]) for line in outcome.table] == [
        ("best", 2), ("last", 2), ("diverged: seed 1", 1),
    ]  # fmt: skip
    page = (tmp_path / "runs" / "table.md").read_text()
    assert page.startswith("# dense on digits, least action, 3 seeds\n")
    assert "over the 2 seeds that did not diverge" in page
    assert any("diverged at epoch 2" in line for line in said)
    assert (tmp_path / "runs" / "figure.png").exists()


def test_a_figure_of_several_seeds_that_fails_is_said_so_and_costs_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds_figure, "draw", lambda runs: 1 / 0)
    said = []
    training.train(short(seeds=2, epochs=1), tmp_path / "runs", say=said.append)
    result = json.loads((tmp_path / "runs" / "result.json").read_text())
    assert result["figure"] == "not drawn: ZeroDivisionError: division by zero"
    assert f"Figure {result['figure']}." in said
    assert len(result["last"]["test_accuracy"]["values"]) == 2


def test_seeds_that_all_diverge_are_a_divergence(tmp_path, monkeypatch):
    poison(monkeypatch, 0, 1)
    with pytest.raises(Diverged, match="all 2 seeds diverged"):
        training.train(short(seeds=2, epochs=2), tmp_path / "runs")
    assert json.loads((tmp_path / "runs" / "result.json").read_text())["diverged"] == [0, 1]


def test_a_figure_that_fails_costs_nothing_but_itself(tmp_path, monkeypatch):
    seen = []

    def failing(rows):
        seen.append(json.loads((tmp_path / "run" / "result.json").read_text())["outcome"])
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(training_figure, "draw", failing)
    outcome = train(tmp_path / "run", epochs=1)
    assert seen == ["trained"]  # the result was there before
    assert outcome.result["figure"] == "not drawn: RuntimeError: no font at all"
    assert json.loads((tmp_path / "run" / "result.json").read_text())["figure"] == outcome.result["figure"]


def test_steps_of_an_epoch_are_what_the_tests_here_take_them_for():
    assert len(assemble.assemble(short()).batches) == STEPS


@pytest.mark.parametrize("sound", [True, False])
def test_a_wild_risk_is_laid_to_stale_statistics_only_where_those_of_the_batches_give_a_sound_one(
    tmp_path, monkeypatch, sound
):
    real = runs.evaluate

    def spoilt(model, *given, **options):
        with torch.no_grad():
            for norm in model.modules():
                if isinstance(norm, torch.nn.BatchNorm1d):
                    norm.running_mean -= 1e9
            if not sound:
                next(model.head.parameters()).mul_(1e9)
        return real(model, *given, **options)

    monkeypatch.setattr(runs, "evaluate", spoilt)
    with pytest.raises(Diverged) as caught:
        train(tmp_path / "run", epochs=1)
    assert ("statistics of batch norm are stale" in str(caught.value)) == sound
    assert ("; train longer, or take a smaller learning rate" in str(caught.value)) == sound


@pytest.mark.parametrize("name", ["gain", "p"])
def test_a_divergence_is_laid_to_the_setting_that_is_out_of_all_bounds(tmp_path, name):
    with pytest.raises(Diverged, match=f"take a smaller {name}: 1e\\+10 is far above") as caught:
        train(tmp_path / "run", **{name: 1e10})
    assert "learning rate" not in str(caught.value)


def test_a_full_memory_of_the_host_is_not_laid_to_the_card():
    words = "DefaultCPUAllocator: can't allocate memory"
    with pytest.raises(RuntimeError, match=words), full_card_told("cuda", "take a smaller batch"):
        raise RuntimeError(words)
    told = pytest.raises(RunFailed, match="the memory of the graphics card is full; take a smaller batch")
    with told, full_card_told("cuda", "take a smaller batch"):
        raise RuntimeError("CUDA error: out of memory")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_result_of_a_finished_run_is_named(tmp_path, text):
    train(tmp_path / "run", epochs=1)
    (tmp_path / "run" / "result.json").write_text(text)
    with pytest.raises(UserError, match=r"result\.json is damaged: restore it, or delete it"):
        train(tmp_path / "run", epochs=1)
