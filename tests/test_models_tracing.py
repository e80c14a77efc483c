import copy
import gc
import subprocess
import sys
import weakref
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import regimes
from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.models.residual import Block
from regimes.training.loop import Training, descend
from regimes.training.metrics import evaluate
from regimes.training.objectives import LeastAction, Plain
from regimes.transport import energy


class BasicBlock(nn.Module):
    """In the style of torchvision's: ReLU after the sum, in place, with a projection where the shape changes."""

    def __init__(self, entry, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(entry, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or entry != width:
            self.downsample = nn.Sequential(nn.Conv2d(entry, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ImageNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.relu, self.maxpool = nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4))
        self.layer2 = nn.Sequential(BasicBlock(4, 6, 2), BasicBlock(6, 6), BasicBlock(6, 6))
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.maxpool(self.relu(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        return self.proj(F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1)))


class VitBlock(nn.Module):
    """In the style of timm's: x + attention, x + multilayer perceptron; returns what `kind` says."""

    def __init__(self, width, kind="tensor"):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, width))
        self.kind = kind

    def forward(self, hidden_states, head_mask=None, output_attentions=False):
        weights = self.attn(self.norm1(hidden_states))
        hidden_states = hidden_states + weights
        hidden_states = hidden_states + self.mlp(self.norm2(hidden_states))
        return {"tensor": hidden_states, "tuple": (hidden_states, weights), "none": None}[self.kind]


class ModelOutput(OrderedDict):
    @property
    def logits(self):
        return self["logits"]


class Transformer(nn.Module):
    """In the style of Hugging Face's: layers are called by keyword, return tuples; the model returns an object."""

    def __init__(self, kind="tuple", returns="object"):
        super().__init__()
        self.embed, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList([VitBlock(4, kind) for _ in range(3)])
        self.returns = returns

    def forward(self, pixel_values, labels=None):
        z = self.embed(pixel_values)
        for layer in self.encoder.layer:
            out = layer(output_attentions=False, head_mask=torch.ones(4), hidden_states=z)
            z = out[0] if isinstance(out, tuple) else out
        logits = self.head(z.mean(1))
        return {"object": ModelOutput(loss=None, logits=logits), "tuple": (logits, z), "nothing": None}[self.returns]


class Shift(nn.Module):
    def __init__(self, size=2, inplace=False):
        super().__init__()
        self.linear, self.inplace = nn.Linear(size, size), inplace

    def forward(self, z):
        if self.inplace:
            z += self.linear(z)
            return z
        return z + self.linear(z)


def numbers(model, x):
    """Paths as numbers of states."""
    return [len(path) for path in model(x).paths]


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8)


def test_a_resnet_gives_its_states_and_steps_by_hand(images):
    model = ImageNet().eval()
    trace = regimes.trace_residuals(model, blocks="layer?.?", shortcuts=())(images)
    z0 = model.maxpool(model.relu(model.conv1(images)))
    z1, z2 = model.layer1[0](z0), model.layer1(z0)
    y0 = model.layer2[0](z2)  # changes the shape: the second segment starts after it
    y1, y2 = model.layer2[1](y0), model.layer2[2](model.layer2[1](y0))
    assert [len(path) for path in trace.paths] == [3, 3]
    for found, truth in zip([*trace.paths[0], *trace.paths[1]], [z0, z1, z2, y0, y1, y2], strict=True):
        assert torch.equal(found, truth)
    for found, truth in zip(trace.flat_steps, [z1 - z0, z2 - z1, y1 - y0, y2 - y1], strict=True):
        assert torch.equal(found, truth)
    assert torch.equal(trace.output, model(images))


def test_a_named_shortcut_is_where_its_block_starts(images):
    model = ImageNet().eval()
    trace = regimes.trace_residuals(model, blocks="layer?.?", shortcuts="layer?.0.downsample")(images)
    assert [len(path) for path in trace.paths] == [3, 4]
    before = trace.paths[0][-1]
    start = model.layer2[0].downsample(before)
    assert torch.equal(trace.paths[1][0], start)
    assert torch.equal(trace.steps[1][0], model.layer2[0](before) - start)


def test_an_identity_as_shortcut_changes_nothing():
    class WithShortcut(Shift):
        def __init__(self):
            super().__init__()
            self.shortcut = nn.Identity()

        def forward(self, z):
            return self.shortcut(z) + self.linear(z)

    model = nn.Sequential(WithShortcut(), WithShortcut())
    assert numbers(regimes.trace_residuals(model, "?", shortcuts="?.shortcut"), torch.randn(3, 2)) == [3]


@pytest.mark.parametrize(
    "blocks",
    [
        "layer?.*",
        ["layer1.0", "layer1.1", "layer2.?"],
        BasicBlock,
        lambda model: [*model.layer1, *model.layer2],
        lambda model: nn.ModuleList([*model.layer2, *model.layer1]),
        lambda model: ["layer1.*", *model.layer2],
        ["layer2.*", "layer1.*", "layer1.0"],
    ],
)
def test_blocks_are_named_by_pattern_list_class_or_themselves(images, blocks):
    model = ImageNet()
    made = blocks(model) if callable(blocks) and not isinstance(blocks, type) else blocks
    traced = regimes.trace_residuals(model, made, shortcuts=())
    assert traced.names == ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer2.2"]
    assert numbers(traced, images) == [3, 3]


def test_one_module_alone_may_be_the_block(images):
    model = ImageNet()
    assert regimes.trace_residuals(model, model.layer2[1]).names == ["layer2.1"]
    whole = regimes.trace_residuals(model, "layer1")(images)  # two blocks as one: one step over both
    parts = regimes.trace_residuals(model, "layer1.?")(images)
    assert_close(whole.steps[0][0], parts.steps[0][0] + parts.steps[0][1])


def test_the_model_as_a_whole_is_a_block_only_if_given_as_itself():
    model = nn.Sequential(Shift(), Shift())
    assert regimes.trace_residuals(model, "*").names == ["0", "1"]
    assert regimes.trace_residuals(nn.Sequential(model), nn.Sequential).names == ["0"]
    whole, x = regimes.trace_residuals(model, model), torch.randn(3, 2)
    assert_close(whole(x).flat_steps, [model(x) - x])


def test_layers_called_by_keyword_that_return_tuples_are_traced():
    model, x = Transformer(), torch.randn(5, 6, 3)
    trace = regimes.trace_residuals(model, "encoder.layer.*")(pixel_values=x)
    states = [model.embed(x)]
    for layer in model.encoder.layer:
        states.append(layer(states[-1])[0])
    assert len(trace.paths) == 1
    for found, truth in zip(trace.paths[0], states, strict=True):
        assert torch.equal(found, truth)  # and not the attention, nor the mask that comes first by keyword
    assert torch.equal(trace.output, model(x).logits)


def test_timm_style_blocks_in_a_sequential_are_traced():
    model = nn.Sequential(OrderedDict(embed=nn.Linear(3, 4), blocks=nn.Sequential(VitBlock(4), VitBlock(4))))
    x = torch.randn(5, 6, 3)
    trace = regimes.trace_residuals(model, VitBlock)(x)
    assert [len(path) for path in trace.paths] == [3]
    assert torch.equal(trace.paths[0][-1], model(x))


def test_the_caller_says_what_the_output_is():
    model, x = Transformer(returns="tuple"), torch.randn(5, 6, 3)
    traced = regimes.trace_residuals(model, "encoder.layer.*", output=lambda result: result[0])
    assert torch.equal(traced(x).output, model(x)[0])
    assert torch.equal(traced(x, trace=False), model(x)[0])


def test_a_block_used_twice_moves_twice():
    shared = Shift()
    model = nn.Sequential(OrderedDict(a=shared, b=Shift(), c=shared))
    traced, x = regimes.trace_residuals(model, Shift), torch.randn(3, 2)
    assert traced.names == ["a", "b"]
    assert regimes.trace_residuals(model, ["b", "c"]).names == ["b", "c"]  # by its other name
    path = traced(x).paths[0]
    assert len(path) == 4
    assert torch.equal(path[3], shared(model.b(shared(x))))


def test_anything_between_two_blocks_starts_a_new_segment():
    x = torch.randn(3, 2)
    assert numbers(regimes.trace_residuals(nn.Sequential(Shift(), nn.ReLU(), Shift()), Shift), x) == [2, 2]
    assert numbers(regimes.trace_residuals(nn.Sequential(Shift(), nn.Identity(), Shift()), Shift), x) == [3]
    view = nn.Sequential(Shift(), nn.Flatten(), Shift())  # the same memory under the same shape
    assert numbers(regimes.trace_residuals(view, Shift), x) == [3]
    other = nn.Sequential(Shift(4), nn.Unflatten(1, (2, 2)), Shift(2))
    assert numbers(regimes.trace_residuals(other, Shift), torch.randn(3, 4)) == [2, 2]


def test_two_branches_are_two_segments():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.ModuleList([Shift(), Shift()]), nn.ModuleList([Shift(), Shift()])

        def forward(self, x):
            a, b = x, x
            for left, right in zip(self.left, self.right, strict=True):
                a, b = left(a), right(b)
            return a + b

    model, x = Branches(), torch.randn(3, 2)
    paths = regimes.trace_residuals(model, Shift)(x).paths
    assert [len(path) for path in paths] == [3, 3]
    assert torch.equal(paths[1][2], model.right[1](model.right[0](x)))


def twin(net):
    """The same network and weights in plain torch: blocks are modules of their own, the states hand-made."""

    class Plain(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.residual, self.scale = block.residual, block.scale
            self.shortcut, self.activation = block.shortcut, block.activation

        def forward(self, z):
            start = z if self.shortcut is None else self.shortcut(z)
            end = start + self.scale * self.residual(z)
            return end if self.activation is None else self.activation(end)

    blocks = [Plain(block) for segment in net.segments for block in segment.blocks]
    return nn.Sequential(net.encoder, *blocks, net.head), Plain


@pytest.mark.parametrize("arch", ["resnet9", "resnext50", "preact_resnet"])
def test_hooks_and_a_residual_net_agree(arch):
    small = {"resnet9": {"filters": 4, "blocks": 3}, "resnext50": {"cardinality": 2}, "preact_resnet": {"depth": 14}}
    net = build(arch, (3, 8, 8), 4, **small[arch]).double()
    model, kind = twin(net)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    shortcuts = "*.shortcut" if any(name.endswith("shortcut") for name, _ in model.named_modules()) else None
    found, truth = regimes.trace_residuals(model, kind, shortcuts=shortcuts)(x), net(x, trace=True)
    assert torch.equal(found.output, truth.output)
    for ours, theirs in zip(found.paths, truth.paths, strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert_close(found.flat_steps, truth.flat_steps)
    targets = torch.tensor([0, 1, 2, 3])
    gradients = []
    for trace in (found, truth):
        net.zero_grad()
        LeastAction(multiplier=0.01)(trace, targets).value.backward()
        gradients.append([weight.grad for weight in net.parameters()])
    assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("blocks", [None, Block, "segments.*.blocks.*"])
def test_a_residual_net_traces_itself(blocks):
    net = build("preact_resnet", (3, 8, 8), 4, depth=8).eval()
    x = torch.randn(2, 3, 8, 8)
    traced = regimes.trace_residuals(net, blocks)
    found, truth = traced(x), net(x, trace=True)
    assert torch.equal(found.output, truth.output)
    for ours, theirs in zip([*found.paths, *found.steps], [*truth.paths, *truth.steps], strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert torch.equal(traced(x, trace=False), net(x))
    assert len(traced.names) == len(truth.flat_steps)
    with pytest.raises(ValueError, match="leave blocks and shortcuts out"):
        regimes.trace_residuals(net, "segments.0.blocks.*")


def test_energies_are_those_of_the_paths(images):
    trace = regimes.trace_residuals(ImageNet().double(), BasicBlock, shortcuts=())(images.double())
    measured = energy.measure(trace.paths)
    assert_close(measured.transport, energy.transport_cost(trace.flat_steps))
    truth = sum(((b - a).flatten(1) ** 2).sum(1).mean() for path in trace.paths for a, b in pairwise(path))
    assert_close(measured.transport, truth)


def test_least_action_in_three_lines(images):
    model, targets = ImageNet(), torch.tensor([0, 1, 2, 3])
    objective = regimes.LeastAction(multiplier=2.0, growth=0.5)
    loss = objective(regimes.trace_residuals(model, blocks="layer?.?", shortcuts=())(images), targets)
    loss.value.backward()
    objective.after_step()
    assert_close(loss.value, loss.risk + loss.transport / objective.multiplier.float())
    assert all(weight.grad is not None for weight in model.parameters())
    assert_close(objective.multiplier, 2 + 0.5 * loss.risk.double())


def test_the_transport_reaches_the_weights_of_the_blocks(images):
    model = ImageNet()
    trace = regimes.trace_residuals(model, "layer?.?", shortcuts=())(images)
    energy.transport_cost(trace.flat_steps).backward()
    assert model.layer1[0].conv1.weight.grad.abs().sum() > 0
    assert model.fc.weight.grad is None


def test_the_users_model_stays_as_it_is(images):
    model = ImageNet()
    keys, types = list(model.state_dict()), [type(module) for module in model.modules()]
    traced = regimes.trace_residuals(model, "layer?.?", shortcuts="layer2.0.downsample")
    traced(images)
    assert list(model.state_dict()) == keys
    assert [type(module) for module in model.modules()] == types
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert list(copy.deepcopy(model).state_dict()) == keys
    twin = copy.deepcopy(traced).eval()
    assert torch.equal(twin(images).flat_steps[0], traced.eval()(images).flat_steps[0])
    assert twin.model is not model


def test_hooks_go_when_the_model_fails():
    class Failing(nn.Module):
        def forward(self, z):
            raise RuntimeError("by itself")

    model = nn.Sequential(Shift(), Failing())
    with pytest.raises(RuntimeError, match="by itself"):
        regimes.trace_residuals(model, Shift)(torch.randn(3, 2))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_nothing_is_kept_when_the_trace_is_gone():
    model = nn.Sequential(Shift(), Shift())
    traced, x = regimes.trace_residuals(model, Shift), torch.randn(3, 2)
    gc.disable()
    try:
        trace = traced(x)
        states = [weakref.ref(state) for state in [*trace.paths[0][1:], *trace.flat_steps]]
        assert all(state() is not None for state in states)
        del trace
        assert all(state() is None for state in states)
    finally:
        gc.enable()


def test_traces_need_no_gradients_and_follow_the_mode(images):
    model = ImageNet()
    traced = regimes.trace_residuals(model, "layer?.?", shortcuts=()).eval()
    assert not model.training
    with torch.no_grad():
        trace = traced(images)
    assert not any(step.requires_grad for step in trace.flat_steps)
    with torch.inference_mode():
        assert torch.equal(traced(images).flat_steps[0], trace.flat_steps[0])
    traced.train()
    assert not torch.equal(traced(images).output, trace.output)  # batch norm by the batch


def test_checkpointed_blocks_have_the_same_gradients():
    class Checkpointed(nn.Module):
        def __init__(self, blocks, reentrant):
            super().__init__()
            self.blocks, self.reentrant = blocks, reentrant

        def forward(self, z):
            for block in self.blocks:
                z = checkpoint(block, z, use_reentrant=self.reentrant)
            return z

    blocks, x = nn.ModuleList([Shift(), Shift()]), torch.randn(3, 2, requires_grad=True)
    gradients = []
    for model in (nn.Sequential(*blocks), Checkpointed(blocks, False)):
        blocks.zero_grad()
        energy.transport_cost(regimes.trace_residuals(model, Shift)(x).flat_steps).backward()
        gradients.append([weight.grad for weight in blocks.parameters()])
    assert_close(gradients[0], gradients[1])
    with pytest.raises(ValueError, match=r"block 'blocks.0' runs without gradients.* use_reentrant=False"):
        regimes.trace_residuals(Checkpointed(blocks, True), Shift)(x)


def test_a_frozen_block_may_run_without_gradients():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = Shift().requires_grad_(False), Shift()

        def forward(self, x):
            with torch.no_grad():
                z = self.stem(x)
            return self.block(z)

    trace = regimes.trace_residuals(Frozen(), Shift)(torch.randn(3, 2))
    assert [step.requires_grad for step in trace.flat_steps] == [False, True]


def test_a_traced_model_is_trained_and_evaluated_by_the_loop():
    labels = torch.arange(12) % 5
    batches = Batches(Labelled(torch.randn(12, 3, 8, 8), labels), 4, seed=0)
    steps = {}
    for objective in (LeastAction(level="batch_after", growth=0.1), LeastAction(level="whole"), Plain()):
        traced = regimes.trace_residuals(ImageNet(), "layer?.?", shortcuts=())
        training = Training(traced, objective, torch.optim.SGD(traced.parameters(), lr=0.01))
        steps[type(objective)] = list(descend(training, batches, epochs=1))
        assert evaluate(traced, batches).blocks.shape == (4,)
    assert all(step.transport > 0 for step in steps[LeastAction])
    assert all(step.transport is None and step.risk == step.value for step in steps[Plain])


COMPILED = """
import torch, regimes
from regimes.models.build import build

net = build("dense", (3,), 2, blocks=2)
traced = regimes.trace_residuals(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)), "?")
for model in (net, traced):
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        x = torch.randn(4, 3)
        found, truth = compiled(x, trace=True), model(x, trace=True)
        torch.testing.assert_close([found.output, *found.flat_steps], [truth.output, *truth.flat_steps])
"""


@pytest.mark.slow  # imports the compiler
def test_compiled_networks_give_the_same_traces():
    # In a process of its own: the checks of argument types that run here cannot be compiled.
    subprocess.run([sys.executable, "-c", COMPILED], cwd=Path(__file__).parent.parent, check=True)


@pytest.mark.parametrize(
    ("model", "blocks", "message"),
    [
        (
            ImageNet(),
            "stage*.*",
            r"no submodule 'stage\*\.\*', as blocks wants; it has layer1, layer1.0, .*, layer2.2\.",
        ),
        (ImageNet(), nn.LSTM, "no submodule LSTM"),
        (ImageNet(), Shift(), "no submodule Shift"),
        (ImageNet(), [], "blocks needs at least one submodule"),
        (ImageNet(), None, "needs the residual blocks, blocks=...; it has layer1"),
        (ImageNet(), ["layer1", "layer1.0"], "block 'layer1.0' lies inside block 'layer1'"),
        (ImageNet(), nn.Module, "lies inside block"),
        (Shift(), "nothing", "it has linear"),
        (nn.ReLU(), "nothing", "it has no submodules"),
    ],
)
def test_blocks_that_are_not_there_are_named(model, blocks, message):
    with pytest.raises(ValueError, match=message) as caught:
        regimes.trace_residuals(model, blocks)
    assert "\n" not in str(caught.value)


def test_shortcuts_belong_to_blocks():
    with pytest.raises(ValueError, match="no submodule 'none', as shortcuts wants"):
        regimes.trace_residuals(ImageNet(), BasicBlock, shortcuts="none")
    with pytest.raises(ValueError, match=r"shortcut 'fc' lies in none of the blocks layer1\.0, layer1\.1"):
        regimes.trace_residuals(ImageNet(), BasicBlock, shortcuts="fc")


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Shift(), Shift()

    def forward(self, x):
        return self.a(x)


class OnNothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x):
        self.block(None)
        return x


@pytest.mark.parametrize(
    ("model", "blocks", "message"),
    [
        (Unused(), Shift, "forward never calls b: leave"),
        (nn.Sequential(Shift(inplace=True)), Shift, "block '0' starts from or ends at a state that is overwritten"),
        (nn.Sequential(Shift(), nn.ReLU(inplace=True)), Shift, "block '0' .* overwritten in place"),
        (
            nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)),
            nn.Linear,
            r"no block keeps the shape .*\(3, 2\) to \(3, 3\)",
        ),
        (OnNothing(), "block", "block 'block' is called without a tensor of floats"),
    ],
)
def test_models_whose_blocks_have_no_steps_are_refused(model, blocks, message):
    with pytest.raises(ValueError, match=message) as caught:
        regimes.trace_residuals(model, blocks)(torch.zeros(3, 2) + 1)
    assert "\n" not in str(caught.value)


def test_outputs_that_are_no_tensors_are_refused():
    x = torch.randn(5, 6, 3)
    for returns, kind in (("tuple", "tuple"), ("nothing", "NoneType")):
        with pytest.raises(ValueError, match=f"the model returns a {kind}, not a tensor: pass output="):
            regimes.trace_residuals(Transformer(returns=returns), VitBlock)(x)
    with pytest.raises(ValueError, match=r"block 'encoder.layer.0' returns a NoneType without a tensor"):
        regimes.trace_residuals(Transformer(kind="none"), VitBlock)(x)


def test_traces_pass_through_function_transforms():
    traced, x = regimes.trace_residuals(nn.Sequential(Shift(), Shift()), Shift), torch.randn(3, 2)
    segments = []

    def cost(weights, x):
        trace = functional_call(traced, weights, (x,))
        segments.append(len(trace.paths))
        return energy.transport_cost(trace.flat_steps)

    weights = dict(traced.named_parameters())
    singly = torch.stack([cost(weights, row[None]) for row in x])
    assert_close(vmap(lambda row: cost(weights, row[None]))(x), singly)
    gradients = grad(cost)(weights, x)
    assert set(segments) == {1}
    singly.mean().backward()
    for name, weight in traced.named_parameters():
        assert_close(gradients[name], weight.grad)


def test_the_step_of_a_block_that_stays_is_zero():
    block = Shift()
    with torch.no_grad():
        block.linear.weight.zero_()
        block.linear.bias.zero_()
    trace = regimes.trace_residuals(nn.Sequential(block), Shift)(torch.randn(3, 2, generator=generator(0)))
    assert torch.equal(trace.flat_steps[0], torch.zeros(3, 2))
