import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.models.image_nets import dense_net, resnet9, resnext50
from regimes.models.residual import parameter_count

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def paths(model, shape):
    with torch.no_grad():
        return model.eval()(torch.randn(2, *shape), trace=True).paths


def test_parameters_of_resnet9_on_mnist_by_hand():
    encoder = (1 * 9 * 16 + 16) + (16 * 25 * 32 + 32)
    blocks = 9 * 2 * 32 * 9 * 32 + (64 + 8 * 2 * 64)  # the first block has one batch norm
    head = (32 * 14 * 14 * 100 + 100) + 200 + (100 * 10 + 10)
    assert encoder + blocks + head == 808_478
    assert parameter_count(resnet9(MNIST, 10)) == 808_478


def test_parameters_of_the_other_forms_of_resnet9_by_hand():
    assert parameter_count(resnet9(MNIST, 10, batch_norm=False)) == 808_478 - (
        64 + 8 * 2 * 64
    )  # the head keeps its own
    assert parameter_count(resnet9(MNIST, 10, batch_norm=False, compat=True)) == (
        808_478 - (64 + 8 * 2 * 64) - 9 * 32 * 9 * 32
    )
    one_layer = 808_478 - (32 * 14 * 14 * 100 + 100 + 200 + 1010) + (32 * 14 * 14 * 10 + 10)
    assert parameter_count(resnet9(MNIST, 10, head="one_layer")) == one_layer
    assert parameter_count(resnet9(MNIST, 10, blocks=4)) == 808_478 - 5 * (2 * 32 * 9 * 32 + 2 * 64)
    encoder = (3 * 9 * 16 + 16 + 32) + (16 * 9 * 32 + 32 + 64)
    blocks = 9 * 2 * 32 * 9 * 32 + (64 + 8 * 2 * 64)
    head = (32 * 32 * 32 * 1000 + 1000) + 2000 + (1000 * 100 + 100)
    assert parameter_count(resnet9(CIFAR, 100)) == encoder + blocks + head


def test_resnet9_keeps_one_space():
    (path,) = paths(resnet9(MNIST, 10, filters=4), MNIST)
    assert [tuple(state.shape) for state in path] == [(2, 4, 14, 14)] * 10
    assert tuple(paths(resnet9((1, 27, 9), 10, filters=4), (1, 27, 9))[0][0].shape) == (2, 4, 14, 5)  # odd sides
    assert tuple(paths(resnet9((3, 16, 16), 20, filters=4), (3, 16, 16))[0][0].shape) == (2, 4, 16, 16)
    assert tuple(paths(resnet9((3, 16, 16), 20, filters=4, downsample=True), (3, 16, 16))[0][0].shape) == (2, 4, 8, 8)


def published_resnext(classes, stem):
    """Parameters of ResNeXt50-32x4d, layer by layer, for a stem without bias."""
    total, entry = stem + 2 * 64, 64
    for planes, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        inner, out = planes * 4 * 32 // 64, 4 * planes
        for number in range(count):
            total += entry * inner + 2 * inner + inner * 9 * inner // 32 + 2 * inner + inner * out + 2 * out
            if number == 0:
                total += entry * out + 2 * out
            entry = out
    return total + entry * classes + classes


def test_parameters_of_resnext50_are_the_published_ones():
    assert published_resnext(1000, 3 * 49 * 64) == 25_028_904  # as published, for 224 × 224 images
    plain = resnext50(CIFAR, 100, compat=False)
    assert parameter_count(plain) == published_resnext(100, 3 * 9 * 64) == 23_177_124
    two_convolutions = (3 * 9 * 32 + 32) + 2 * 32 + (32 * 9 * 64 + 64)
    assert parameter_count(resnext50(CIFAR, 100)) == published_resnext(100, two_convolutions) == 23_194_852


def test_resnext50_has_four_spaces_of_the_published_shapes():
    found = paths(resnext50(CIFAR, 100, cardinality=1), CIFAR)
    assert [len(path) - 1 for path in found] == [3, 4, 6, 3]
    shapes = [tuple(path[0].shape[1:]) for path in found]
    assert shapes == [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)]


def test_compat_is_the_relu_on_the_residual_and_the_second_convolution():
    def layers(model, kind):
        return sum(isinstance(module, kind) for module in model.modules())

    plain, compat = (resnext50((3, 8, 8), 4, cardinality=1, compat=compat) for compat in (False, True))
    assert layers(compat, nn.ReLU) - layers(plain, nn.ReLU) == 16 + 1
    assert layers(compat, nn.Conv2d) - layers(plain, nn.Conv2d) == 1
    trace = compat.eval()(torch.randn(2, 3, 8, 8), trace=True)
    assert all((step >= 0).all() for path, steps in zip(trace.paths, trace.steps, strict=True) for step in steps[1:])


def test_the_dense_net_acts_on_inputs_or_on_features():
    x = torch.randn(5, 2, 3)
    plain = dense_net((2, 3), 4, blocks=2)
    assert torch.equal(plain(x, trace=True).paths[0][0], x.flatten(1))
    wide = dense_net((2, 3), 4, blocks=2, width=7)
    assert wide(x, trace=True).paths[0][0].shape == (5, 7)
    headless = dense_net((2, 3), 4, blocks=2, head=False)
    trace = headless(x, trace=True)
    assert torch.equal(trace.output, trace.paths[0][-1])
    circles = dense_net((2,), 2)
    assert parameter_count(circles) == 9 * 2 * (4 + 2) + (4 + 2)
    assert_close(circles(x[:, :, 0]), circles.head(circles(x[:, :, 0], trace=True).paths[0][-1]))


@pytest.mark.parametrize("make", [resnet9, resnext50])
def test_vectors_are_no_images(make):
    with pytest.raises(ValueError, match=r"needs images of shape \(channels, height, width\); got \(784,\)"):
        make((784,), 10)


def test_options_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="compat is about blocks without batch norm"):
        resnet9(MNIST, 10, compat=True)
    with pytest.raises(ValueError, match="head needs one of one_layer, two_layer; got 'three'"):
        resnet9(MNIST, 10, head="three")
    with pytest.raises(ValueError, match="at least 2 filters"):
        resnet9(MNIST, 10, filters=1)
    with pytest.raises(ValueError, match="at least one residual block"):
        resnet9(MNIST, 10, blocks=0)
