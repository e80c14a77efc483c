"""Two independent sources of the same kernels."""

import sys

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF, IDENTITY, RELU, TANH
from regimes.conventions import generator
from regimes.models.mlp import MLP
from regimes.tangent import infinite, neural_tangents
from regimes.tangent.kernel import ntk
from regimes.tangent.regression import GradientFlow

pytest.importorskip("jax")
pytest.importorskip("frozendict")


def available():
    try:
        neural_tangents.library()
    except ModuleNotFoundError:
        return False
    return True


pytestmark = [
    pytest.mark.slow,
    pytest.mark.infinite,
    pytest.mark.skipif(not available(), reason="neural-tangents is not installed"),
]


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(2**0.5, 0.0), (1.0, 0.5), (3.0, 0.1)])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("activation", [RELU, ERF, IDENTITY])
@pytest.mark.slow
def test_the_recursion_in_torch_is_that_of_neural_tangents(activation, depth, sigma_w, sigma_b):
    x1, x2 = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    options = {"depth": depth, "activation": activation, "sigma_w": sigma_w, "sigma_b": sigma_b}
    for inputs in ((x1,), (x1, x2)):
        ours, theirs = infinite.dense_kernels(*inputs, **options), neural_tangents.dense_kernels(*inputs, **options)
        for mine, other in zip(ours, theirs, strict=True):
            error = ((mine - other) / other).abs()
            # Their angle on the diagonal is the arc cosine of a rounded 1, good to √ε; ours is exact.
            assert (error < torch.where((x1[:, None] == inputs[-1]).all(2), 1e-7, 1e-10)).all()


def test_the_flow_in_torch_is_that_of_neural_tangents_in_our_time_unit():
    x1, x2 = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    y = torch.randn(5, 2, dtype=torch.float64)
    k_train_train = infinite.dense_kernels(x1, depth=2, activation=RELU).ntk
    k_test_train = infinite.dense_kernels(x2, x1, depth=2, activation=RELU).ntk
    flow = GradientFlow(k_train_train, y)
    for t in (0.1, 3.0, 100.0):
        train, test = neural_tangents.flow_prediction(k_train_train, y, k_test_train, t)
        assert_close(flow.train(t), train)
        assert_close(flow.test(t, k_test_train), test)


@pytest.mark.parametrize("sigma_b", [0.0, 0.3])
def test_the_empirical_kernel_in_torch_is_that_of_neural_tangents_at_the_same_weights(sigma_b):
    x = torch.randn(4, 3, dtype=torch.float64)
    options = {"activation": ERF, "sigma_w": 1.3, "sigma_b": sigma_b}
    theirs, layers = neural_tangents.empirical_ntk(x, depth=2, width=7, seed=0, **options)
    net = MLP([3, 7, 7, 1], generator=generator(0), **options)
    with torch.no_grad():
        for layer, (weight, bias) in enumerate(layers):
            net.weights[layer].copy_(weight.T)
            if bias is not None:
                net.biases[layer].copy_(bias)
    assert_close(ntk(net, x, outputs="trace"), theirs)


def test_nothing_heavy_comes_with_it():
    assert "tensorflow" not in sys.modules
    assert "tf2jax" not in sys.modules


def test_the_double_precision_of_jax_is_switched_on_inside_only():
    import jax

    neural_tangents.dense_kernels(torch.randn(2, 3), depth=1, activation=RELU)
    assert jax.numpy.ones(1).dtype == "float32"


def test_an_activation_it_is_not_asked_for_is_refused():
    with pytest.raises(ValueError, match="one of relu, erf, identity only; got 'tanh'"):
        neural_tangents.dense_kernels(torch.randn(2, 3), depth=1, activation=TANH)
