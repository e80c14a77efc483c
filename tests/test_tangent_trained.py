"""The numbers of laziness from a torch module and its tangent model, both trained."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import regimes
from regimes.models.scaling import Centred
from regimes.tangent.kernel import ntk
from regimes.tangent.laziness import kernel_drift, tangent_distance, weight_motion
from regimes.tangent.linearize import linearize
from regimes.tangent.trained import laziness

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = X[:, :1].sin()


def train(model, steps, lr):
    optimiser = torch.optim.SGD(model.parameters(), lr)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.mse_loss(model(X), Y).backward()
        optimiser.step()
    return model


def net():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def test_a_model_that_is_linear_in_its_weights_is_lazy_however_far_it_moves():
    model = nn.Linear(3, 1).double()
    tangent = linearize(model)
    found = laziness(train(model, 50, 0.1), train(tangent, 50, 0.1), X)
    assert found.verdict == "lazy"
    assert found.weight_motion > 0.5
    assert found.tangent_distance < 1e-12
    assert found.kernel_drift < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "verdict"), [(100.0, "lazy"), (0.3, "not lazy")])
def test_a_large_scale_makes_a_net_lazy_and_a_small_one_does_not(alpha, verdict):
    model = Centred(net(), alpha)
    tangent = linearize(model)
    found = laziness(train(model, 200, 0.1 / alpha**2), train(tangent, 200, 0.1 / alpha**2), X)
    assert found.verdict == verdict
    assert str(found).startswith(f"{verdict}: ")


def test_a_model_of_the_same_weights_with_another_activation_is_refused():
    model = net()
    tangent = train(linearize(model), 5, 0.3)
    other = nn.Sequential(model[0], nn.ReLU(), model[2])
    with pytest.raises(ValueError, match="other outputs of the same weights"):
        laziness(train(other, 5, 0.3), tangent, X)


def test_norms_and_dropout_in_training_mode_are_no_other_model():
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1)).double()
    tangent = train(linearize(model.eval()), 5, 0.1)
    assert laziness(train(model, 5, 0.1), tangent, X).weight_motion > 0


def test_the_numbers_are_those_of_the_plain_functions():
    model = net()
    start, tangent = deepcopy(model), linearize(model)
    train(model, 20, 0.3)
    train(tangent, 20, 0.3)
    found = laziness(model, tangent, X, kernel_samples=7)
    assert found.weight_motion == float(weight_motion(list(model.parameters()), list(start.parameters())).detach())
    few = X[:7]
    expected = kernel_drift(ntk(model, few, outputs="trace"), ntk(start, few, outputs="trace"))
    assert_close(found.kernel_drift, float(expected))
    assert_close(found.tangent_distance, float(tangent_distance(model(X), tangent(X)).detach()))


def test_what_is_no_trained_pair_is_refused():
    model = net()
    with pytest.raises(ValueError, match="needs a trained tangent model"):
        laziness(model, linearize(model), X)
    other = train(linearize(nn.Linear(3, 1).double()), 5, 0.1)
    with pytest.raises(ValueError, match="the model that was linearised; its tensors differ"):
        laziness(model, other, X)


@pytest.mark.parametrize(
    "name", ["laziness", "judge_laziness", "kernel_drift", "tangent_distance", "weight_motion", "linearize"]
)
def test_the_numbers_of_laziness_are_public_and_explained(name):
    assert len(getattr(regimes, name).__doc__) > 80
    assert name in dir(regimes)
