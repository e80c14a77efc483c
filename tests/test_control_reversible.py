import math

import pytest
import torch
from torch.testing import assert_close

from regimes.control.layers import Layers
from regimes.control.reversible import Copies, backward, forward, reversible
from regimes.control.tableau import EULER, GAUSS2, HEUN, KUTTA4, TABLEAUS

F64 = torch.float64
EXPLICIT = [pytest.param(each, id=each.name) for each in TABLEAUS if each.explicit]


def field(time, z, params):
    return torch.tanh(z @ params["K"].T + params["b"] * (1 + time))


def problem(method, layers=3, substeps=4):
    draw = torch.Generator().manual_seed(1)
    options = {"generator": draw, "dtype": F64}
    params = [
        {"K": torch.randn(2, 2, **options).requires_grad_(), "b": torch.randn(2, **options).requires_grad_()}
        for _ in range(layers)
    ]
    return Layers(field, params, method, 1.0, substeps), torch.randn(4, 2, **options).requires_grad_()


@pytest.mark.parametrize("method", EXPLICIT)
def test_rebuilding_gives_the_gradient_of_stored_states(method):
    layers, z = problem(method)
    leaves = [z, *(each for params in layers.params for each in params.values())]
    found = []
    for rebuild in (True, False):
        end = reversible(layers, z, rebuild=rebuild)
        found.append((end, *torch.autograd.grad(end.square().sum(), leaves)))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", EXPLICIT)
def test_the_way_back_undoes_the_way_forward(method):
    layers, z = problem(method)
    with torch.no_grad():
        back = backward(layers, forward(layers, Copies(z, z + 0.1), 0.9), 0.9)
    assert_close(back.y, z)
    assert_close(back.z, z + 0.1)


@pytest.mark.parametrize("method", [EULER, HEUN, KUTTA4])
def test_the_reversible_pair_has_the_order_of_its_method(method):
    errors = []
    for substeps in (8, 16):
        layers, z = problem(method, 1, substeps)
        exact = layers._replace(tableau=KUTTA4, substeps=512).end(z)
        errors.append((reversible(layers, z, coupling=0.99) - exact).norm().item())
    assert abs(math.log2(errors[0] / errors[1]) - method.order) < 0.4  # corrections of order h


def test_only_the_end_is_kept():
    kept = []
    for substeps in (5, 50):
        layers, z = problem(KUTTA4, 1, substeps)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda each, saved=saved: saved.append(each) or each, lambda x: x
        ):
            reversible(layers, z)
        kept.append(sum(each.numel() for each in saved))
    assert kept[0] == kept[1]


def test_a_parameter_that_is_not_used_has_no_gradient_and_no_error():
    layers, z = problem(EULER, 1)
    extra = torch.ones(1, dtype=F64, requires_grad=True)
    end = reversible(layers._replace(params=[{**layers.params[0], "extra": extra}]), z)
    assert torch.autograd.grad(end.sum(), extra)[0].item() == 0


def test_what_cannot_be_reversed_is_refused():
    layers, z = problem(EULER)
    with pytest.raises(ValueError, match="explicit method"):
        reversible(layers._replace(tableau=GAUSS2), z)
    for coupling, message in ((0.0, "coupling"), (1.5, "at most 1"), (float("nan"), "coupling")):
        with pytest.raises(ValueError, match=message):
            reversible(layers, z, coupling=coupling)
