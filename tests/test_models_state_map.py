"""The map of a segment between its states: that of the blocks, and refused where blocks are no map."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import regimes
from regimes.models.build import build
from regimes.models.state_map import state_map


class Block(nn.Module):
    def __init__(self, width, out=None):
        super().__init__()
        self.inner = nn.Linear(width, out or width)
        self.shortcut = nn.Identity() if out is None else nn.Linear(width, out, bias=False)

    def forward(self, z):
        return self.shortcut(z) + self.inner(z).tanh()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.one = nn.Sequential(Block(4), Block(4))
        self.two = nn.Sequential(Block(4, 6), Block(6), Block(6))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.two(self.one(self.stem(x))))


X = torch.randn(7, 3)


@pytest.mark.parametrize("shortcuts", [None, "two.0.shortcut"])
def test_the_map_of_one_s_own_blocks_leads_from_start_to_end(shortcuts):
    net = Net().eval()
    traced = regimes.trace_residuals(net, ["one.?", "two.?"], shortcuts=shortcuts)
    first, second = (state_map(traced, X, segment=k) for k in (0, 1))
    z = net.stem(X).detach()
    assert_close(first.start, z)
    assert_close(first.end, net.one(z).detach())
    assert_close(first.transport_map(z), first.end)
    # The first block of the second segment comes from another space, whether its shortcut is known or not.
    assert_close(second.start, net.two[0](first.end).detach())
    assert_close(second.end, net.two(first.end).detach())
    assert [len(found.path) for found in (first, second)] == [3, 3]
    assert not second.start.requires_grad


def test_it_is_that_of_a_residual_net_too():
    model = build("dense", (3,), 2, blocks=3, width=4).eval()
    found, traced = state_map(model, X), state_map(regimes.trace_residuals(model), X)
    trace = model(X, trace=True)
    assert_close(found.path, tuple(state.detach() for state in trace.paths[0]))
    assert_close(found.transport_map(found.start).detach(), found.end)
    assert_close(found.end, traced.end)


def test_the_gap_takes_it():
    found = state_map(regimes.trace_residuals(Net().eval(), "one.?"), X)
    asked = regimes.ot_gap(found.start, found.transport_map, path=found.path, with_power=False)
    assert asked.exact.certified
    assert asked.map.asymmetry > 0
    assert 0 < asked.path.straightness <= 1


class Fed(nn.Module):
    """Blocks that are given the input besides the state."""

    def __init__(self, by_keyword):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Bilinear(3, 3, 3)])
        self.by_keyword = by_keyword

    def forward(self, x):
        for block in self.blocks:
            x = block(x, x.flip(0))
        return x


class Remembering(nn.Module):
    """A block that does something else when it is called again."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, z):
        self.calls += 1
        return z + self.calls


def test_blocks_that_are_no_map_of_the_state_are_refused():
    with pytest.raises(ValueError, match="no map of the state alone"):
        state_map(regimes.trace_residuals(Fed(False).eval(), "blocks.?"), X)
    with pytest.raises(ValueError, match="end elsewhere"):
        state_map(regimes.trace_residuals(nn.Sequential(Remembering()).eval(), "0"), X)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (X * torch.nan, "finite x; .* NaN or infinite"),
        (X.double(), "inputs that the model takes; .* of torch.float64 ends in"),
        (X[:, :-1], "inputs that the model takes"),
    ],
)
def test_inputs_that_the_model_does_not_take_are_not_blamed_on_its_blocks(x, text):
    traced = regimes.trace_residuals(Net().eval(), "one.?")
    for model in (traced, build("dense", tuple(X.shape[1:]), 2, blocks=1, width=4).eval()):
        with pytest.raises(ValueError, match=f"state_map needs {text}"):
            state_map(model, x)


def test_the_wrong_model_mode_or_number_is_refused():
    traced = regimes.trace_residuals(Net().eval(), "one.?")
    with pytest.raises(ValueError, match="the model has 1 segments, numbered from 0; got 1"):
        state_map(traced, X, segment=1)
    with pytest.raises(ValueError, match="state_map needs a ResidualNet, or trace_residuals"):
        state_map(Net().eval(), X)
    with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
        state_map(build("dense", (3,), 2, blocks=1, width=4, batch_norm=True).train(), X)
