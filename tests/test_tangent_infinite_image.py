"""Convolutional and residual nets beside dense ones, in tiles, and beside finite nets of two widths."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.activations import ERF, RELU
from regimes.conventions import generator
from regimes.tangent.infinite import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Identity,
    LayerNorm,
    Nonlinearity,
    Parallel,
    Residual,
    Serial,
    dense_kernels,
    infinite_kernels,
)
from regimes.tangent.infinite.products import NEAR

ACT = Nonlinearity(RELU)
FLAT = Serial(Conv(3, sigma_w=1.4, sigma_b=0.2), ACT, Conv(3, 2, sigma_w=1.4), ACT, Flatten(), Dense(1.2, 0.1))
POOLED = Serial(
    *(Conv(3, sigma_w=1.4, sigma_b=0.2), ACT, AvgPool(2), Conv(1), Residual(ACT, Conv(3, sigma_w=1.4))),
    *(ACT, GlobalAvgPool(), Dense(1.2, 0.1)),
)


def images(n=3, channels=2, size=6):
    return torch.randn(n, channels, size, size, dtype=torch.float64)


def about_equal():
    """Images at small angles, scaled, opposite, equal and zero."""
    first, other = images(2)
    about = (2 * NEAR) ** 0.5
    near = [first + angle * other for angle in (1e-3, 1e-6, 1e-9, 0.9 * about, 1.1 * about)]
    return torch.stack([first, first.clone(), 3 * first, -first, 0 * first, *near, *(-each for each in near)])


@pytest.mark.slow
@pytest.mark.parametrize("sigma_b", [0.0, 0.2])
def test_windows_as_large_as_the_image_make_a_dense_net(sigma_b):
    """Then a convolution sees all channels at all positions, and one of size 1 after it is dense."""
    x = about_equal()
    options = {"sigma_w": 1.4, "sigma_b": sigma_b}
    expected = dense_kernels(x.flatten(1), depth=2, activation=RELU, **options)
    for end in (Flatten(), GlobalAvgPool()):
        net = Serial(Conv(6, padding="VALID", **options), ACT, Conv(1, **options), ACT, end, Dense(**options))
        for mine, other in zip(infinite_kernels(net, x), expected, strict=True):
            assert_close(mine, other, rtol=1e-11, atol=1e-12)  # sharper than the default for pairs near 1


@pytest.mark.slow
def test_windows_of_one_position_without_pooling_are_dense_nets_at_each_position():
    x = about_equal()
    net = Serial(Conv(1, sigma_w=1.4), ACT, Conv(1, sigma_w=1.4), Flatten())
    each = [dense_kernels(x[:, :, i, j], depth=1, activation=RELU, sigma_w=1.4) for i in range(6) for j in range(6)]
    for mine, others in zip(infinite_kernels(net, x), zip(*each, strict=True), strict=True):
        assert_close(mine, torch.stack(others).mean(0), rtol=1e-11, atol=1e-12)  # sharper than the default


@pytest.mark.parametrize("net", [FLAT, POOLED], ids=["flat", "pooled"])
def test_one_batch_is_the_batch_against_itself_and_exactly_symmetric(net):
    x = about_equal()
    once, twice = infinite_kernels(net, x), infinite_kernels(net, x, x.clone())
    for one, two in zip(once, twice, strict=True):
        assert (one == one.T).all()
        # An average keeps angles to 1e-8 only.
        assert_close(one, two, rtol=1e-12 if net is FLAT else 1e-7, atol=1e-14)


def test_equal_images_have_equal_rows_and_the_diagonal_of_their_kernel():
    x = images(2).repeat(2, 1, 1, 1)
    for net in (FLAT, POOLED):
        for kernel in infinite_kernels(net, x):
            assert_close(kernel[:2, :2], kernel[2:, 2:])
            assert_close(kernel[:2, 2:].diagonal(), kernel.diagonal()[:2])


@pytest.mark.parametrize("net", [FLAT, POOLED], ids=["flat", "pooled"])
def test_tiles_change_nothing(net):
    x1, x2 = images(5), images(4)
    seen = []
    for pair in ((x1,), (x1, x2)):
        whole = infinite_kernels(net, *pair, memory=2**30)
        tiles = infinite_kernels(net, *pair, memory=10**6, progress=lambda *numbers: seen.append(numbers))
        assert_close(tiles, whole, rtol=1e-13, atol=1e-13)  # products of other sizes round otherwise
        one = infinite_kernels(net, x1[:1], *(each[:1] for each in pair[1:]), memory=1)
        assert_close(one.ntk, whole.ntk[:1, :1])
        assert seen[-1] == ((15, 15), (20, 20))[len(pair) - 1]


def test_a_sequence_is_an_image_of_one_row():
    x = images()[:, :, :, 0]
    line = Serial(Conv((3,), 2, sigma_b=0.1), ACT, AvgPool((2,)), Flatten(), Dense())
    plane = Serial(Conv((3, 1), (2, 1), sigma_b=0.1), ACT, AvgPool((2, 1)), Flatten(), Dense())
    assert_close(infinite_kernels(line, x), infinite_kernels(plane, x[..., None]))


@pytest.mark.slow
def test_gradients_of_a_convolutional_net_are_right():
    x1, x2 = images(2, 1, 3).requires_grad_(), images(1, 1, 3).requires_grad_()
    for net in (FLAT, Serial(Conv(2), LayerNorm(), Nonlinearity(ERF), GlobalAvgPool(), Dense())):
        assert torch.autograd.gradcheck(lambda a, b, net=net: infinite_kernels(net, a, b), (x1, x2))


def test_a_sum_of_branches_is_the_dense_net_with_added_variances():
    """x → W x + V x has the weights of one layer of variance σ_W² + σ_V², and both layers' tangent kernels."""
    x = images().flatten(1)
    both = infinite_kernels(Serial(Parallel(Dense(1.2), Dense(0.5, 0.3)), ACT, Dense()), x)
    one = infinite_kernels(Serial(Dense((1.44 + 0.25) ** 0.5, 0.3), ACT, Dense()), x)
    assert_close(both, one)


class Finite(nn.Module):
    """POOLED with finite width: weights of variance 1, factors in the forward pass."""

    def __init__(self, width, seed):
        super().__init__()
        draw = generator(seed)

        def normal(*shape):
            return nn.Parameter(torch.randn(*shape, generator=draw, dtype=torch.float64))

        self.first, self.bias = normal(width, 2, 3, 3), normal(width, 1, 1)
        self.inner, self.outer = normal(width, width, 1, 1), normal(width, width, 3, 3)
        self.last, self.end = normal(1, width), normal(1)

    def forward(self, x):
        width = len(self.first)
        z = 1.4 / 18**0.5 * nn.functional.conv2d(x, self.first, padding=1) + 0.2 * self.bias
        z = nn.functional.conv2d(nn.functional.avg_pool2d(z.relu(), 2), self.inner) / width**0.5
        z = z + 1.4 / (9 * width) ** 0.5 * nn.functional.conv2d(z.relu(), self.outer, padding=1)
        return 1.2 / width**0.5 * z.relu().mean((2, 3)) @ self.last.T + 0.1 * self.end


def tangents(net, x):
    """The kernel of one net with one output, from the gradient at each sample."""
    rows = [torch.autograd.grad(each, list(net.parameters()), retain_graph=True) for each in net(x).flatten()]
    features = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    return features @ features.T


@pytest.mark.slow
def test_finite_nets_have_this_kernel_in_the_mean_but_for_a_bias_of_one_over_the_width():
    """Twice the mean at width 2m less the mean at width m has no bias of order 1/m."""
    x, nets = images(2, 2, 4), 400
    limit = infinite_kernels(POOLED, x).ntk
    kernels = {width: torch.stack([tangents(Finite(width, seed), x) for seed in range(nets)]) for width in (16, 32)}
    errors = {width: each.std(0) / nets**0.5 for width, each in kernels.items()}
    extrapolated = 2 * kernels[32].mean(0) - kernels[16].mean(0)
    allowed = 5 * (4 * errors[32].square() + errors[16].square()).sqrt()  # five standard errors
    assert ((extrapolated - limit).abs() < allowed).all()
    assert (allowed < 0.4 * limit.diagonal().max()).all()  # the test can see
    assert ((kernels[32].mean(0) - limit).abs() < 5 * errors[32] + 8 / 32 * limit.diagonal().max()).all()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Serial(ACT, Dense()), "Nonlinearity needs Gaussian inputs with mean 0"),
        (Serial(Conv(3), ACT, LayerNorm()), "LayerNorm needs Gaussian inputs with mean 0"),
        (Serial(Conv(3), ACT), r"last layers leave no positions; got \(6, 6\) after it. Add Flatten\(\)"),
        (Serial(Conv(3), Residual(Conv(3), ACT), Flatten()), "Parallel needs branches whose outputs are Gaussian"),
        (Serial(Conv(3), Parallel(Identity(), Identity()), Flatten()), "weights of their own, all but one"),
        (Serial(Conv(3), Residual(Conv(3, 2)), Flatten()), r"end alike; got positions \(6, 6\) with any"),
        (Serial(Conv((3,)), Flatten()), r"Conv has windows \(3,\) and needs images with 1 axes of positions; got 2"),
        (Serial(Conv(7, padding="VALID"), Flatten()), r"at least as large as its windows \(7, 7\); got \(6, 6\)"),
        (Serial(Conv(3), AvgPool(7), Flatten()), r"AvgPool needs images at least as large"),
        (Serial(Flatten(), Flatten(), Dense()), "Flatten needs an image, with positions; got vectors"),
        (Serial(Flatten(), Dense(), GlobalAvgPool()), "GlobalAvgPool needs an image"),
        (
            Serial(Conv(3), ACT, Flatten(), Dense(parametrisation="standard")),
            "Dense in the standard parametrisation needs its fan-in, and the layer before it has no width",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused(net, message):
    with pytest.raises(ValueError, match=message):
        infinite_kernels(net, images())


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 4, 4)])
def test_inputs_that_are_no_vectors_and_no_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"needs (vectors|x1)"):
        infinite_kernels(Dense(), torch.ones(shape, dtype=torch.float64))


PEAK = """
import torch
from regimes.activations import RELU
from regimes.tangent.infinite import *
torch.set_num_threads(1)
def largest():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
act, x = Nonlinearity(RELU), torch.randn({n}, 1, {size}, {size})
net = Serial(Conv(3, sigma_w=1.4, sigma_b=0.2), Residual(act, Conv(3), act, Conv(3)), act, {end}, Dense())
infinite_kernels(net, x[:1], memory=1)
before = largest()
infinite_kernels(net, x, memory={memory})
print(largest() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("n", "size", "end"), [(12, 14, "GlobalAvgPool()"), (60, 28, "Flatten()")])
def test_the_work_stays_within_the_memory_promised(n, size, end):
    memory = 2**26
    program = PEAK.format(n=n, size=size, end=end, memory=memory)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 1.25 * memory + 16 * n**2
