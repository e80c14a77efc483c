import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF, IDENTITY, RELU
from regimes.conventions import generator
from regimes.models.mlp import MLP, NTK, STANDARD
from regimes.tangent.kernel import ntk


def test_a_linear_net_is_the_product_of_its_factors():
    net = MLP([3, 4, 2], activation=IDENTITY, generator=generator(0), sigma_w=1.5)
    x = torch.randn(5, 3, dtype=torch.float64)
    first, second = net.weights
    assert_close(net(x), (1.5 / 3**0.5) * (1.5 / 4**0.5) * x @ first.T @ second.T)


def test_biases_enter_with_sigma_b():
    net = MLP([3, 4, 1], activation=ERF, generator=generator(0), sigma_w=1.5, sigma_b=0.3)
    zero = torch.zeros(1, 3, dtype=torch.float64)
    hidden = torch.erf(0.3 * net.biases[0])
    assert_close(net(zero)[0], 1.5 / 2 * net.weights[1] @ hidden + 0.3 * net.biases[1])
    assert len(MLP([3, 4, 1], activation=ERF, generator=generator(0)).biases) == 0


def test_both_parametrisations_are_one_function_at_random_weights():
    x = torch.randn(5, 3, dtype=torch.float64)
    nets = [
        MLP([3, 7, 7, 2], activation=RELU, generator=generator(3), sigma_b=0.2, parametrisation=choice)
        for choice in (NTK, STANDARD)
    ]
    assert_close(nets[0](x), nets[1](x))


@pytest.mark.slow
def test_only_the_ntk_parametrisation_has_a_kernel_that_does_not_grow_with_the_width():
    x = torch.randn(2, 3, dtype=torch.float64)
    kernels = {
        (choice.name, width): ntk(
            MLP([3, width, width, 1], activation=RELU, generator=generator(0), parametrisation=choice),
            x,
            outputs="trace",
        ).trace()
        for choice in (NTK, STANDARD)
        for width in (64, 512)
    }
    assert 0.5 < kernels["NTK", 512] / kernels["NTK", 64] < 2  # the limit 1, up to fluctuations of O(1/√64)
    assert 4 < kernels["standard", 512] / kernels["standard", 64] < 16  # eight times the width


def test_the_variance_of_the_output_is_kept_from_layer_to_layer():
    """He scaling: σ_w² = 2 keeps E z² of a ReLU net at 2‖x‖²/d."""
    x = torch.ones(1, 4, dtype=torch.float64)
    outputs = torch.stack([MLP([4, 64, 64, 1], activation=RELU, generator=generator(s))(x)[0, 0] for s in range(400)])
    squares = outputs.detach().square()
    assert abs(squares.mean() - 2) < 5 * squares.std() / 20  # five standard errors over 400 nets


def test_preactivations_end_with_the_output():
    net = MLP([3, 4, 5, 2], activation=RELU, generator=generator(0))
    x = torch.randn(6, 3, dtype=torch.float64)
    states = net.preactivations(x)
    assert [tuple(state.shape) for state in states] == [(6, 4), (6, 5), (6, 2)]
    assert_close(states[-1], net(x))


@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ([3], {}, "needs widths"),
        ([3, 0, 1], {}, "every width as a whole number, at least 1; got 0"),
        ([3, 1], {"sigma_w": 0.0}, "sigma_w as a finite number above 0"),
        ([3, 1], {"sigma_b": -1.0}, "sigma_b as a finite number of at least 0"),
    ],
)
def test_impossible_nets_are_refused(widths, options, message):
    with pytest.raises(ValueError, match=message):
        MLP(widths, activation=RELU, generator=generator(0), **options)
