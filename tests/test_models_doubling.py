import pytest
import torch
from kinds_of_modules import Mixing
from torch import nn
from torch.testing import assert_close

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.models.doubling import Doubled
from regimes.models.mlp import MLP
from regimes.models.two_layer import TwoLayer
from regimes.tangent.kernel import ntk


@pytest.fixture
def net():
    return MLP([3, 6, 2], activation=RELU, generator=generator(0), sigma_b=0.1)


def test_the_start_is_exactly_zero(net):
    assert torch.equal(Doubled(net)(torch.randn(5, 3, dtype=torch.float64)), torch.zeros(5, 2, dtype=torch.float64))


def test_the_tangent_kernel_is_that_of_the_model(net):
    x = torch.randn(5, 3, dtype=torch.float64)
    assert_close(ntk(Doubled(net), x), ntk(net, x))


def test_the_output_is_the_difference_over_root_two(net):
    doubled = Doubled(net)
    x = torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        for value in doubled.second.parameters():
            value.add_(0.1)
    assert_close(doubled(x), (doubled.first(x) - doubled.second(x)) / 2**0.5)


def test_both_copies_are_trained_apart(net):
    doubled = Doubled(net)
    assert len(list(doubled.parameters())) == 2 * len(list(net.parameters()))
    doubled(torch.randn(5, 3, dtype=torch.float64)).sum().backward()
    torch.optim.SGD(doubled.parameters(), 0.1).step()
    assert not torch.equal(doubled.first.weights[0], doubled.second.weights[0])


def test_a_two_layer_net_doubled_is_one_net_of_twice_the_width_with_opposite_signs():
    net = TwoLayer(3, 4, activation=RELU, generator=generator(0), scale=1.0)
    doubled, joined = Doubled(net), TwoLayer(3, 8, activation=RELU, generator=generator(1), scale=0.5**0.5)
    with torch.no_grad():
        doubled.second.output_weights.mul_(3.0)
        joined.output_weights.copy_(torch.cat([doubled.first.output_weights, -doubled.second.output_weights]))
        joined.input_weights.copy_(torch.cat([doubled.first.input_weights, doubled.second.input_weights]))
    x = torch.randn(5, 3, dtype=torch.float64)
    assert_close(doubled(x), joined(x))


def test_dropout_in_train_mode_is_refused():
    with pytest.raises(ValueError, match=r"Doubled needs .* layer '0' \(Dropout\) draws random numbers"):
        Doubled(nn.Sequential(nn.Dropout(0.5)))


def test_a_model_that_mixes_samples_is_refused_at_its_first_batch():
    with pytest.raises(ValueError, match="Doubled needs a model that maps each sample by itself"):
        Doubled(Mixing())(torch.randn(4, 3))
