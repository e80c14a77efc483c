import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ACTIVATIONS, ERF, RELU
from regimes.conventions import generator
from regimes.models.two_layer import TwoLayer, mean_field_scale, ntk_scale


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_output_is_the_scaled_sum_over_neurons(name):
    net = TwoLayer(3, 5, 2, activation=ACTIVATIONS[name], generator=generator(0), scale=0.7)
    x = torch.randn(4, 3, dtype=torch.float64)
    slow = torch.zeros(4, 2, dtype=torch.float64)
    for i in range(4):
        for j in range(5):
            slow[i] += 0.7 * net.output_weights[j].detach() * net.activation.value(net.input_weights[j] @ x[i]).detach()
    assert_close(net(x), slow, check_dtype=True)


def test_the_default_scale_is_the_mean_over_neurons():
    net = TwoLayer(3, 8, activation=RELU, generator=generator(0))
    assert net.scale == mean_field_scale(8) == 1 / 8
    assert ntk_scale(16) == 1 / 4


def test_the_mean_field_output_does_not_change_when_every_neuron_is_doubled():
    small = TwoLayer(3, 4, activation=ERF, generator=generator(0))
    large = TwoLayer(3, 8, activation=ERF, generator=generator(1))
    large.load_state_dict({name: value.repeat(2, 1) for name, value in small.state_dict().items()})
    x = torch.randn(6, 3, dtype=torch.float64)
    assert_close(large(x), small(x))


def test_weights_have_the_given_standard_deviation():
    net = TwoLayer(50, 400, 3, activation=RELU, generator=generator(0), std=2.0)
    for values in net.parameters():
        deviation = 5 * 2.0 / (2 * values.numel()) ** 0.5  # five standard errors of a standard deviation
        assert abs(values.std().item() - 2.0) < deviation
        assert abs(values.mean().item()) < 5 * 2.0 / values.numel() ** 0.5  # five standard errors of a mean


def test_the_same_generator_state_gives_the_same_net():
    first, second = (TwoLayer(3, 4, activation=RELU, generator=generator(7)) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert_close(a, b, rtol=0, atol=0)


def test_no_neuron_is_refused():
    with pytest.raises(ValueError, match="width as a whole number, at least 1; got 0"):
        TwoLayer(3, 0, activation=RELU, generator=generator(0))
