"""Gradients of infinite-width kernels by their inputs where a formula has a 0 in its denominator, by differences."""

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ABSOLUTE, ERF, GELU, RELU, SOFTPLUS, TANH, Activation
from regimes.tangent.infinite import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    LayerNorm,
    Nonlinearity,
    Residual,
    Serial,
    dense_kernels,
    infinite_kernels,
)

F64 = torch.float64
ELU = Activation(
    "elu",
    lambda s: torch.where(s > 0, s, torch.expm1(s.clamp(max=0))),
    lambda s: torch.where(s > 0, 1.0, s.clamp(max=0).exp()),
    1.0,
    1.0,
    True,
)
SMOOTH = [
    pytest.param(ERF, id="erf"),
    pytest.param(GELU, id="gelu"),
    *(pytest.param(each, id=each.name, marks=pytest.mark.slow) for each in (TANH, SOFTPLUS, ELU)),
]


def vectors():
    """One of the first is a zero, one is twice there, one is among the second, and one opposite to one of those."""
    first, second = torch.randn(3, 2, dtype=F64), torch.randn(2, 2, dtype=F64)
    return torch.cat([first, 0 * first[:1], first[:1], -second[:1]]), torch.cat([second, first[1:2], 0 * first[:1]])


def images():
    """Of one channel, with pixels of zeros, windows of zeros, and one of the first among the second."""
    first, second = torch.randn(2, 1, 6, dtype=F64), torch.randn(2, 1, 6, dtype=F64)
    first[:, :, 2] = first[0, :, :3] = second[1, :, 4:] = 0
    return first, torch.cat([second, first[:1]])


def require_right(kernels, x1, x2, *, close=1e-6):
    """Of one batch with itself, and of two."""
    x1, x2 = x1.requires_grad_(), x2.requires_grad_()
    assert torch.autograd.gradcheck(kernels, (x1, x2), atol=close)
    assert torch.autograd.gradcheck(lambda x: kernels(x, None), (x1,), atol=close)


@pytest.mark.parametrize("sigma_b", [0.0, 0.4])
@pytest.mark.parametrize("activation", SMOOTH)
def test_at_equal_vectors_and_at_zeros(activation, sigma_b):
    depth = 2 if activation in (ERF, GELU) else 1
    close = 1e-4 if activation is ELU else 1e-6  # of a difference over a jump of the second derivative
    options = {"depth": depth, "activation": activation, "sigma_b": sigma_b}
    require_right(lambda a, b: dense_kernels(a, b, **options), *vectors(), close=close)


@pytest.mark.slow
@pytest.mark.parametrize("sigma_b", [0.0, 0.4])
@pytest.mark.parametrize("activation", [ERF, GELU], ids=lambda each: each.name)
@pytest.mark.parametrize(
    "tail",
    [(Flatten(),), (GlobalAvgPool(),), (AvgPool((2,), 1), Conv((2,)), Nonlinearity(ERF), Flatten())],
    ids=["flatten", "global", "average"],
)
def test_at_equal_images_and_at_zero_pixels(tail, activation, sigma_b):
    net = Serial(
        *(Conv((3,), sigma_b=sigma_b), Residual(Nonlinearity(activation), Conv((2,), sigma_b=sigma_b)), *tail),
        Dense(1.0, sigma_b),
    )
    require_right(lambda a, b: infinite_kernels(net, a, b), *images())


@pytest.mark.slow
def test_after_a_norm_of_layers():
    net = Serial(Dense(1.0, 0.3), LayerNorm(), Nonlinearity(GELU), Dense())
    require_right(lambda a, b: infinite_kernels(net, a, b), *vectors())


@pytest.mark.parametrize("activation", [RELU, ABSOLUTE], ids=lambda each: each.name)
def test_at_a_kink_it_is_the_mean_of_both_sides(activation):
    x1, x2 = vectors()
    zero, others = x1[3:4].requires_grad_(), x2[:2]

    def kernels(x):
        return dense_kernels(x, others, depth=1, activation=activation).nngp

    step = 1e-3
    for place in range(2):
        moved = step * torch.eye(2, dtype=F64)[place]
        expected = (kernels(zero + moved) - kernels(zero - moved)) / (2 * step)
        for column in range(2):
            gradient = torch.autograd.grad(kernels(zero)[0, column], zero)[0]
            assert_close(gradient[0, place], expected[0, column].detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", [RELU, ABSOLUTE, ERF, TANH, ELU], ids=lambda each: each.name)
def test_a_gradient_that_is_asked_for_changes_no_value_at_zeros(activation):
    """Biases that are trained from 0 give a zero a tangent kernel before the first activation."""
    x1, x2 = vectors()
    layer = {"sigma_b": 0.0, "parametrisation": "standard", "width": 50}
    net = Serial(Dense(**layer), Nonlinearity(activation), Dense(**layer))
    for other in (x2, None):
        plain = infinite_kernels(net, x1, other)
        recorded = infinite_kernels(net, x1.clone().requires_grad_(), other)
        for one, same in zip(plain, recorded, strict=True):
            assert_close(one, same.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [ERF, GELU, TANH], ids=lambda each: each.name)
def test_mixed_second_derivatives_of_smooth_kernels_at_equal_vectors(activation):
    """∂²K/∂x∂x' is the covariance of the gradients of nets by their inputs."""
    x, step = torch.randn(1, 3, dtype=F64), 1e-4

    def gradient(other):
        one = x.clone().requires_grad_()
        kernel = dense_kernels(one, other, depth=2, activation=activation, sigma_b=0.3).nngp
        return torch.autograd.grad(kernel.sum(), one, create_graph=True)[0][0]

    other = x.clone().requires_grad_()
    mixed = torch.stack([torch.autograd.grad(each, other, retain_graph=True)[0][0] for each in gradient(other)])
    moves = step * torch.eye(3, dtype=F64)
    expected = torch.stack([gradient(x + each) - gradient(x - each) for each in moves], 1).detach() / (2 * step)
    assert_close(mixed, expected, rtol=1e-5, atol=1e-6)
    assert torch.linalg.eigvalsh(mixed).min() > 0
