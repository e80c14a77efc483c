import math

import pytest
import torch

from regimes.activations import ACTIVATIONS
from regimes.meanfield.particles import Particles, double, gaussian


def seeds(*numbers):
    return [torch.Generator().manual_seed(number) for number in numbers]


def test_a_run_is_the_same_alone_as_in_an_ensemble():
    together = gaussian(7, 3, 2, generators=seeds(5, 6, 7))
    alone = gaussian(7, 3, 2, generators=seeds(6))
    assert torch.equal(together.output[1:2], alone.output)
    assert torch.equal(together.input[1:2], alone.input)


def test_the_output_weights_are_drawn_first():
    (stream,) = seeds(3)
    output = torch.randn(4, 2, generator=stream, dtype=torch.float64)
    input = torch.randn(4, 5, generator=stream, dtype=torch.float64)
    particles = gaussian(4, 5, 2, generators=seeds(3))
    assert torch.equal(particles.output[0], output)
    assert torch.equal(particles.input[0], input)


def test_a_seed_is_the_same_net_in_both_precisions():
    single = gaussian(6, 3, generators=seeds(1), dtype=torch.float32)
    assert single.input.dtype == torch.float32
    assert torch.equal(single.input, gaussian(6, 3, generators=seeds(1)).input.float())


def test_the_weights_have_the_standard_deviation_asked_for():
    particles = gaussian(500, 20, 20, generators=seeds(1, 2), std=torch.tensor([0.5, 3.0], dtype=torch.float64))
    for run, std in enumerate((0.5, 3.0)):
        for weights in particles:
            values = weights[run].flatten()
            error = std / math.sqrt(2 * len(values))  # of a standard deviation of normal numbers
            assert abs(values.std() - std) < 5 * error
            assert abs(values.mean()) < 5 * std / math.sqrt(len(values))


@pytest.mark.parametrize("unit", ACTIVATIONS.values(), ids=lambda unit: unit.name)
def test_a_doubled_net_has_output_zero(unit):
    net = double(gaussian(9, 4, 2, generators=seeds(1, 2)))
    values = unit.value(torch.randn(2, 30, 4, dtype=torch.float64) @ net.input.mT)
    outputs = values @ net.output
    rounding = torch.finfo(torch.float64).eps * values.abs() @ net.output.abs()
    assert net.width == 18
    assert (outputs.abs() <= 4 * rounding).all()  # a few roundings of each term
    assert (values[..., :9] @ net.output[:, :9]).abs().amax() > 0.1


def test_doubling_keeps_the_input_weights_and_flips_the_output_weights():
    net = gaussian(3, 2, generators=seeds(1))
    doubled = double(net)
    assert torch.equal(doubled.input, torch.cat([net.input, net.input], dim=1))
    assert torch.equal(doubled.output, torch.cat([net.output, -net.output], dim=1))


def test_runs_can_be_selected_and_copies_are_independent():
    net = gaussian(3, 2, generators=seeds(1, 2, 3))
    assert torch.equal(net.select([2, 0]).input, net.input[[2, 0]])
    copy = net.clone()
    copy.input.zero_()
    assert net.input.abs().min() > 0
    assert (net.runs, net.width) == (3, 3)
    assert isinstance(net.to(torch.float32), Particles)


@pytest.mark.parametrize("sizes", [(0, 2, 1), (3, 0, 1), (3, 2, 0)])
def test_a_net_needs_neurons_inputs_and_outputs(sizes):
    with pytest.raises(ValueError, match="as a whole number, at least 1; got 0"):
        gaussian(*sizes, generators=seeds(1))


def test_a_run_needs_a_generator_and_a_std():
    with pytest.raises(ValueError, match="one generator a run"):
        gaussian(3, 2, generators=[])
    with pytest.raises(ValueError, match="one std a run; got \\(3,\\) for 1"):
        gaussian(3, 2, generators=seeds(1), std=torch.ones(3))
