"""A model with kinks is told from one that bends smoothly, however its layers are called."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regimes.tangent.kinks import kink


class Of(nn.Module):
    """A layer given as a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def between(*layers, width=16, after=None):
    return nn.Sequential(nn.Linear(3, width), *layers, nn.Linear(after or width, 2))


def only_the_last_layer_of_a_relu_net():
    model = between(nn.ReLU())
    model[0].requires_grad_(False)
    return model


BENT = {
    "relu": lambda: between(nn.ReLU()),
    "one relu": lambda: between(nn.ReLU(), width=1),
    "functional relu": lambda: between(Of(F.relu)),
    "leaky relu": lambda: between(nn.LeakyReLU()),
    "hardly leaky": lambda: between(nn.LeakyReLU(0.999)),
    "hardtanh": lambda: between(nn.Hardtanh()),
    "selu": lambda: between(nn.SELU()),
    "max pooling": lambda: between(nn.Tanh(), nn.MaxPool1d(2), after=8),
    "rounded": lambda: between(Of(torch.round)),
    "one relu behind 64 tanh": lambda: nn.Sequential(between(nn.Tanh(), width=64), nn.Linear(2, 1), nn.ReLU()),
    "tanh and a little relu": lambda: between(Of(lambda z: torch.tanh(z) + 0.02 * F.relu(z))),
    "one relu behind 64 elu": lambda: nn.Sequential(between(nn.ELU(), width=64), nn.Linear(2, 1), nn.ReLU()),
}
SMOOTH = {
    "linear": lambda: nn.Linear(3, 2),
    "tanh": lambda: between(nn.Tanh()),
    "gelu": lambda: between(nn.GELU()),
    "silu": lambda: between(nn.SiLU(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 16), nn.SiLU()),
    "elu": lambda: between(nn.ELU()),
    "fast sine": lambda: between(Of(lambda z: torch.sin(30 * z))),
    "layer norm": lambda: between(nn.LayerNorm(16), nn.GELU()),
    "relu of the inputs": lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 2)),
    "only the last layer of a relu net": only_the_last_layer_of_a_relu_net,
}
FAST = ("relu", "hardly leaky", "tanh", "relu of the inputs")


def cases(models):
    return [pytest.param(models[name], id=name, marks=[] if name in FAST else pytest.mark.slow) for name in models]


@pytest.mark.slow
@pytest.mark.parametrize("build", cases(BENT))
def test_kinks_and_jumps_are_found(build):
    assert "jumps at a distance of" in kink(build(), torch.randn(8, 3))


@pytest.mark.parametrize("build", cases(SMOOTH))
def test_smooth_models_have_none(build):
    assert kink(build(), torch.randn(8, 3)) is None


@pytest.mark.slow
def test_the_model_keeps_its_weights_and_its_precision():
    model = between(nn.ReLU())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kink(model, torch.randn(8, 3))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "found"), [(nn.ReLU(), True), (nn.Tanh(), False)])
def test_a_model_that_has_to_be_in_float32_is_looked_at_in_float32(layer, found):
    constant = torch.ones(16, 16)
    model = between(layer, Of(lambda z: z @ constant))
    assert (kink(model, torch.randn(8, 3)) is not None) == found


def test_a_model_that_is_finite_nowhere_else_is_not_called_smooth():
    model = between(Of(lambda z: z + (0 * (z - z.detach().clamp(0, 0) * 0)).sum()))
    with torch.no_grad():
        start = model[0].weight.clone()
    model[1].function = lambda z: torch.where((model[0].weight == start.to(z)).all(), z, float("nan") * z)
    assert "not finite" in (kink(model, torch.randn(8, 3)) or "")
