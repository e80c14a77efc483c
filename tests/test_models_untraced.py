"""What a trace leaves out is said: shortcuts, blocks that chance skips, random numbers in eval mode, other paths."""

import random
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from kinds_of_outputs import REFUSED, TAKEN
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import regimes
from regimes.conventions import generator
from regimes.training.objectives import LeastAction


class Conv(nn.Module):
    """A residual block with a projection under a name of the field's; `inner` is where else the projection may sit."""

    def __init__(self, entry, width, stride=1, name=None):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(entry, width, 3, stride, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.name = name
        if name is not None:
            self.add_module(name, nn.Sequential(nn.Conv2d(entry, width, 1, stride), nn.BatchNorm2d(width)))

    def forward(self, x):
        shortcut = x if self.name is None else self.get_submodule(self.name)(x)
        return shortcut + self.conv2(self.conv1(x).relu())


class PreAct(Conv):
    """Its shortcut takes the activated input, as in pre-activation nets."""

    def forward(self, x):
        z = x.relu()
        shortcut = x if self.name is None else self.get_submodule(self.name)(z)
        return shortcut + self.conv2(self.conv1(z).relu())


class Padded(nn.Module):
    """A shortcut without weights, as in ResNets of CIFAR-10's option A: no submodule."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 3)) + self.conv(x)


def two_stages(kind, name):
    return nn.Sequential(OrderedDict(
        layer1=nn.Sequential(kind(3, 3), kind(3, 3)), layer2=nn.Sequential(kind(3, 6, 2, name), kind(6, 6)),
        layer3=nn.Sequential(kind(6, 12, 2, name), kind(12, 12)), head=nn.Sequential(nn.Flatten(), nn.LazyLinear(2)),
    ))  # fmt: skip


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8)


NAMES = ["downsample", "shortcut", "skip_connection", "conv_shortcut", "convShortcut", "nin_shortcut", "proj"]


@pytest.mark.parametrize("kind", [Conv, PreAct])
@pytest.mark.parametrize("name", NAMES)
def test_a_shortcut_that_is_not_traced_is_said_with_its_cure(kind, name, images):
    model = two_stages(kind, name)
    model(images)
    traced = regimes.trace_residuals(model, "layer?.?")
    with pytest.warns(UserWarning, match="no shortcut is traced") as caught:
        without = traced(images)
    (text,) = [str(warning.message) for warning in caught]
    assert f"shortcuts=['layer2.0.{name}', 'layer3.0.{name}'] to count it, or shortcuts=() to leave it out" in text
    assert "['layer2.0', 'layer3.0']" in text
    traced(images)  # said once
    named = regimes.trace_residuals(model, "layer?.?", shortcuts=[f"layer2.0.{name}", f"layer3.0.{name}"])(images)
    meant = regimes.trace_residuals(model, "layer?.?", shortcuts=())(images)
    assert (len(without.flat_steps), len(meant.flat_steps), len(named.flat_steps)) == (4, 4, 6)


def test_a_shortcut_that_one_forgets_among_others_is_said(images):
    model = two_stages(Conv, "downsample")
    model(images)
    with pytest.warns(UserWarning, match=r"changes in 'layer3\.0', .* shortcuts='layer3\.0\.downsample'"):
        regimes.trace_residuals(model, "layer?.?", shortcuts="layer2.0.downsample")(images)


def test_a_shortcut_that_is_no_submodule_is_said_too(images):
    model = nn.Sequential(Conv(3, 3), Padded(), Conv(6, 6))
    with pytest.warns(UserWarning, match=r"changes in '1', .* Pass shortcuts=\.\.\., the submodules that return it"):
        regimes.trace_residuals(model, "?")(images)


def test_a_projection_within_one_space_is_said_and_an_identity_is_not(images):
    model = nn.Sequential(Conv(3, 3, name="downsample"), Conv(3, 3))
    with pytest.warns(
        UserWarning, match=r"'0\.downsample' looks like a shortcut .* the step of '0' counts that change"
    ):
        regimes.trace_residuals(model, "?")(images)

    class Kept(Conv):
        def __init__(self):
            super().__init__(3, 3)
            self.name, self.shortcut, self.proj = "shortcut", nn.Sequential(), nn.Identity()

        def forward(self, x):
            return self.proj(super().forward(x))

    assert len(regimes.trace_residuals(nn.Sequential(Kept(), Kept()), Kept)(images).flat_steps) == 2


class Rows(nn.Module):
    """Leaves samples out at random, as timm's and torchvision's do; `kind` says by which generator."""

    def __init__(self, p=0.5, kind="torch"):
        super().__init__()
        self.p, self.kind, self.own = p, kind, torch.Generator().manual_seed(0)

    def forward(self, residual):
        if not self.training or self.p == 0:
            return residual
        if self.kind == "torch":
            kept = torch.rand(len(residual), 1) >= self.p
        elif self.kind == "numpy":
            kept = torch.as_tensor(np.random.rand(len(residual), 1) >= self.p)  # noqa: NPY002
        else:
            kept = torch.tensor([[random.random() >= self.p] for _ in residual])
        return residual * kept / (1 - self.p)


DropPath, StochasticDepth = (type(name, (Rows,), {}) for name in ("DropPath", "StochasticDepth"))


class Dropped(nn.Module):
    def __init__(self, drop=None, within=None):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.drop, self.within = drop or nn.Identity(), within or nn.Identity()

    def forward(self, z):
        return z + self.drop(self.linear(self.within(z)))


@pytest.mark.parametrize(
    "drop",
    [
        *(lambda kind=kind: Rows(kind=kind) for kind in ("torch", "numpy", "python")),
        lambda: Rows(p=0.01),  # seldom, and said all the same
        DropPath,
        StochasticDepth,
    ],
)
def test_chance_that_skips_samples_is_said_in_training_and_not_in_eval_mode(drop):
    model = nn.Sequential(Dropped(drop()), Dropped(), Dropped(drop()))
    traced, x = regimes.trace_residuals(model, Dropped), torch.randn(6, 4)
    assert len(traced.eval()(x).flat_steps) == 3
    traced.train()
    with pytest.warns(UserWarning, match=r"\['0', '2'\] draws random numbers in training that are no nn.Dropout"):
        traced(x)
    traced(x)


def test_chance_beside_dropout_is_seen_by_its_name_or_by_samples_that_do_not_move():
    torch.manual_seed(0)
    for drop in (DropPath(), Rows()):
        traced = regimes.trace_residuals(nn.Sequential(Dropped(drop, nn.Dropout(0.1))), Dropped)
        with pytest.warns(UserWarning, match=r"'0' draws random numbers in training that are no nn\.Dropout"):
            traced(torch.randn(50, 4))


@pytest.mark.parametrize("within", [nn.Dropout(0.2), nn.AlphaDropout(0.2), nn.RReLU(), None, Rows(p=0)])
def test_dropout_is_no_news(within):
    regimes.trace_residuals(nn.Sequential(Dropped(within=within)), Dropped)(torch.randn(6, 4))


class Skipping(nn.Module):
    """Leaves whole blocks out: within the block (it returns its input) or around it (it is not called)."""

    def __init__(self, inside, draw=random.random, p=0.5):
        super().__init__()
        self.blocks = nn.ModuleList([Dropped() for _ in range(4)])
        self.inside, self.draw, self.p = inside, draw, p
        if inside:
            for block in self.blocks:
                block.register_forward_hook(lambda m, i, o: i[0] if self.training and self.draw() < self.p else o)

    def forward(self, z):
        for block in self.blocks:
            if self.inside or not self.training or self.draw() >= self.p:
                z = block(z)
        return z


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("draw", [random.random, lambda: float(torch.rand(())), np.random.rand])
def test_a_block_that_is_skipped_is_said_and_has_no_step(inside, draw):
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
    traced, x = regimes.trace_residuals(Skipping(inside, draw), "blocks.?"), torch.randn(6, 4, requires_grad=True)
    found, costs = [], set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            trace = traced(x)
            costs.add(round(float(sum(step.square().sum() for step in trace.flat_steps)), 4))
            LeastAction()(trace, torch.arange(6) % 4).value.backward()
        found = [str(warning.message) for warning in caught]
    assert any("was skipped: the state passed it unchanged, and its step is 0" in text for text in found)
    assert len(costs) > 2
    assert len(found) == len(set(found))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(traced.eval()(x).flat_steps) == 4


def test_if_all_blocks_are_skipped_nothing_moves():
    traced, x = regimes.trace_residuals(Skipping(False, p=1.0), "blocks.?"), torch.randn(6, 4)
    with pytest.warns(UserWarning, match=r"\['blocks.0', .*\] was skipped"):
        loss = LeastAction()(traced(x.requires_grad_()), torch.arange(6) % 4)
    assert loss.transport == 0
    assert loss.value == loss.risk


def test_a_block_that_is_never_called_is_no_matter_of_chance():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Dropped(), Dropped()

        def forward(self, x):
            return self.a(x)

    for mode in (True, False):
        with pytest.raises(ValueError, match="forward never calls b"):
            regimes.trace_residuals(Noisy(), Dropped).train(mode)(torch.randn(3, 4))


def test_random_numbers_in_eval_mode_are_said():
    class Always(nn.Module):
        def forward(self, z):
            return F.dropout(z, 0.5, training=True)

    traced = regimes.trace_residuals(nn.Sequential(Dropped(within=Always())), Dropped).eval()
    with pytest.warns(UserWarning, match="'0' draws random numbers in eval mode: states, steps and transport cost"):
        traced(torch.randn(6, 4))


@pytest.mark.parametrize("shared", [True, False])
def test_a_masked_encoder_has_one_trace_with_and_without_gradients(shared):
    """In eval mode without gradients torch would hand nested tensors from layer to layer, zeros in padded places."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(4, 2)

        def forward(self, x, mask):
            return self.head(self.encoder(x, src_key_padding_mask=mask).mean(1))

    model, x, mask = Masked().double().eval(), torch.randn(3, 5, 4).double(), torch.zeros(3, 5, dtype=torch.bool)
    mask[:, 3:] = True
    if not shared:
        mask[0, 2] = True
    traced = regimes.trace_residuals(model, "encoder.layers.?")
    truth = traced(x, mask)
    with torch.no_grad():
        found = traced(x, mask)
        assert_close(traced(x, mask, trace=False), truth.output)
    with torch.inference_mode():
        assert_close(traced(x, mask).flat_steps[0].clone(), truth.flat_steps[0])
    assert_close(found.flat_steps, list(truth.flat_steps))
    assert_close(found.output, truth.output)
    assert torch.backends.mha.get_fastpath_enabled()


def test_looking_draws_no_random_numbers_and_changes_no_buffers(images):
    model = nn.Sequential(Conv(3, 3), nn.BatchNorm2d(3), Conv(3, 3), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    truth = model(images)
    after = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(before)
    torch.manual_seed(3)
    found = regimes.trace_residuals(model, Conv)(images)
    assert_close(found.output, truth, rtol=0, atol=0)
    assert_close(model.state_dict(), after, rtol=0, atol=0)


class Returning(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.block, self.kind = Dropped(), kind

    def forward(self, x):
        return self.kind(self.block(x))


@pytest.mark.parametrize("name", TAKEN)
def test_outputs_in_wrappings_are_taken(name):
    model, x = Returning(TAKEN[name]), torch.randn(3, 4, generator=generator(0))
    traced = regimes.trace_residuals(model, "block")
    assert torch.equal(traced(x).output, model.block(x))
    assert torch.equal(traced(x, trace=False), model.block(x))


@pytest.mark.parametrize("name", REFUSED)
def test_outputs_that_leave_a_choice_are_refused(name):
    traced = regimes.trace_residuals(Returning(REFUSED[name]), "block")
    for trace in (True, False):
        with pytest.raises(ValueError, match=r"the model returns a \w+, not a tensor: pass output="):
            traced(torch.randn(3, 4), trace=trace)
