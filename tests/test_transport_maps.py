"""Brenier's test of maps as people write them: each against the Jacobian written out in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from regimes.transport.brenier import brenier_test
from regimes.transport.gap import ot_gap
from regimes.transport.power import power

pytestmark = pytest.mark.slow


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return x + self.inner(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        return x + self.inner(x)[0]


class Potential(nn.Module):
    """The gradient of a convex function of its input, taken inside."""

    def __init__(self):
        super().__init__()
        self.lift, self.drop = nn.Linear(4, 8), nn.Linear(8, 1)

    def value(self, x):
        return (functional.softplus(self.lift(x)) @ self.drop.weight.exp().T).sum() + 0.5 * x.square().sum()

    def forward(self, x):
        with torch.enable_grad():
            x = x.requires_grad_()
            return torch.autograd.grad(self.value(x), x, create_graph=True)[0]


class ByFunc(Potential):
    def forward(self, x):
        return torch.func.grad(self.value)(x)


def transformer():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.1, batch_first=True), 1).eval()


MAPS = {
    "attention": (Attention, (6, 3, 4)),
    "transformer": (transformer, (6, 3, 4)),
    "lstm": (Recurrent, (6, 3, 4)),
    "gradient inside": (Potential, (6, 4)),
    "gradient by torch.func": (ByFunc, (6, 4)),
    "products of attention": (lambda: lambda x: x + functional.scaled_dot_product_attention(x, x, x), (6, 3, 4)),
}


DTYPES = {"float64": torch.float64, "bfloat16": torch.bfloat16}


def stream():
    return torch.Generator().manual_seed(0)


def made(name):
    made_by, shape = MAPS[name]
    return made_by(), torch.randn(shape, generator=stream())


def written_out(transport_map, x):
    """Asymmetry by the whole Jacobian, in float64, one sample at a time, by differences of its values."""
    exact = copy.deepcopy(transport_map).double() if isinstance(transport_map, nn.Module) else transport_map
    step, above, below = 1e-5, 0.0, 0.0
    for sample in x.double():
        around = torch.eye(sample.numel(), dtype=torch.float64).reshape(-1, *sample.shape) * step
        rows = exact((sample + around).clone()) - exact((sample - around).clone())
        jacobian = rows.detach().flatten(1) / (2 * step)
        above += float((jacobian - jacobian.T).square().sum())
        below += float((jacobian + jacobian.T).square().sum())
    return above / below


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float64", "frozen", "inference", "autocast"])
def test_the_asymmetry_is_that_of_the_written_out_jacobian(name, kind):
    transport_map, x = made(name)
    if isinstance(transport_map, nn.Module):
        transport_map.requires_grad_(kind != "frozen")
        transport_map.to(DTYPES.get(kind, torch.float32))
    x = x.to(DTYPES.get(kind, torch.float32))
    truth = written_out(transport_map, x)
    with torch.inference_mode(kind == "inference"), torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        found = brenier_test(transport_map, x.clone(), generator=stream(), probes=64, eigen_points=2)
    assert abs(found.asymmetry - truth) < max(0.2 * truth, 1e-9)


@pytest.mark.parametrize("name", ["attention", "lstm", "gradient inside"])
def test_clouds_of_numpy_are_taken_in_the_precision_of_the_module(name):
    transport_map, x = made(name)
    for points in (x.numpy(), x.double().numpy(), x.tolist()):
        found = ot_gap(points, transport_map, with_power=False)
        assert found.map.points == len(x)
        assert (found.verdict == "not a gradient map") == (name != "gradient inside")


def test_a_function_of_another_precision_is_told_what_it_needs():
    net = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"float64 of shape.*in the shape and precision of the map"):
        ot_gap(np.zeros((3, 4)), lambda z: net(z))


INTO = {
    "mul_": lambda z: z.mul_(2),
    "add_": lambda z: z.add_(z.sum(1, keepdim=True)),
    "an entry": lambda z: z.index_fill_(1, torch.tensor([0]), 0.0),
    "a module": nn.Sequential(nn.LeakyReLU(0.5, inplace=True)),
}


@pytest.mark.parametrize("name", INTO)
@pytest.mark.parametrize("p", [2.0, 3.0])
def test_a_map_that_writes_into_its_argument_leaves_the_points_alone(name, p):
    x = torch.randn(8, 3, generator=stream(), dtype=torch.float64)
    kept, array = x.clone(), x.numpy().copy()
    image = INTO[name](x.clone())
    right = ot_gap(x, image, p=p, with_power=False)
    for found in (
        ot_gap(x, INTO[name], p=p, with_power=False, path=[x, image]),
        ot_gap(x, image, p=p, transport_map=INTO[name], with_power=False),
        ot_gap(array, INTO[name], p=p, with_power=False),
    ):
        assert found.cost_network == right.cost_network
        assert found.map.asymmetry < 1e-20 or p != 2
    brenier_test(INTO[name], x, generator=stream(), p=p, encoder=lambda z: z.mul_(1.5))
    power(x, image, generator=stream(), p=p, transport_map=INTO[name], amplitudes=[1.0])
    assert torch.equal(x, kept)
    assert np.array_equal(array, kept.numpy())


def test_points_on_a_line_may_be_plain_numbers():
    x = torch.randn(8, generator=stream(), dtype=torch.float64)
    assert ot_gap(x, lambda z: 2 * z).verdict == ot_gap(x[:, None], lambda z: 2 * z).verdict
    assert ot_gap(x.bfloat16(), lambda z: 2 * z, p=3.0).map.min_eigenvalue > 0


@pytest.mark.parametrize("name", ["dropout", "dropout in a function", "batch norm", "batch norm in a function"])
def test_maps_in_train_mode_are_refused(name):
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.3) if "dropout" in name else nn.BatchNorm1d(3)).double()
    x = torch.randn(8, 3, generator=stream(), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"same output each time|maps each sample by itself"):
        ot_gap(x, (lambda z: net(z)) if "function" in name else net)
