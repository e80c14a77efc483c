import math

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ACTIVATIONS, ERF, IDENTITY, RELU, TANH, Activation
from regimes.conventions import generator
from regimes.models.mlp import MLP
from regimes.models.two_layer import TwoLayer, ntk_scale
from regimes.tangent.infinite import dense_kernels, two_layer_nngp, two_layer_ntk
from regimes.tangent.infinite.products import NEAR
from regimes.tangent.kernel import ntk

pytestmark = pytest.mark.slow


def inputs(n=5, d=3):
    return torch.randn(n, d, dtype=torch.float64)


def within_five_standard_errors(samples, expected):
    """samples (seeds, n, n) against the mean they should have."""
    error = samples.std(0) / len(samples) ** 0.5
    return ((samples.mean(0) - expected).abs() <= 5 * error + 1e-14).all()


def test_the_two_layer_relu_kernel_is_the_published_formula():
    """‖x‖‖x'‖/(2π) (sin φ + (π−φ) cos φ) + x·x' (π−φ)/(2π)."""
    x1, x2 = inputs(), inputs(4)
    product = x1 @ x2.T
    norms = x1.norm(dim=1)[:, None] * x2.norm(dim=1)
    angle = torch.acos(product / norms)
    first = norms / (2 * math.pi) * (angle.sin() + (math.pi - angle) * angle.cos())
    second = product * (math.pi - angle) / (2 * math.pi)
    assert_close(two_layer_nngp(x1, x2, activation=RELU), first)
    assert_close(two_layer_ntk(x1, x2, activation=RELU), first + second)
    scaled = two_layer_ntk(x1, x2, activation=RELU, std_a=3.0, std_b=0.5)
    assert_close(scaled, 0.25 * first + 9 * second)  # E‖b‖² in the one, E a² in the other


def test_the_two_layer_erf_kernel_is_the_published_formula():
    """(2/π) asin(2x·x'/√((1+2‖x‖²)(1+2‖x'‖²))) + x·x' (4/π)/√((1+2‖x‖²)(1+2‖x'‖²) − 4(x·x')²)."""
    x1, x2 = inputs(), inputs(4)
    c, a, b = x1 @ x2.T, 1 + 2 * x1.square().sum(1)[:, None], 1 + 2 * x2.square().sum(1)
    expected = 2 / math.pi * torch.asin(2 * c / (a * b).sqrt()) + c * 4 / math.pi / (a * b - 4 * c**2).sqrt()
    assert_close(two_layer_ntk(x1, x2, activation=ERF), expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_two_layer_nets_have_this_kernel_in_the_mean(name):
    activation, x = ACTIVATIONS[name], inputs(3)
    nets = [
        TwoLayer(3, 50, activation=activation, generator=generator(seed), scale=ntk_scale(50)) for seed in range(80)
    ]
    kernels = torch.stack([ntk(net, x, outputs="trace") for net in nets])
    assert within_five_standard_errors(kernels, two_layer_ntk(x, activation=activation))
    assert not within_five_standard_errors(kernels, 0.8 * two_layer_ntk(x, activation=activation))  # the test can see
    outputs = torch.stack([net(x).detach() for net in nets])
    products = outputs * outputs.mT
    assert within_five_standard_errors(products, two_layer_nngp(x, activation=activation))


def test_two_layers_are_a_dense_net_of_depth_one():
    x1, x2 = inputs(), inputs(4)
    for activation in ACTIVATIONS.values():
        deep = dense_kernels(x1, x2, depth=1, activation=activation, sigma_w=1.0)
        assert_close(deep.nngp, two_layer_nngp(x1, x2, activation=activation, std_b=3**-0.5))
        expected = two_layer_ntk(x1 / 3**0.5, x2 / 3**0.5, activation=activation)
        assert_close(deep.ntk, expected)


def test_no_hidden_layer_is_linear_regression():
    x = inputs()
    kernels = dense_kernels(x, depth=0, activation=RELU, sigma_w=1.5, sigma_b=0.5)
    assert_close(kernels.nngp, 2.25 * x @ x.T / 3 + 0.25)
    assert_close(kernels.ntk, kernels.nngp)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_linear_net_counts_its_layers(depth):
    """Identity: S = σ_w^{2L} x·x'/d at the end, and each of the L = depth + 1 matrices adds the same to the kernel."""
    x, sigma = inputs(), 1.3
    kernels = dense_kernels(x, depth=depth, activation=IDENTITY, sigma_w=sigma)
    assert_close(kernels.nngp, sigma ** (2 * depth + 2) * x @ x.T / 3)
    assert_close(kernels.ntk, (depth + 1) * kernels.nngp)


@pytest.mark.parametrize("depth", [1, 3, 10])
def test_he_scaling_keeps_the_relu_diagonal(depth):
    """σ_w² = 2: S stays 2‖x‖²/d and Ṡ = 1 at φ = 0, so the kernel is (depth + 1)·S there, without rounding of φ."""
    x = inputs()
    kernels = dense_kernels(x, depth=depth, activation=RELU)
    diagonal = 2 * x.square().sum(1) / 3
    assert_close(kernels.nngp.diagonal(), diagonal, rtol=1e-14, atol=0)  # sharper than the default
    assert_close(kernels.ntk.diagonal(), (depth + 1) * diagonal, rtol=1e-14, atol=0)  # sharper than the default


def test_opposite_and_parallel_inputs_lose_no_digits():
    """x' = sx: φ = 0 or π exactly, whatever the lengths."""
    x = inputs(4)
    for factor, share in ((3.0, 0.5), (-1.0, 0.0), (-0.3, 0.0)):
        nngp = two_layer_nngp(x, factor * x, activation=RELU).diagonal()
        assert_close(nngp, share * factor * x.square().sum(1), rtol=1e-13, atol=1e-13)  # sharper than the default
        slope = two_layer_ntk(x, factor * x, activation=RELU).diagonal() - nngp
        assert_close(slope, share * factor * x.square().sum(1), rtol=1e-13, atol=1e-13)  # sharper than the default


@pytest.mark.parametrize("sigma_b", [0.0, 0.4])
@pytest.mark.parametrize("activation", [RELU, ERF, TANH])
def test_the_recursion_is_the_plain_one(activation, sigma_b):
    """The textbook recursion on covariance matrices, with means by the two-layer formulas on Cholesky factors."""
    x, sigma_w, depth = inputs(4, 6), 1.4, 3
    s = sigma_w**2 * x @ x.T / 6 + sigma_b**2
    k = s
    for _ in range(depth):
        root = torch.linalg.cholesky(s)
        value = two_layer_nngp(root, activation=activation)
        dot = (two_layer_ntk(root, activation=activation) - value) / s
        s = sigma_w**2 * value + sigma_b**2
        k = s + k * sigma_w**2 * dot
    kernels = dense_kernels(x, depth=depth, activation=activation, sigma_w=sigma_w, sigma_b=sigma_b)
    assert_close(kernels.nngp, s)
    assert_close(kernels.ntk, k, rtol=1e-6, atol=1e-7)  # the angle of the Cholesky rows on the diagonal is √ε


@pytest.mark.parametrize("activation", [RELU, ERF])
def test_deep_nets_come_close_to_it(activation):
    """Three hidden layers, σ_w² = 2: fluctuation O(1/√m), bias O(1/m)."""
    x, width = inputs(3), 256
    kernels = torch.stack(
        [
            ntk(
                MLP([3, width, width, width, 1], activation=activation, generator=generator(s), sigma_b=0.3),
                x,
                outputs="trace",
            )
            for s in range(20)
        ]
    )
    expected = dense_kernels(x, depth=3, activation=activation, sigma_b=0.3).ntk
    allowed = 5 * kernels.std(0) / 20**0.5 + 8 / width * expected.diagonal().max()  # five standard errors and the bias
    assert ((kernels.mean(0) - expected).abs() < allowed).all()
    assert ((kernels.mean(0) - expected).abs() < 0.1 * expected.diagonal().max()).all()  # the allowance is small


@pytest.mark.parametrize("sigma_b", [0.0, 0.3])
@pytest.mark.parametrize("activation", [RELU, ERF])
def test_gradients_are_right(activation, sigma_b):
    x1, x2 = inputs().requires_grad_(), inputs(2).requires_grad_()

    def kernels(a, b):
        return dense_kernels(a, b, depth=2, activation=activation, sigma_b=sigma_b)

    assert torch.autograd.gradcheck(kernels, (x1, x2))


@pytest.mark.parametrize("activation", [RELU, ERF, TANH])
def test_gradients_on_the_diagonal_are_finite_and_that_of_the_covariance_is_right(activation):
    x = inputs().requires_grad_()
    kernels = dense_kernels(x, depth=2, activation=activation)
    assert torch.autograd.grad(kernels.ntk.sum(), x, retain_graph=True)[0].isfinite().all()
    if activation is RELU:
        grad = torch.autograd.grad(kernels.nngp.diagonal().sum(), x)[0]
        assert_close(grad, 4 * x.detach() / 3)  # of 2‖x‖²/d


def test_an_input_of_zero_gives_zero_without_nan():
    x = torch.zeros(1, 3, dtype=torch.float64).requires_grad_()
    other = inputs(2)
    for first, second in ((x, None), (x, other), (other, x)):
        kernels = dense_kernels(first, second, depth=2, activation=RELU)
        if second is None:
            assert_close(kernels.ntk, torch.zeros(1, 1, dtype=torch.float64))
        assert kernels.ntk.isfinite().all()
        assert torch.autograd.grad(kernels.ntk.sum(), x)[0].isfinite().all()


def test_one_batch_is_the_batch_against_itself():
    x = inputs()
    for activation in (RELU, ERF):
        once = dense_kernels(x, depth=3, activation=activation)
        twice = dense_kernels(x, x.clone(), depth=3, activation=activation)
        for a, b in zip(once, twice, strict=True):
            assert_close(a, b)
            assert_close(a, a.T)
        values = torch.linalg.eigvalsh(once.ntk)
        assert values[0] > 0


def test_float32_inputs_are_computed_in_float64():
    x = torch.randn(3, 4)
    assert_close(
        dense_kernels(x, depth=2, activation=RELU).ntk, dense_kernels(x.double(), depth=2, activation=RELU).ntk
    )


STEP = Activation("step", torch.sign, torch.zeros_like, math.inf, math.inf, True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dense_kernels(x, depth=-1, activation=RELU), "depth as a whole number, at least 0"),
        (lambda x: dense_kernels(x, depth=1, activation=RELU, sigma_w=0.0), "sigma_w as a finite number above 0"),
        (
            lambda x: dense_kernels(x, x[:, :2], depth=1, activation=RELU),
            r"x1 \(n1, d\), x2 \(n2, d\)",
        ),
        (lambda x: two_layer_ntk(x, activation=STEP), "need an activation without jumps; got 'step'"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(inputs())


@pytest.mark.parametrize("variance", [1e2, 1e6, 1e10, 1e14])
def test_erf_kernels_keep_their_digits_at_large_variances(variance):
    """Against the closed form in whole-number arithmetic of fifty digits."""
    mpmath = pytest.importorskip("mpmath")
    angles = [0.0, 1e-6, 1e-3, 0.4, 1.5, 3.1]
    x = variance**0.5 * torch.tensor([[math.cos(a), math.sin(a)] for a in angles], dtype=torch.float64)
    found = two_layer_ntk(x, activation=ERF), two_layer_nngp(x, activation=ERF)
    with mpmath.workdps(50):
        exact = [[mpmath.mpf(float(value)) for value in row] for row in x]
        for i, u in enumerate(exact):
            for j, v in enumerate(exact):
                a, b, c = (sum(p * q for p, q in zip(*pair, strict=True)) for pair in ((u, u), (v, v), (u, v)))
                nngp = 2 / mpmath.pi * mpmath.asin(2 * c / mpmath.sqrt((1 + 2 * a) * (1 + 2 * b)))
                slope = 4 / mpmath.pi / mpmath.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c**2)
                assert float(found[1][i, j]) == pytest.approx(float(nngp), rel=1e-9, abs=1e-9)
                # Angles are known to 1e-16, so 1 − c² to 1e-10 at 1e-6.
                assert float(found[0][i, j]) == pytest.approx(float(nngp + c * slope), rel=1e-8)


def in_many_digits(mpmath, x, depth, sigma_b):
    """NNGP and NTK of the ReLU net at σ_w² = 2 by the textbook recursion, from the same float64 inputs."""
    points = [[mpmath.mpf(float(value)) for value in row] for row in x]
    two, bias, pi = mpmath.mpf(2), mpmath.mpf(sigma_b) ** 2, mpmath.pi
    results = [torch.empty(len(x), len(x), dtype=torch.float64) for _ in range(2)]
    for i, u in enumerate(points):
        for j, v in enumerate(points):
            a, b, c = (
                two * mpmath.fsum(p * q for p, q in zip(*pair, strict=True)) / len(u) + bias
                for pair in ((u, u), (v, v), (u, v))
            )
            k = c
            for _ in range(depth):
                length = mpmath.sqrt(a * b)
                angle = mpmath.acos(max(-1, min(1, c / length))) if length else mpmath.mpf(0)
                mean = length / (2 * pi) * (mpmath.sin(angle) + (pi - angle) * mpmath.cos(angle))
                c = two * mean + bias
                k = c + k * two * (pi - angle) / (2 * pi)
                a, b = a + bias, b + bias
            results[0][i, j], results[1][i, j] = float(c), float(k)
    return results


def turned(angle, length, like):
    """A vector at that angle from `like`."""
    other = torch.randn_like(like)
    other = other - other @ like / like.square().sum() * like
    return length * (math.cos(angle) * like + math.sin(angle) * other / other.norm() * like.norm())


@pytest.mark.parametrize("sigma_b", [0.0, 0.2])
@pytest.mark.parametrize("depth", [1, 3])
def test_near_equal_and_opposite_points_are_right_to_ten_digits(depth, sigma_b):
    """Angles 1e-3 to 1e-12 and just about where single entries take over, duplicates, opposite points, zero vectors."""
    mpmath = pytest.importorskip("mpmath")
    first = torch.randn(6, dtype=torch.float64)
    about = (2 * NEAR) ** 0.5
    angles = [1e-3, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 0.99 * about, 1.01 * about, 1.0]
    rows = [first, first.clone(), 3 * first, -first, -0.3 * first, torch.zeros(6, dtype=torch.float64)]
    rows += [turned(math.pi * side + angle, 1.0 + side, first) for angle in angles for side in (0, 1)]
    x = torch.stack(rows)
    with mpmath.workdps(60):
        exact = in_many_digits(mpmath, x, depth, sigma_b)
    scale = exact[1].diagonal().sqrt()
    kernels = dense_kernels(x, depth=depth, activation=RELU, sigma_b=sigma_b)
    for found in (kernels, dense_kernels(x, x.clone(), depth=depth, activation=RELU, sigma_b=sigma_b)):
        for mine, other in zip(found, exact, strict=True):
            assert_close(mine, other, rtol=1e-10, atol=1e-13 * float(scale.max() ** 2))  # what the pair state is for


def test_half_of_the_pairs_are_computed_and_the_result_is_exactly_symmetric():
    x = torch.randn(40, 7, dtype=torch.float64)
    for activation in (RELU, ERF):
        for kernel in dense_kernels(x, depth=2, activation=activation, sigma_b=0.1):
            assert (kernel == kernel.T).all()


def test_inputs_without_values_or_too_large_ones_are_refused_in_words():
    with pytest.raises(ValueError, match="dense_kernels needs x1 with values; it is on the meta device"):
        dense_kernels(torch.empty(4, 3, device="meta"), depth=1, activation=RELU)
    with pytest.raises(ValueError, match="squares that float64 can hold; its entries are too large"):
        dense_kernels(inputs() * 1e200, depth=1, activation=RELU)


@pytest.mark.parametrize("sigma_b", [0.0, 0.3])
@pytest.mark.parametrize("name", ["relu", "identity", "erf"])
def test_a_gradient_that_is_asked_for_does_not_change_the_kernels(name, sigma_b):
    """Without one arrays are written in place, in tiles of which each has its mirror image."""
    x = torch.randn(250, 5, dtype=torch.float64)
    x[1], x[2], x[3] = x[0], -x[0], 0
    options = {"depth": 3, "activation": ACTIVATIONS[name], "sigma_b": sigma_b}
    for here, there in ((x, None), (x[:40], x)):
        kept = here.clone().requires_grad_()
        plain, recorded = dense_kernels(here, there, **options), dense_kernels(kept, there, **options)
        for one, other in zip(plain, recorded, strict=True):
            assert_close(one, other.detach(), rtol=1e-12, atol=1e-13)  # sharper than the default
