"""The published deep networks: parameter counts, split into encoder, transport and head, sizes of their stages."""

import pytest
import torch
from torch.testing import assert_close

from regimes.models.build import ARCHITECTURES, build, options
from regimes.models.cifar_nets import PadChannels, preact_bottleneck, preact_resnet, resnext29, wide_resnet
from regimes.models.residual import parameter_count

SHAPE = (3, 32, 32)


@pytest.mark.parametrize(
    ("depth", "published"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)  # [HeZhang2015] table 6, millions
def test_resnets_without_shortcut_parameters_have_the_published_size(depth, published):
    count = parameter_count(preact_resnet(SHAPE, 10, depth=depth, shortcut="pad"))
    assert round(count / 1e6, 2 if published < 1 else 1) == published


def test_resnet20_has_its_size_to_the_last_parameter():
    convolutions = 3 * 144 + 6 * 2304 + (4608 + 5 * 9216) + (18432 + 5 * 36864)
    norms = 2 * (6 * 16 + (16 + 5 * 32) + (32 + 5 * 64) + 64)
    assert parameter_count(preact_resnet(SHAPE, 10, shortcut="pad")) == convolutions + norms + 650


@pytest.mark.parametrize(
    ("net", "published"),
    [
        (lambda: preact_bottleneck(SHAPE, 10, depth=164), 1.7),  # [HeZhang2016]
        (lambda: resnext29(SHAPE, 10), 34.4),  # [Xie2017]
        (lambda: resnext29(SHAPE, 10, cardinality=16), 68.1),  # 68.155 by this count
        (lambda: wide_resnet(SHAPE, 10, depth=28, widen=10), 36.5),  # [ZagoruykoKomodakis2016]
        (lambda: wide_resnet(SHAPE, 10, depth=16, widen=8), 11.0),
        (lambda: wide_resnet(SHAPE, 10, depth=40, widen=4), 8.9),
    ],
)
def test_the_others_have_the_published_size(net, published):
    assert parameter_count(net()) / 1e6 == pytest.approx(published, abs=0.06)


def test_the_pad_shortcut_thins_pixels_and_adds_empty_channels():
    z = torch.arange(32.0).reshape(1, 2, 4, 4)
    out = PadChannels(2, 5, 2)(z)
    assert_close(out[:, :2], z[:, :, ::2, ::2])
    assert out.shape == (1, 5, 2, 2)
    assert not out[:, 2:].any()


@pytest.mark.parametrize("name", ["resnet20", "resnet56", "resnet164", "wide_resnet"])
def test_states_add_up_and_the_trace_changes_nothing(name):
    given = {"widen": 1, "depth": 16} if name == "wide_resnet" else {}
    model = build(name, SHAPE, 10, **given).eval()
    x = torch.randn(2, *SHAPE)
    trace = model(x, trace=True)
    assert torch.equal(trace.output, model(x))
    assert [path[0].shape[2] for path in trace.paths] == [32, 16, 8]
    for path, steps in zip(trace.paths, trace.steps, strict=True):
        assert len(path) == len(steps) + 1
        for before, step, after in zip(path, steps, path[1:], strict=False):
            assert torch.equal(before + step, after)


def test_one_training_step_moves_every_parameter():
    model = build("resnet20", SHAPE, 10)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.nn.functional.cross_entropy(model(torch.randn(8, *SHAPE)), torch.arange(8)).backward()
    optimizer.step()
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert not still


def test_presets_say_their_depth_among_their_options():
    assert options("resnet56")["depth"] == 56
    assert "resnet110" in ARCHITECTURES


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: preact_resnet(SHAPE, 10, depth=21), "6n \\+ 2"),
        (lambda: wide_resnet(SHAPE, 10, depth=27), "6n \\+ 4"),
        (lambda: preact_bottleneck(SHAPE, 10, depth=100), "9n \\+ 2"),
        (lambda: preact_resnet(SHAPE, 10, shortcut="none"), "convolution, pad"),
        (lambda: resnext29((64,), 10), "images of shape"),
    ],
)
def test_wrong_numbers_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
