"""What models, training and data refuse, as a user calls them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import regimes


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, z):
        return z + self.inner(z)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.blocks(x))


X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
GIVEN = {"train": (X[:40], Y[:40]), "validation": (X[40:], Y[40:]), "lap": True, "blocks": "blocks.?", "epochs": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": (X, Y[:59])}, r"fit: train needs inputs \(n, \*feature\), targets .*n is 60 and 59"),
        ({"train": (X, Y[:, None]), "validation": None}, r"integers.*got labels of shape \(2, 1\)"),
        ({"train": (X.double(), Y), "validation": None}, "the model's precision, torch.float32; got torch.float64"),
        ({"train": (X, Y + 1)}, r"class labels 0..2, as the model has 3 outputs; train has 1..3"),
        ({"train": (X * float("nan"), Y)}, "fit: train needs finite inputs"),
        ({"train": X}, "train as a pair of tensors"),
        ({"validation": (X[:, :4], Y)}, "validation inputs like those of train"),
        ({"test": (X, Y.float())}, "test targets like those of train"),
        ({"risk": mse_loss, "train": (X, X[:, 0]), "validation": None}, r"shape \(2, 3\); got numbers of shape \(2,\)"),
        ({"learning_rate": 0.1}, "fit has no setting learning_rate; it has epochs"),
        ({"lr": -1.0}, "fit: lr: Input should be greater than 0; got -1.0"),
        ({"blocks": None}, "trace_residuals needs the residual blocks"),
        ({"blocks": "layer?"}, "no submodule 'layer\\?'"),
        ({"risk": "mse"}, "risk as a function"),
        ({"target": 0.9, "validation": None}, "target is an accuracy on validation samples"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_before_any_folder_is_made(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        regimes.fit(Net(), **{**GIVEN, "out": tmp_path / "run", **changes})
    assert not (tmp_path / "run").exists()


def test_load_needs_weights_that_are_best_or_last(tmp_path):
    with pytest.raises(ValueError, match="weights as 'best' or 'last'; got 'first'"):
        regimes.load(tmp_path, weights="first")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"form": 3}, "form as one of divided, multiplied, risk_only, or a function; got 3"),
        ({"form": "divide"}, "form as one of divided, multiplied, risk_only, or a function; got 'divide'"),
        ({"every": 2.5}, "every.* whole number"),
        ({"multiplier": "1"}, "multiplier λ0"),
    ],
)
def test_least_action_refuses_impossible_settings_when_it_is_made(given, message):
    with pytest.raises(ValueError, match=message):
        regimes.LeastAction(**given)


@pytest.mark.parametrize("objective", [regimes.Plain, regimes.LeastAction])
def test_targets_of_the_wrong_shape_never_broadcast(objective):
    net = regimes.trace_residuals(nn.Sequential(Block(), nn.Linear(5, 1)), "0")
    for risk, targets in ((mse_loss, X[:, 0]), (mse_loss, X[:, :2]), (mse_loss, X[:1, :1])):
        with pytest.raises(ValueError, match=r"or as numbers of the output's shape \(60, 1\); got numbers of shape"):
            objective(risk)(net(X), targets)
    right = objective(mse_loss)(net(X), X[:, :1])
    assert right.risk.ndim == 0


@pytest.mark.parametrize("objective", [regimes.Plain, regimes.LeastAction])
def test_a_risk_that_is_no_mean_is_refused(objective):
    net = regimes.trace_residuals(nn.Sequential(Block(), nn.Linear(5, 3)), "0")
    with pytest.raises(ValueError, match="needs a risk that is one number, a mean"):
        objective(nn.CrossEntropyLoss(reduction="none"))(net(X), Y)


def test_choices_are_taken_by_name():
    net = regimes.trace_residuals(nn.Sequential(Block(), nn.Linear(5, 3)), "0")
    named = regimes.LeastAction(form="multiplied", convention="sum_over_features", risk="cross_entropy")
    from regimes.training.objectives import multiplied
    from regimes.transport.energy import sum_over_features

    torch.manual_seed(0)
    assert named(net(X), Y).value == regimes.LeastAction(form=multiplied, convention=sum_over_features)(net(X), Y).value
