import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF, RELU
from regimes.conventions import generator
from regimes.models.mlp import MLP
from regimes.tangent.infinite import dense_kernels
from regimes.tangent.kernel import ntk
from regimes.tangent.random_nets import random_dense_kernels


@pytest.mark.slow
@pytest.mark.parametrize("sigma_b", [0.0, 0.3])
@pytest.mark.parametrize("activation", [RELU, ERF])
@pytest.mark.parametrize("depth", [1, 3])
def test_each_net_has_the_kernel_that_its_module_has(depth, activation, sigma_b):
    """The same numbers put into MLP, in the order in which they are drawn."""
    x, width, nets = torch.randn(4, 3, dtype=torch.float64), 6, 5
    options = {"activation": activation, "sigma_w": 1.3, "sigma_b": sigma_b}
    kernels = random_dense_kernels(x, nets=nets, width=width, depth=depth, generator=generator(0), **options)
    source = generator(0)

    def normal(*shape):
        return torch.randn(nets, *shape, generator=source).double()

    fans = [3] + [width] * depth
    draws = []
    for fan_in in fans[:-1]:
        draws.append((normal(fan_in, width), normal(1, width) if sigma_b else None))
    last = normal(1, width)
    for net in range(nets):
        module = MLP([*fans, 1], generator=generator(1), **options)
        with torch.no_grad():
            for layer, (weight, bias) in enumerate(draws):
                module.weights[layer].copy_(weight[net].T)
                if bias is not None:
                    module.biases[layer].copy_(bias[net, 0])
            module.weights[-1].copy_(last[net])
        assert_close(kernels.ntk[net], ntk(module, x, outputs="trace"))
        h = activation.value(module.preactivations(x)[-2])
        assert_close(kernels.nngp[net], 1.3**2 / width * (h @ h.T).detach() + sigma_b**2)


@pytest.mark.parametrize("activation", [RELU, ERF])
def test_with_one_hidden_layer_both_kernels_are_unbiased_at_any_width(activation):
    x = torch.randn(3, 3, dtype=torch.float64)
    exact = dense_kernels(x, depth=1, activation=activation, sigma_b=0.2)
    found = random_dense_kernels(
        x, nets=4000, width=3, depth=1, activation=activation, generator=generator(0), sigma_b=0.2
    )
    for mean, samples in zip(exact, found, strict=True):
        error = samples.std(0) / 4000**0.5
        assert ((samples.mean(0) - mean).abs() < 5 * error).all()  # five standard errors


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="width as a whole number, at least 1; got 0"):
        random_dense_kernels(torch.ones(1, 1), nets=1, width=0, depth=2, activation=RELU, generator=generator(0))
