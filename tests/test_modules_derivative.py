"""One probe decides whether forward and reverse mode belong to one function."""

import pytest
import torch
from torch import nn
from torch.func import vjp

from regimes.modules import NO_GRAD, adjoint, push_forward, random_like, require_gradients
from regimes.modules.derivative import _product

GRADIENT_MAPS = {
    "linear": lambda x: x @ torch.diag(torch.arange(1.0, 4.0)).to(x),
    "tanh": torch.tanh,
    "constant": torch.zeros_like,
    "sign": torch.sign,
    "dead": lambda x: torch.relu(-x.abs() - 1),
    "in place": lambda x: x.clone().mul_(2).tanh_(),
    "kinks": lambda x: torch.relu(x - x.detach()),
    "jumps": lambda x: (20 * x).round(),
}


def without_gradients(x):
    with torch.no_grad():
        return torch.tanh(x)


def partly_without(x):
    with torch.no_grad():
        size = x.norm(dim=1, keepdim=True)
    return x / (1 + size)


def inference(x):
    with torch.inference_mode():
        hidden = torch.tanh(x)
    return hidden.clone()


STOPPED = {
    "detached": lambda x: x.tanh().detach(),
    "no_grad": without_gradients,
    "decorated": torch.no_grad()(torch.tanh),
    "partly": partly_without,
    "inference mode": inference,
    "the first of two": lambda x: torch.tanh(without_gradients(x) @ torch.eye(3).to(x)),
}


def require_one_derivative(f, at):
    """As the doors do: forward against reverse mode, then gradients that are 0 against the values."""
    source = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        value, pull = vjp(f, at)[:2]
        u, v = random_like(value, source), random_like(at, source)
        pulled = pull(u)[0]
    if not adjoint(u, push_forward(f, at, v)[1], pulled, v):
        raise ValueError(f"f needs a function with one derivative, {NO_GRAD}.")
    require_gradients(f, at, pulled, "f")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", GRADIENT_MAPS)
def test_a_function_with_one_derivative_passes(name, dtype):
    require_one_derivative(GRADIENT_MAPS[name], torch.randn(2, 3).to(dtype))


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STOPPED)
def test_a_function_that_reverse_mode_does_not_see_is_refused(name, dtype, around):
    with around(), pytest.raises(ValueError, match=r"^f needs a function.*derivative.*no_grad.*Take that out"):
        require_one_derivative(STOPPED[name], torch.randn(2, 3).to(dtype))


def test_a_mapping_of_tensors_and_complex_ones_are_probed_alike():
    at = {"real": torch.randn(3, dtype=torch.float64), "complex": torch.randn(3, dtype=torch.complex128)}

    def f(values):
        return (values["complex"].exp() * values["real"]).sum().abs().reshape(1)

    def stopped(values):
        return f({**values, "complex": without_gradients(values["complex"])})

    require_one_derivative(f, at)
    with pytest.raises(ValueError, match="one derivative"):
        require_one_derivative(stopped, at)


def test_a_parameter_without_gradient_that_moves_the_output_is_named():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, params = torch.randn(2, 3), {name: each.detach() for name, each in net.named_parameters()}

    def f(values):
        return torch.func.functional_call(net, {**values, "0.bias": values["0.bias"].detach()}, (x,))

    with pytest.raises(ValueError, match=r"it moves with the parameter '0\.bias', whose gradient is 0"):
        require_one_derivative(f, params)


@pytest.mark.parametrize("value", [0.0, -100.0])
def test_a_parameter_that_does_not_move_the_output_may_have_no_gradient(value):
    net = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 2))
    nn.init.constant_(net[0].bias, value)
    if value == 0:
        nn.init.zeros_(net[0].weight)
    x, params = torch.randn(2, 3), {name: each.detach() for name, each in net.named_parameters()}
    require_one_derivative(lambda values: torch.func.functional_call(net, values, (x,)), params)


def test_the_transpose_passes_and_another_matrix_does_not():
    source = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 3)
    u, v = random_like(torch.empty(4), source), random_like(torch.empty(3), source)
    assert adjoint(u, matrix @ v, matrix.T @ u, v)
    assert not adjoint(u, matrix @ v, 1.01 * matrix.T @ u, v)
    assert not adjoint(u, matrix @ v, torch.zeros(3), v)
    assert adjoint(u, torch.zeros(4), torch.zeros(3), v)
    assert adjoint(u, torch.full((4,), torch.nan), matrix.T @ u, v)


@pytest.mark.parametrize(("size", "other"), [(1e15, 1e15), (1e-25, 1.0), (1e-12, 1e-12), (1e-25, 1e25), (1e-15, 1e-15)])
def test_products_too_large_or_small_for_float32_are_compared_all_the_same(size, other):
    source = torch.Generator().manual_seed(0)
    sizes = (((4, 3), size), ((4,), other), ((3,), 1.0))
    matrix, u, v = (factor * torch.randn(*shape, generator=source) for shape, factor in sizes)
    assert adjoint(u, matrix @ v, matrix.T @ u, v)
    assert not adjoint(u, matrix @ v, 1.01 * matrix.T @ u, v)


def test_long_vectors_keep_their_digits():
    source = torch.Generator().manual_seed(0)
    pulled, v = (torch.rand(2_000_000, generator=source) for _ in range(2))
    exact = (pulled.double() @ v.double()).float()
    assert adjoint(torch.ones(1), exact[None], pulled, v)
    assert not adjoint(torch.ones(1), 1.002 * exact[None], pulled, v)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_products_are_added_up_beyond_the_precision_of_their_entries(dtype):
    source = torch.Generator().manual_seed(0)
    one, other = (torch.rand(40_000, generator=source).to(dtype) for _ in range(2))
    product, size = _product(one, other)
    assert product.dtype == size.dtype == torch.float64
    assert float(product) == pytest.approx(float(one.double() @ other.double()), rel=1e-5)
    assert float(size) == pytest.approx(float(one.double().norm() * other.double().norm()), rel=1e-5)


def test_a_push_forward_of_a_tensor_is_the_directional_derivative():
    x, v = torch.randn(2, 4, 3, dtype=torch.float64)
    value, change = push_forward(torch.tanh, x, v)
    torch.testing.assert_close(value, x.tanh())
    torch.testing.assert_close(change, (1 - x.tanh() ** 2) * v)
