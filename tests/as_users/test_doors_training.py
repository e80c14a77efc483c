"""What models, training and data refuse, as a user calls them."""

import pytest
import torch
from doors import Door, cases, loses, not_taken
from torch import nn
from torch.nn.functional import mse_loss

import regimes
from regimes.activations import RELU
from regimes.data import images
from regimes.data.augment import flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import Labelled, classification
from regimes.data.dataset import class_targets, classification_error
from regimes.data.synthetic import circles, gaussian_inputs, sphere, teacher_student
from regimes.data.teacher import random_teacher
from regimes.models.initialise import LAWS, initialise
from regimes.models.mlp import MLP
from regimes.models.residual import Block as Block_
from regimes.models.residual import Segment
from regimes.models.two_layer import TwoLayer
from regimes.training.ensemble import Ensemble


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
        ({"train": (X, Y[:, None]), "validation": None}, r"integers.*got labels of shape \(32, 1\)"),
        ({"train": (X.double(), Y), "validation": None}, "the model's precision, torch.float32; got torch.float64"),
        ({"train": (X, Y + 1)}, r"class labels 0..2, as the model has 3 outputs; train has 1..3"),
        ({"train": (X * float("nan"), Y)}, "fit: train needs finite inputs"),
        ({"train": X}, "train as a pair of tensors .*; got Tensor"),
        ({"train": (X.numpy(), Y)}, "train as a pair of tensors .*; got tuple of ndarray, Tensor"),
        ({"train": (X.to_sparse(), Y)}, "needs inputs as a dense tensor .* Use to_dense"),
        ({"validation": (X[:, :4], Y)}, "validation inputs like those of train"),
        ({"test": (X, Y.float())}, "test targets like those of train"),
        ({"risk": mse_loss, "train": (X, X[:, 0]), "validation": None}, r"\(32, 3\); got numbers of shape \(32,\)"),
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


def generator():
    return torch.Generator().manual_seed(0)


def mlp(**changes):
    return MLP(**{"widths": (3, 4, 2), "activation": RELU, "generator": generator(), **changes})


def two_layer(**changes):
    given = {"inputs": 3, "width": 4, "outputs": 2, "std": 1.0, "activation": RELU, "generator": generator()}
    return TwoLayer(**given | changes)


DOORS = {
    "circles": Door(
        lambda **given: circles(generator=generator(), **given),
        lambda: {"samples": 10, "noise": 0.1, "factor": 0.3},
        name="circles",
    ),
    "sphere": Door(
        lambda **given: sphere(generator=generator(), **given), lambda: {"samples": 4, "inputs": 3}, name="sphere"
    ),
    "gaussian_inputs": Door(
        lambda **given: gaussian_inputs(generator=generator(), **given),
        lambda: {"samples": 4, "inputs": 3},
        name="gaussian_inputs",
    ),
    "random_teacher": Door(
        lambda **given: random_teacher(generator=generator(), **given),
        lambda: {"inputs": 4, "neurons": 3, "magnitude": 1.0},
        name="random_teacher",
    ),
    "teacher_student": Door(
        lambda **given: teacher_student(generator=generator(), **given),
        lambda: {"train": 4, "test": 5, "inputs": 3},
        name="teacher_student",
    ),
    "classification_error": Door(
        classification_error,
        lambda: {"outputs": torch.randn(6, 3), "targets": torch.eye(3)[[0, 1, 2, 0, 1, 2]]},
        sized={"outputs": (0, 1), "targets": (0, 1)},
        free={"outputs: half", "targets: half", "outputs: an axis more"},
    ),
    "class_targets": Door(
        class_targets, lambda: {"labels": torch.tensor([0, 1, 2]), "classes": 3}, name="class_targets"
    ),
    "Batches": Door(
        lambda x, labels, size: Batches(Labelled(x, labels), size),
        lambda: {"x": torch.randn(6, 3), "labels": torch.tensor([0, 1, 0, 1, 0, 1]), "size": 2},
        sized={"x": (0,), "labels": (0,)},
        free={
            # Inputs and targets of one's own may have any axes, and any type that the network takes.
            *(f"x: {how}" for how in ("complex", "integer", "half", "an axis less", "an axis more")),
            *(f"labels: {how}" for how in ("an axis more",)),
        },
        name="Batches",
    ),
    "TwoLayer": Door(two_layer, lambda: {"inputs": 3, "width": 4, "outputs": 2, "std": 1.0}, name="TwoLayer"),
    "TwoLayer of x": Door(
        lambda x: two_layer(dtype=torch.float32)(x),
        lambda: {"x": torch.randn(5, 3)},
        sized={"x": (1,)},
        free={f"x: {how}" for how in ("integer", "complex", "half")} | {"x: an axis more", "x: a list"},
        name="TwoLayer",
    ),
    "Block": Door(
        lambda scale: Block_(nn.Linear(3, 3), scale=scale), lambda: {"scale": 1.0}, free={"scale: -1"}, name="Block"
    ),
    "Centred": Door(lambda alpha: regimes.Centred(nn.Linear(3, 2), alpha), lambda: {"alpha": 2.0}, name="Centred"),
    "initialise": Door(
        lambda gain: initialise(nn.Linear(3, 2), LAWS["kaiming"], gain, generator=generator()),
        lambda: {"gain": 1.0},
        name="initialise",
    ),
}


def test_the_right_input_is_taken():
    assert not_taken(DOORS) == []


@pytest.mark.parametrize(("door", "argument", "how"), cases(DOORS))
def test_wrong_input_is_refused_or_stays_in_sight(door, argument, how):
    assert loses(DOORS[door], argument, how) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp(activation="relu"), "MLP needs an Activation .*activation\\('relu'\\)"),
        (lambda: mlp(sigma_w=float("nan")), "MLP needs sigma_w as a finite number above 0"),
        (lambda: mlp(widths=(3, 2.5, 1)), "MLP needs every width as a whole number"),
        (lambda: mlp()(torch.randn(4, 5, dtype=torch.float64)), "MLP needs x .* d is 5 and 3"),
        (lambda: two_layer(activation=torch.relu), "TwoLayer needs an Activation"),
        (lambda: initialise(nn.Linear(1, 1), "kaiming", generator=generator()), "initialise needs a law"),
        (lambda: classification("digits", choose="balanced"), "needs choose as a function"),
        (lambda: classification("digits", train_size=2.5), "train_size as a whole number"),
        (lambda: images.unit_norm(torch.zeros(2, 3), torch.ones(1, 3)), "images that are not all black"),
        (lambda: images.standardised(torch.ones(2, 3), torch.ones(1, 3)), "pixels that differ"),
        (lambda: random_crop(1.5), "random_crop needs"),
        (lambda: flip()(torch.zeros(3, 8, 8), generator()), r"Augmentation needs x \(n, channels, height, width\)"),
        (lambda: Block_(nn.Linear(3, 3), activation="relu"), "Block needs activation as a module or a function"),
        (lambda: Block_(nn.Linear(3, 1))(torch.randn(4, 3)), r"residual of the state's shape \(4, 3\); got \(4, 1\)"),
        (lambda: Segment([nn.Linear(3, 3)]), "a segment needs Blocks: wrap a residual function"),
        (lambda: regimes.ResidualNet(nn.Identity(), [nn.Linear(3, 3)], nn.Identity()), "segments as Segment"),
        (lambda: regimes.ResidualNet(nn.Identity(), [], None), "its head as a torch module"),
        (lambda: regimes.trace_residuals("net", "0"), "trace_residuals needs a torch module; got str"),
        (lambda: Ensemble([nn.Linear(3, 2), nn.Linear(3, 1)]), "networks of one architecture"),
        (lambda: Ensemble([nn.Linear(3, 2)] * 2)(torch.randn(3, 4, 3)), "Ensemble needs x"),
    ],
)  # fmt: skip
def test_what_has_the_wrong_kind_or_shape_is_refused_at_the_door(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_states_in_half_precision_are_widened_before_their_difference():
    """In bfloat16 a step of 0.004 beside a state of 1 is lost in a difference."""
    block = Block_(nn.Identity(), scale=0.004, activation=nn.Identity()).bfloat16()
    assert block.move(torch.ones(1, 3, dtype=torch.bfloat16)).step.dtype == torch.float32
    traced = regimes.trace_residuals(nn.Sequential(Block()).bfloat16(), "0")
    assert traced(torch.randn(2, 5).bfloat16()).steps[0][0].dtype == torch.float32


class Pairs(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize("given", [3, None, ["a"]])
def test_what_is_no_path_is_refused_by_load(given):
    with pytest.raises(ValueError, match="a path is needed, as text or a Path; got"):
        regimes.load(given)


def test_models_that_are_none_are_refused_by_fit_and_load(tmp_path):
    x, labels = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    with pytest.raises(ValueError, match="one tensor; got tuple"):
        regimes.fit(Pairs(3, 2), (x, labels), out=tmp_path / "pairs", epochs=1)
    run = regimes.fit(nn.Linear(3, 2), (x, labels), out=tmp_path / "run", epochs=1).path
    with pytest.raises(ValueError, match="made anew"):
        regimes.load(run, model=nn.Linear)  # type: ignore[arg-type]
