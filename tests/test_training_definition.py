"""What a function or a network is: other code, constants or structure give another digest, the same ones do not."""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from launch import environment
from torch import fx, nn
from torch.nn import functional

from regimes.training.definition import definition

SHARE = 0.5
SETTINGS = argparse.Namespace(share=0.5, epochs=3)


def scaled(factor):
    return lambda outputs, targets: factor * (outputs - targets).square().mean()


def weighed(outputs, targets, share=0.5):
    return share * (outputs - targets).square().mean()


def by_global(outputs, targets):
    return SHARE * (outputs - targets).square().mean()


def by_settings(outputs, targets):
    return SETTINGS.share * (outputs - targets).square().mean()


class Huber:
    def __init__(self, delta):
        self.delta, self.calls = delta, 0

    def __call__(self, outputs, targets):
        self.calls += 1
        return functional.huber_loss(outputs, targets, delta=self.delta)

    def method(self, outputs, targets):
        return self.delta * (outputs - targets).abs().mean()


@dataclass(slots=True)
class Slotted:
    delta: float

    def __call__(self, outputs, targets):
        return functional.huber_loss(outputs, targets, delta=self.delta)


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, outputs, targets):
        return (self.weight * (outputs - targets).square()).mean()


RISKS = {  # kinds, each as a pair of makers: one risk, and another
    "a lambda's constant": (
        lambda: lambda o, t: 2 * (o - t).abs().mean(),
        lambda: lambda o, t: 3 * (o - t).abs().mean(),
    ),
    "a lambda's code": (lambda: lambda o, t: (o - t).abs().mean(), lambda: lambda o, t: (o + t).abs().mean()),
    "a closure": (lambda: scaled(2.0), lambda: scaled(3.0)),
    "a closure over a tensor": (lambda: scaled(torch.ones(3)), lambda: scaled(torch.tensor([1.0, 2.0, 3.0]))),
    "a partial's keyword": (lambda: partial(weighed, share=0.1), lambda: partial(weighed, share=0.2)),
    "a partial of a library": (
        lambda: partial(functional.cross_entropy, label_smoothing=0.1),
        lambda: functional.cross_entropy,
    ),
    "a module's setting": (lambda: nn.SmoothL1Loss(beta=1.0), lambda: nn.SmoothL1Loss(beta=0.5)),
    "a module's weights": (
        lambda: nn.CrossEntropyLoss(torch.ones(3)),
        lambda: nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0])),
    ),
    "a module of one's own": (lambda: Weighted([1.0, 2.0]), lambda: Weighted([1.0, 3.0])),
    "an object": (lambda: Huber(1.0), lambda: Huber(2.0)),
    "a method": (lambda: Huber(1.0).method, lambda: Huber(2.0).method),
    "an object with slots": (lambda: Slotted(1.0), lambda: Slotted(2.0)),
    "a wrapped function": (lambda: torch.no_grad()(scaled(2.0)), lambda: torch.no_grad()(scaled(3.0))),
    "a library's function": (lambda: functional.mse_loss, lambda: functional.l1_loss),
}


@pytest.mark.parametrize("kind", RISKS)
def test_another_risk_has_another_digest_and_the_same_one_made_anew_has_not(kind):
    one, other = RISKS[kind]
    assert definition(one()) == definition(one())
    assert definition(other()) == definition(other())
    assert definition(one()) != definition(other())


def test_a_default_value_counts():
    def other(outputs, targets, share=0.7):
        return share * (outputs - targets).square().mean()

    def same(outputs, targets, share=0.5):
        """A docstring is no part of it."""
        return share * (outputs - targets).square().mean()

    assert definition(same) == definition(weighed)
    assert definition(other) != definition(weighed)


def test_a_global_that_a_risk_reads_counts_and_settings_that_it_does_not_read_do_not(monkeypatch):
    before = definition(by_global), definition(by_settings)
    monkeypatch.setattr(SETTINGS, "epochs", 30)
    assert definition(by_settings) == before[1]
    monkeypatch.setattr(SETTINGS, "share", 0.7)
    monkeypatch.setitem(globals(), "SHARE", 0.7)
    assert definition(by_global) != before[0]
    assert definition(by_settings) != before[1]


def test_what_a_call_itself_writes_does_not_count():
    seen = []

    def noting(outputs, targets):
        seen.append(float(outputs.sum()))
        return (outputs - targets).square().mean()

    risks = [noting, Huber(1.0)]
    before = [definition(risk) for risk in risks]
    for risk in risks:
        risk(torch.ones(2), torch.zeros(2))
    assert [definition(risk) for risk in risks] == before


class Net(nn.Module):
    def __init__(self, activation=torch.relu, inner=None):
        super().__init__()
        self.first, self.last, self.activation, self.inner = nn.Linear(3, 4), nn.Linear(4, 2), activation, inner
        self.calls, self.seen = 0, None

    def forward(self, x):
        self.calls, self.seen = self.calls + 1, x
        return self.last(self.activation(self.first(x)))


class Tanh(Net):
    def forward(self, x):
        self.calls, self.seen = self.calls + 1, x
        return self.last(torch.tanh(self.first(x)))


Relu = type("Tanh", (Net,), {"forward": Net.forward})  # of the same name


def frozen():
    made = Net()
    made.first.requires_grad_(False)
    return made


NETS = {
    "activation as a function": (Net, lambda: Net(torch.tanh)),
    "activation as a module": (lambda: Net(nn.ReLU()), lambda: Net(nn.Tanh())),
    "activation as a lambda": (lambda: Net(lambda z: z.relu()), lambda: Net(lambda z: z.tanh())),
    "activation in the code": (Relu, Tanh),
    "setting of a layer": (lambda: Net(nn.LeakyReLU(0.1)), lambda: Net(nn.LeakyReLU(0.2))),
    "layers in another order": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.ReLU()),
    ),
    "dropout": (lambda: Net(nn.Dropout(0.1)), lambda: Net(nn.Dropout(0.5))),
    "width": (lambda: nn.Linear(3, 4), lambda: nn.Linear(3, 5)),
    "padding": (lambda: nn.Conv1d(2, 2, 3, padding=1), lambda: nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular")),
    "frozen weights": (Net, frozen),
    "attention heads": (
        lambda: nn.TransformerEncoderLayer(8, 2, activation="gelu"),
        lambda: nn.TransformerEncoderLayer(8, 2),
    ),
    "recurrent": (lambda: nn.RNN(3, 4), lambda: nn.RNN(3, 4, nonlinearity="relu")),
    "traced": (lambda: fx.symbolic_trace(Relu()), lambda: fx.symbolic_trace(Tanh())),
}


@pytest.mark.parametrize("kind", NETS)
def test_another_network_has_another_digest_and_the_same_with_other_weights_has_not(kind):
    def digest(made):
        return definition(made, made)

    one, other = NETS[kind]
    assert digest(one()) == digest(one())
    assert digest(one()) != digest(other())


def test_training_a_network_changes_nothing():
    model = nn.Sequential(Net(), nn.BatchNorm1d(2))

    def risk(outputs, targets):
        return (outputs - targets).square().mean() + sum(weight.norm() for weight in model.parameters())

    before = definition(model, model), definition(risk, model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    risk(model(torch.randn(4, 3)), torch.zeros(4, 2)).backward()
    optimiser.step()
    model.eval()
    assert (definition(model, model), definition(risk, model)) == before


@pytest.mark.slow
def test_a_process_started_anew_finds_the_same(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "from regimes.training.definition import definition\n"
        "NAMES = {'a', 'b', 'c'}\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last, self.act = torch.nn.Linear(2, 2), lambda z: z.tanh()\n"
        "        self.options = {'x': [1.0], 'y': object()}\n"
        "    def forward(self, x):\n"
        "        return self.act(self.last(x)) if 'u' in {'u', 'v', 'w'} else x\n"
        "net = Net()\n"
        "print(definition(net, net), definition(lambda o, t: len(NAMES) * o, net))\n"
    )
    here = environment()
    said = [
        subprocess.run([sys.executable, script], env=here, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1]


def test_what_cannot_be_read_costs_nothing():
    class Closed:
        __slots__ = ()

        def __getattribute__(self, name):
            raise RuntimeError("closed")

    closed = Closed()
    assert definition(lambda o, t: closed)
    assert definition(nn.LazyLinear(3), None)


def test_what_cannot_be_read_is_taken_for_nothing_else():
    class Shy(dict):
        def items(self):
            raise RuntimeError("not now")

    def risk(scale):
        settings = Shy(scale=scale)
        return lambda outputs, targets: settings["scale"] * functional.cross_entropy(outputs, targets)

    assert definition(risk(1.0)) != definition(risk(2.0))
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert definition(lambda: deep) != definition(lambda: deep)
