"""`regimes.fit`: what it measures on, what it refuses, and networks that are not as usual."""

import threading
from math import isfinite

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.testing import assert_close

import regimes
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.errors import UserError
from regimes.training import results
from regimes.training.definition import definition

X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def net(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs))


def fit(path, model=None, **changes):
    return regimes.fit(net() if model is None else model, **{"train": (X, Y), "epochs": 2, "out": path} | changes)


@pytest.mark.slow
def test_samples_that_lie_class_by_class_are_measured_fairly(tmp_path):
    x = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(1))
    y = torch.cat([torch.zeros(12_000), torch.ones(8_000)]).long()  # nothing to learn but their shares
    parts = {"train": (x, y), "validation": (x, y), "test": (x, y)}
    run = fit(tmp_path, epochs=1, max_steps=100, lr=0.01, momentum=0.0, **parts)
    with torch.no_grad():
        truth = float((run.model(x).argmax(1) == y).double().mean())
    last = run.result["last"]
    assert run.result["samples"]["train_measured"] < 20_000
    for name in ("train_accuracy", "validation_accuracy", "test_accuracy"):
        assert abs(last[name] - truth) < 0.03  # six standard errors of 3,200; the first ones gave 0.99


def test_batches_of_chosen_samples_hold_these_alone_in_every_order():
    some = torch.tensor([1, 4, 5, 9])
    chosen = Batches(Labelled(X, torch.arange(60)), 3, shuffle=False, only=some)
    assert len(chosen) == 2
    assert torch.cat([labels for _, labels in chosen.epoch(0)]).tolist() == some.tolist()
    mixed = [labels for _, labels in chosen.plain(shuffle=True).epoch(0)]
    assert set(torch.cat(mixed).tolist()) <= set(some.tolist())
    assert len(mixed[0]) == 3


class Locked(nn.Module):
    """A network that cannot be copied."""

    def __init__(self):
        super().__init__()
        self.inner, self.lock = net(), threading.Lock()

    def forward(self, x):
        return self.inner(x)


class Engine(Locked):
    """A network that has no gradient in eval mode."""

    def forward(self, x):
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            return self.inner(x)


@pytest.mark.slow
@pytest.mark.parametrize("model", [Locked, Engine])
def test_a_network_whose_flops_cannot_be_counted_keeps_its_results(tmp_path, model):
    run = fit(tmp_path, model())
    assert run.result["flops_per_image"] is run.result["share_of_matrix_rate"] is None
    assert run.result["outcome"] == "trained"
    assert "flops" not in (tmp_path / "table.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_risk_in_half_precision_is_measured_as_it_is_trained(tmp_path):
    x, y = X.half(), X.sum(1, keepdim=True).half()
    far = y.clone()
    far[5] = 2300.0  # its square is beyond float16
    kept = {"train": (x, y), "validation": (x, far), "risk": mse_loss, "lr": 0.01, "momentum": 0.0}
    run = fit(tmp_path / "half", net(1).half(), **kept)
    assert isfinite(run.result["last"]["validation_risk"])
    whole = {name: tuple(part.float() for part in kept[name]) for name in ("train", "validation")}
    other = fit(tmp_path / "single", net(1), **kept | whole)
    assert_close(run.result["last"]["validation_risk"], other.result["last"]["validation_risk"], rtol=1e-3, atol=0)


def test_a_risk_in_half_precision_is_a_mean_for_large_targets_too(tmp_path):
    y = 400 * X.sum(1, keepdim=True).half()
    fit(tmp_path, net(1).half(), train=(X.half(), y), risk=mse_loss, epochs=1, lr=1e-6)


class Temperature(nn.Module):
    """A risk with a weight of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.01))

    def forward(self, outputs, labels):
        return cross_entropy(outputs * self.scale, labels)


class Extra(Locked):
    """A network with more in its state than tensors."""

    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


class Bag(nn.Module):
    """A network of words, with sparse gradients."""

    def __init__(self):
        super().__init__()
        self.words, self.last = nn.EmbeddingBag(9, 4, sparse=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.words(x.long().abs()))


NORMED = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
REFUSED = {
    "risk with weights": (None, {"risk": Temperature()}, "a risk without weights to train; this Temperature has scale"),
    "no momentum": (None, {"nesterov": True, "momentum": 0.0}, "nesterov needs a momentum above 0"),
    "batch of one": (NORMED, {"batch": 1}, r"Pass batch=2"),
    "sparse": (Bag(), {}, r"layer 'words' has sparse=True"),
    "extra state": (Extra(), {}, "_extra_state is none"),
    "scripted": (torch.jit.script(net()), {}, "comes from torch.jit.script"),
    "no such block": (None, {"blocks": "nosuch", "lap": True}, "nosuch"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_would_not_be_trained_as_asked_is_refused_before_there_is_a_folder(tmp_path, kind):
    model, changes, words = REFUSED[kind]
    with pytest.raises(UserError, match=words):
        fit(tmp_path / "run", model, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_trained(tmp_path, off):
    with off(), pytest.raises(UserError, match="gradients, which are off"):
        fit(tmp_path / "run")


@pytest.mark.slow
def test_milestones_ask_for_the_schedule_that_heeds_them(tmp_path):
    run = fit(tmp_path, milestones=[1], gamma=0.5)
    assert [row["lr"] for row in run.metrics] == [0.05, 0.025]


class Noting(nn.Module):
    """A network that keeps a list, a table and a named number of what it has seen."""

    def __init__(self, width=8):
        super().__init__()
        self.inner, self.seen, self.log, self.step = nn.Linear(3, 2), [], {}, 0

    def forward(self, x):
        self.seen.append(float(x.mean()))
        self.log[self.step] = float(x.std())
        setattr(self, "mean", float(x.mean()))  # noqa: B010
        self.step += 1
        return self.inner(x)


class Widths(nn.Module):
    """A network whose list of settings no call changes, beside one that it does."""

    def __init__(self, *widths):
        super().__init__()
        self.widths, self.inner, self.seen = list(widths), nn.Linear(3, 2), []

    def forward(self, x):
        self.seen.append(self.widths[0])
        return self.inner(x) * self.widths[0]


def test_what_a_call_fills_is_no_part_of_a_network_and_what_it_reads_is():
    model = Noting()
    before = definition(model, model)
    model(X)
    assert definition(model, model) == before
    one, other = Widths(1, 2), Widths(2, 1)
    assert definition(one, one) != definition(other, other)


@pytest.mark.slow
@pytest.mark.parametrize("made", [Noting, lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))])
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_network_whose_call_has_changed_it_goes_on(tmp_path, made):
    model = made()
    fit(tmp_path, model, epochs=1)
    assert len(fit(tmp_path, model, epochs=2).metrics) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_weights_without_a_shape_are_told_by_name(tmp_path):
    def lazy():
        return nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))

    fit(tmp_path, lazy(), epochs=1)
    with pytest.raises(UserError, match=r"0\.weight of .* has no shape before its first call"):
        regimes.load(tmp_path, model=lazy())


class Block(nn.Linear):
    """A residual block."""

    def forward(self, z):
        return z + super().forward(z).tanh()


@pytest.mark.slow
def test_a_traced_network_is_trained_as_the_network_with_its_blocks_named(tmp_path):
    def made():
        torch.manual_seed(0)
        return nn.Sequential(Block(3, 3), Block(3, 3), nn.Linear(3, 2))

    named = fit(tmp_path / "named", made(), blocks=Block, lap=True)
    traced = fit(tmp_path / "traced", regimes.trace_residuals(made(), Block, shortcuts=()), lap=True)
    assert traced.result["last"]["transport"] == named.result["last"]["transport"] > 0
    assert traced.traced is not None
    assert isinstance(traced.model, nn.Sequential)
