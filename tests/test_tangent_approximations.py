"""Cheaper stand-ins of kernels, beside the kernels."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes import ntk, tangent_operator
from regimes.conventions import generator
from regimes.tangent.approximations import kernel_product, projected_kernel, pseudo_kernel

pytestmark = pytest.mark.slow


def net(width=8, k=3):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, k)).double()


def test_the_pseudo_kernel_is_that_of_the_sum_of_outputs():
    model, x = net(), torch.randn(6, 4, dtype=torch.float64)
    found = pseudo_kernel(tangent_operator(model, x), generator=generator(0))
    assert_close(found.value, ntk(model, x).sum((2, 3)) / 3)
    assert found.value.shape == (6, 6)
    assert_close(found.exact, ntk(model, x)[found.samples][:, found.samples])
    gap = (found.approximate - found.exact).norm() / found.exact.norm()
    assert_close(found.error, float(gap))
    assert 0 < found.standard_error < found.error


def test_the_pseudo_kernel_of_a_wider_net_is_nearer():
    x = torch.randn(6, 4, dtype=torch.float64)
    errors = []
    for width in (8, 512):
        model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3)).double()
        errors.append(pseudo_kernel(tangent_operator(model, x), generator=generator(0)).error)
    assert errors[1] < errors[0] / 3  # 1/√64, from one draw of each


def test_projected_kernels_come_as_near_as_they_say():
    model, x = net(), torch.randn(6, 4, dtype=torch.float64)
    found = projected_kernel(tangent_operator(model, x), generator=generator(0), directions=400)
    exact = ntk(model, x)
    assert found.value.shape == exact.shape
    off = (found.value - exact) / found.deviation
    assert (off.abs() < 5).all()
    assert 0.7 < off.square().mean().sqrt() < 1.4  # entries share directions, so the mean over 324 of them is rough
    assert_close(found.exact, exact[found.samples][:, found.samples])


def test_products_are_compared_with_exact_rows():
    model, x = net(), torch.randn(9, 4, dtype=torch.float64)
    v = torch.randn(9, 3, dtype=torch.float64)
    found = kernel_product(tangent_operator(model, x), v, generator=generator(0), compared=3)
    assert_close(found.value, torch.einsum("ijab,jb->ia", ntk(model, x), v))
    assert found.error < 1e-12
    assert found.exact.shape == (3, 3)
    assert_close(found.exact, found.value[found.samples])


def test_models_of_several_inputs_have_stand_ins_too():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2).double()

        def forward(self, a, b):
            return {"logits": torch.tanh(self.layer(a)) * b}

    model, x = Two(), {"a": torch.randn(4, 3).double(), "b": torch.randn(4, 2).double()}
    operator, kernel = tangent_operator(model, x), ntk(model, x)
    assert_close(pseudo_kernel(operator, generator=generator(0)).value, kernel.sum((2, 3)) / 2)
    assert kernel_product(operator, torch.ones(4, 2).double(), generator=generator(0)).error < 1e-12
    off = projected_kernel(operator, generator=generator(0), directions=100)
    assert ((off.value - kernel).abs() < 5 * off.deviation).all()


def test_bad_arguments_are_named():
    operator = tangent_operator(net(), torch.randn(5, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="directions as a whole number"):
        projected_kernel(operator, generator=generator(0), directions=0)
    with pytest.raises(ValueError, match="compared as a whole number"):
        pseudo_kernel(operator, generator=generator(0), compared=1)


@pytest.mark.parametrize("stand_in", [pseudo_kernel, projected_kernel])
def test_one_sample_has_no_error_to_be_told(stand_in):
    with pytest.raises(ValueError, match="needs at least two samples"):
        stand_in(tangent_operator(nn.Linear(3, 2), torch.randn(1, 3)), generator=generator(0))
