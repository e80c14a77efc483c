"""Channels last changes where numbers lie and nothing else; no block reorders a gradient."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.models.build import build
from regimes.models.initialise import initialise, kaiming
from regimes.models.layout import channels_last

ARCHES = {
    "resnet9": {"filters": 8, "blocks": 3},
    "preact_resnet": {"depth": 8},
    "resnext29": {"cardinality": 2, "width": 4},
    "vgg11": {},
}


def net(arch):
    model = build(arch, (3, 32, 32), 10, **ARCHES[arch]).double()
    return initialise(model, kaiming, generator=generator(0))


def gradients(model, x, labels):
    cross_entropy(model(x), labels).backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
def test_output_and_gradients_are_those_of_the_plain_layout(arch):
    x, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=generator(1)), torch.tensor([0, 3, 5, 9])
    plain, ordered = net(arch), channels_last(net(arch))
    assert_close(ordered(x), plain(x))
    expected, found = gradients(plain, x, labels), gradients(ordered, x, labels)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert_close(found[name].contiguous(), gradient.contiguous(), rtol=1e-7, atol=1e-10, msg=name)


@pytest.mark.parametrize("trace", [False, True])
def test_every_state_and_every_gradient_between_blocks_has_its_channels_last(trace):
    """Without the hook at the head the gradient of each block's end has its channels first."""
    model = channels_last(net("resnet9"))
    seen = []
    for block in model.segment(0).blocks:
        block.residual.register_full_backward_hook(lambda module, inward, outward: seen.append(outward[0]))
        block.residual.register_forward_hook(lambda module, inputs, output: seen.append(output))
    output = model(torch.randn(4, 3, 32, 32, dtype=torch.float64), trace=trace)
    (output.output if trace else output).sum().backward()
    assert len(seen) == 6
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in seen)


def test_a_net_on_flat_inputs_is_left_as_it_is():
    plain = build("dense", (3,), 2, blocks=2)
    model = channels_last(plain)
    assert model is plain
    model(torch.randn(5, 3)).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
