import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import conv2d, relu
from torch.testing import assert_close

from regimes.models.blocks import GroupNorm, basic, convolution, dense, last_convolution, resnext
from regimes.models.residual import parameter_count


def kinds(module):
    return [type(layer).__name__ for layer in module]


def test_the_dense_residual_is_two_layers_with_relu_between():
    residual = dense(3, 5)
    z = torch.randn(4, 3)
    assert kinds(residual) == ["Linear", "ReLU", "Linear"]
    assert_close(
        residual(z), relu(z @ residual[0].weight.T + residual[0].bias) @ residual[2].weight.T + residual[2].bias
    )
    assert kinds(dense(3, batch_norm=True)) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert parameter_count(dense(3)) == 2 * (9 + 3)


def test_the_basic_residual_is_pre_activation():
    assert kinds(basic(4)) == ["BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    assert kinds(basic(4, first=True)) == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    assert kinds(basic(4, batch_norm=False)) == ["ReLU", "Conv2d", "ReLU", "Conv2d"]
    wider = basic(4, channels_in=3, stride=2)
    assert wider[0].num_features == 3
    assert wider(torch.randn(2, 3, 8, 8)).shape == (2, 4, 4, 4)


@pytest.mark.parametrize("residual", [basic(4), basic(4, batch_norm=False), last_convolution(4)])
def test_residuals_leave_their_input_alone(residual):
    z = torch.randn(2, 4, 5, 5)
    before = z.clone()
    residual(z)
    assert torch.equal(z, before)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_convolutions_keep_the_resolution_and_have_no_bias(kernel):
    layer = convolution(3, 4, kernel)
    assert layer.bias is None
    assert layer(torch.randn(1, 3, 7, 7)).shape == (1, 4, 7, 7)
    assert convolution(3, 4, kernel, stride=2)(torch.randn(1, 3, 8, 8)).shape == (1, 4, 4, 4)


class AuthorBlock(nn.Module):
    """The author code without batch norm, step by step, its slip included: ReLU of x where that of z was meant."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = convolution(channels, channels), convolution(channels, channels)

    def forward(self, x):
        z = relu(x)
        z = self.conv1(z)
        z = relu(x)  # the slip: what conv1 made is gone
        z = self.conv2(z)
        return x + z


def test_without_batch_norm_the_author_code_ignores_its_first_convolution():
    author, ours = AuthorBlock(4), last_convolution(4)
    ours[1].load_state_dict(author.conv2.state_dict())
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(x + ours(x), author(x))
    author(x).square().sum().backward()
    assert author.conv1.weight.grad is None
    (x + ours(x)).square().sum().backward()
    assert_close(ours[1].weight.grad, author.conv2.weight.grad)
    intended = basic(4, batch_norm=False)
    intended[1].load_state_dict(author.conv1.state_dict())
    intended[3].load_state_dict(author.conv2.state_dict())
    assert not torch.allclose(x + intended(x), author(x), atol=1e-3)  # what was meant is another block


@pytest.mark.parametrize("relu_on_residual", [False, True])
def test_a_resnext_block_is_the_sum_written_out(relu_on_residual):
    block = resnext(4, 2, cardinality=2, width=64, stride=2, relu_on_residual=relu_on_residual).eval()
    z = torch.randn(3, 4, 6, 6)
    c1, c2, c3 = (layer.weight for layer in block.residual if isinstance(layer, nn.Conv2d))
    assert c1.shape == (4, 4, 1, 1)  # inner width: planes · width / 64 · cardinality
    assert c2.shape == (4, 2, 3, 3)  # in two groups
    assert c3.shape == (8, 4, 1, 1)
    scale = 1 / (1 + block.residual[1].eps) ** 0.5  # fresh batch norms in eval mode
    r = relu(conv2d(z, c1) * scale)
    r = relu(conv2d(r, c2, stride=2, padding=1, groups=2) * scale)
    r = conv2d(r, c3) * scale
    r = relu(r) if relu_on_residual else r
    start = conv2d(z, block.shortcut[0].weight, stride=2) * scale
    assert_close(block.move(z).start, start)
    assert_close(block(z), relu(start + r))
    assert_close(block.move(z).step, relu(start + r) - start)


def test_the_shortcut_is_the_identity_where_the_shape_stays():
    assert resnext(8, 2, cardinality=2, width=64).shortcut is None
    assert resnext(8, 2, cardinality=2, width=64, stride=2).shortcut is not None
    assert resnext(4, 2, cardinality=2, width=64).shortcut is not None


@pytest.mark.parametrize("image", [(), (4, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_group_norms_of_an_ensemble_are_those_of_its_members(image, layout):
    members = [GroupNorm(2, 6) for _ in range(3)]
    for member in members:
        nn.init.normal_(member.weight)
        nn.init.normal_(member.bias)
    inputs = torch.randn(3, 5, 6, *image)
    if image:
        inputs = torch.stack([each.to(memory_format=layout) for each in inputs])
    weights, _ = stack_module_state(members)
    together = vmap(lambda own, x: functional_call(members[0], (own,), (x,)))(weights, inputs)
    assert_close(together, torch.stack([member(x) for member, x in zip(members, inputs, strict=True)]))
