"""`regimes.fit`: one's own network on one's own tensors, with the checkpoints, resume and tables of `train`."""

import os
import signal

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.testing import assert_close

import regimes
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.errors import Interrupted, UserError
from regimes.lab.runs import read_run
from regimes.models.build import build
from regimes.training import loop, results
from regimes.training.checkpoint import load_checkpoint
from regimes.training.loop import Training, descend

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, width))

    def forward(self, z):
        return z + self.inner(z)


class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.stem = nn.Linear(5, 6)
        self.blocks = nn.Sequential(Block(6), Block(6))
        self.head = nn.Linear(6, outputs)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


def net(outputs=3):
    torch.manual_seed(0)
    return Net(outputs)


X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
SETTINGS = {"lap": True, "blocks": "blocks.?", "epochs": 4, "batch": 16, "lr": 0.02, "every": 3}
PARTS = {"train": (X[:40], Y[:40]), "validation": (X[40:50], Y[40:50]), "test": (X[50:], Y[50:])}


def fit(path, model=None, **changes):
    return regimes.fit(net() if model is None else model, **{**PARTS, **SETTINGS, "out": path, **changes})


def assert_same(path, other):
    for file in ("last.pt", "best.pt"):
        held, expected = load_checkpoint(path / file), load_checkpoint(other / file)
        assert_close(held.state["model"], expected.state["model"], rtol=0, atol=0)
        assert_close(held.state["objective"], expected.state["objective"], rtol=0, atol=0)
        assert_close(held.state["optimizer"]["state"], expected.state["optimizer"]["state"], rtol=0, atol=0)


def test_it_learns_and_says_what_it_reached(tmp_path):
    run = fit(tmp_path / "run", epochs=20)
    with torch.no_grad():
        accuracy = float((run.model(X[50:]).argmax(1) == Y[50:]).double().mean())
    assert run.result["last"]["test_accuracy"] == pytest.approx(accuracy)
    assert run.result["last"]["train_accuracy"] > 0.8
    assert run.metrics[-1]["epoch"] == 20
    assert run.metrics[0]["running_risk"] > run.metrics[-1]["running_risk"]
    assert 0 < run.metrics[0]["penalty_share"] < 1
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"config.yaml", "last.pt", "best.pt", "metrics.csv", "result.json", "table.md"} <= names
    assert not run.model.training


@pytest.mark.slow
def test_a_run_in_double_precision_that_goes_on_keeps_all_digits_of_its_first_risk(tmp_path):
    double = {"train": (X[:40].double(), Y[:40]), "validation": None, "test": None, "lap": False, "blocks": None}
    for epochs in (1, 2):
        fit(tmp_path / "longer", net().double(), **double, every=1, epochs=epochs)
    fit(tmp_path / "whole", net().double(), **double, every=1, epochs=2)
    starts = [load_checkpoint(tmp_path / name / "last.pt").start for name in ("longer", "whole")]
    assert starts[0] == starts[1]


def test_the_steps_are_those_of_the_plain_loop(tmp_path):
    run = fit(tmp_path / "run")
    model = regimes.trace_residuals(net(), "blocks.?")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    training = Training(model, regimes.LeastAction(every=3), optimiser)
    for _ in descend(training, Batches(Labelled(*PARTS["train"]), 16), epochs=4):
        pass
    assert_close(dict(run.model.state_dict()), dict(model.model.state_dict()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, steps):
    fit(tmp_path / "whole")
    see, count = loop.Guard.see, [0]

    def counting(self, step):
        see(self, step)
        count[0] += 1
        if count[0] == steps:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Guard, "see", counting)
        with pytest.raises(Interrupted, match=r"call regimes.fit again with the same arguments"):
            fit(tmp_path / "parts")
    fit(tmp_path / "parts", Net())  # other weights at the start do not matter: the checkpoint's are taken
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_more_epochs_make_the_run_longer_bit_for_bit(tmp_path):
    fit(tmp_path / "whole")
    fit(tmp_path / "parts", epochs=2)
    fit(tmp_path / "parts", Net())
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_runs_of_other_settings_go_side_by_side_without_a_folder_and_more_epochs_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, other, longer = (fit(None, **change) for change in ({"epochs": 1}, {"epochs": 1, "lr": 0.01}, {"epochs": 2}))
    assert first.path != other.path
    assert first.path == longer.path
    assert len(longer.metrics) == 2


def test_a_finished_run_gives_its_weights_again(tmp_path):
    first = fit(tmp_path / "run")
    said = []
    again = fit(tmp_path / "run", Net(), say=said.append)
    assert_close(dict(again.model.state_dict()), dict(first.model.state_dict()), rtol=0, atol=0)
    assert again.table == first.table
    assert any("fresh=True" in line for line in said)


def test_the_weights_of_the_best_epoch_are_read_back(tmp_path):
    run = fit(tmp_path / "run")
    loaded = regimes.load(tmp_path / "run", model=Net())
    with torch.no_grad():
        accuracy = float((loaded.model(X[50:]).argmax(1) == Y[50:]).double().mean())
    assert run.result["best"]["test_accuracy"] == pytest.approx(accuracy)
    assert loaded.data is None
    assert loaded.metrics == run.metrics
    with pytest.raises(ValueError, match="holds weights and no network: make yours, of class Net"):
        regimes.load(tmp_path / "run")
    with pytest.raises(ValueError, match="do not fit the model Net"):
        regimes.load(tmp_path / "run", model=Net(4))


def test_without_blocks_the_risk_alone_is_trained(tmp_path):
    run = fit(tmp_path / "run", lap=False, blocks=None)
    assert run.traced is None
    assert run.result["last"]["transport"] is None
    assert "λ" not in run.table[0]


def test_a_residual_net_knows_its_own_blocks(tmp_path):
    model = build("dense", (5,), 3, blocks=2, width=6)
    run = fit(tmp_path / "run", model, blocks=None)
    assert run.result["last"]["transport"] > 0
    assert run.model is model


def test_a_regression_has_risks_and_no_accuracy(tmp_path):
    parts = {name: (x, x[:, :1]) for name, (x, _) in PARTS.items()}
    run = fit(tmp_path / "run", net(1), risk=mse_loss, epochs=10, **parts)
    with torch.no_grad():
        risk = float(mse_loss(run.model(X[50:]), X[50:, :1]))
    assert run.result["last"]["test_risk"] == pytest.approx(risk, rel=1e-5)
    assert run.result["last"]["test_accuracy"] is None
    assert run.result["protocol"] == "best epoch by validation risk"
    assert run.metrics[-1]["running_accuracy"] is None
    assert "test accuracy" not in run.table[0]


def test_other_samples_or_another_model_do_not_go_on(tmp_path):
    fit(tmp_path / "run", epochs=1)
    with pytest.raises(ValueError, match="was trained on other samples"):
        fit(tmp_path / "run", train=(X[:40] + 1, Y[:40]))
    with pytest.raises(ValueError, match="model is 'Net' there, 'ResidualNet' here"):
        fit(tmp_path / "run", build("dense", (5,), 3, blocks=2, width=6), blocks=None)


class Otherwise(Block):
    def forward(self, z):
        return z + self.inner(z).tanh()


def otherwise():
    """A network of the same class name and shapes that computes something else."""
    model = net()
    model.blocks[1].__class__ = Otherwise
    return model


def smoothed(share):
    return lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, label_smoothing=share)


OTHERS = {
    "another constant in a closure": ({"risk": smoothed(0.2)}, "run of another risk: its code, constants or structure"),
    "another kind of risk": ({"risk": nn.CrossEntropyLoss(label_smoothing=0.1)}, "risk is '<lambda>' there"),
    "another activation": ({"model": otherwise()}, "run of another model: its code, constants or structure"),
    "another optimiser": ({"optimiser": "adam"}, "optimiser is 'sgd' there, 'adam' here"),
    "another momentum": ({"momentum": 0.5}, "momentum is 0.9 there, 0.5 here"),
    "other test samples": ({"test": (X[40:], Y[40:])}, "or tested on others"),
    "another reading of the output": ({"output": lambda made: made * 1.0}, "output"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_another_run_does_not_go_on_in_the_folder_and_the_same_made_anew_does(tmp_path, kind):
    changes, text = OTHERS[kind]
    first = fit(tmp_path / "run", risk=smoothed(0.1), epochs=1)
    with pytest.raises(UserError, match=text) as caught:
        fit(tmp_path / "run", **{"risk": smoothed(0.1), "epochs": 1, **changes})
    assert "\n" not in str(caught.value)
    assert fit(tmp_path / "run", risk=smoothed(0.1), epochs=1).table == first.table
    assert len(fit(tmp_path / "run", first.model, risk=smoothed(0.1), epochs=2).metrics) == 2


def test_weights_put_into_a_network_of_another_activation_are_told(tmp_path):
    fit(tmp_path / "run", epochs=1)
    regimes.load(tmp_path / "run", model=net())
    with pytest.warns(UserWarning, match="not those of the network that was trained"):
        regimes.load(tmp_path / "run", model=otherwise())


def summed(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="sum")


def with_weights(value):
    model = net()
    nn.init.constant_(model.head.weight, value)
    return model


@pytest.mark.parametrize(
    ("model", "changes", "text"),
    [
        (None, {"risk": summed}, "a sum"),
        (None, {"risk": lambda outputs, targets: 1.0}, "as a tensor; got float"),
        (None, {"risk": mse_loss}, "mse_loss ends in"),
        (None, {"train": (X[:40].long(), Y[:40]), "validation": None, "test": None}, "inputs that the model takes"),
        (Net().requires_grad_(False), {}, "requires_grad=False"),
        (with_weights(float("nan")), {}, "finite outputs of the model before training"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_there_is_a_folder(tmp_path, model, changes, text):
    with pytest.raises(ValueError, match=text):
        fit(tmp_path / "run", model, **changes)
    assert not (tmp_path / "run").exists()


def test_a_mask_of_minus_infinity_in_a_buffer_is_no_divergence(tmp_path):
    for length in ({"max_steps": 2}, {}):  # from the start, and from its checkpoint
        model = net()
        model.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        assert fit(tmp_path / "run", model, epochs=2, **length).result["outcome"] == "trained"


def test_no_card_is_no_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a CUDA graphics card"):
        fit(tmp_path / "run", device="cuda")


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_labels_of_any_integer_kind_are_labels(tmp_path, kind):
    parts = {name: (x, y.to(kind)) for name, (x, y) in PARTS.items()}
    assert fit(tmp_path / "run", epochs=1, **parts).table == fit(tmp_path / "same", epochs=1).table


def test_damaged_files_of_a_run_are_named(tmp_path):
    fit(tmp_path / "run", epochs=1)
    for file in ("result.json", "run.json"):
        (tmp_path / "run" / file).write_text("[")
        with pytest.raises(ValueError, match=f"{file} is damaged"):
            regimes.load(tmp_path / "run", model=net())


def test_other_code_goes_on_with_a_fit_only_when_that_is_asked_for(tmp_path, monkeypatch):
    commits = iter("abcdefgh")
    monkeypatch.setattr("regimes.lab.runs.same_code", lambda old, new: False)
    monkeypatch.setattr("regimes.lab.runs.provenance", lambda device: {"commit": next(commits) * 40, "started": "now"})
    for epochs in (1, 1):  # a finished one is shown again
        fit(tmp_path / "run", epochs=epochs)
    with pytest.raises(UserError, match="across_commits=True"):
        fit(tmp_path / "run", epochs=2)
    assert len(fit(tmp_path / "run", epochs=2, across_commits=True).result["commits"]) == 2
    launches = read_run(tmp_path / "run")["launches"]
    assert len({launch["stamp"]["data"] for launch in launches}) == 1
    assert launches[0]["stamp"]["data"] == load_checkpoint(tmp_path / "run" / "last.pt").data


def test_a_model_that_writes_to_its_input_leaves_the_samples_as_they_are(tmp_path):
    x, before = X.clone(), X.clone()
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3))
    regimes.fit(model, (x, Y), validation=(x[:10], Y[:10]), test=(x[10:20], Y[10:20]), out=tmp_path / "run", epochs=1)
    assert torch.equal(x, before)


RARE = (torch.arange(400) >= 380).long()


class RootOfMean(nn.Module):
    def forward(self, outputs, targets):
        return (outputs - targets).square().mean().sqrt()


@pytest.mark.parametrize(
    ("outputs", "targets", "risk"),
    [
        (2, RARE, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 20.0]))),
        (2, RARE, nn.CrossEntropyLoss(ignore_index=0)),
        (2, RARE.flip(0), nn.CrossEntropyLoss(ignore_index=1)),
        (1, torch.randn(400, 1), RootOfMean()),
    ],
)
def test_a_risk_that_is_no_mean_of_its_values_on_parts_is_refused(tmp_path, outputs, targets, risk):
    x = torch.randn(400, 5)
    with pytest.raises(UserError, match="and by its values on"):
        regimes.fit(nn.Linear(5, outputs), (x, targets), risk=risk, out=tmp_path / "run", epochs=1)


def weighted(outputs, targets):
    weight = torch.tensor([1.0, 20.0])[targets]
    return (weight * nn.functional.cross_entropy(outputs, targets, reduction="none")).mean()


@pytest.mark.parametrize("n", [2, 3, 400])
def test_weights_of_classes_in_a_mean_over_samples_are_taken(tmp_path, n):
    x, y = torch.randn(n, 5), RARE[-n:]
    found = regimes.fit(nn.Linear(5, 2), (x, y), test=(x, y), risk=weighted, out=tmp_path / "run", epochs=1)
    model = found.model.eval()
    assert found.result["last"]["test_risk"] == pytest.approx(float(weighted(model(x), y).detach()), rel=1e-5)
