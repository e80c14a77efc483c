"""Pieces are formed in passes over some of the samples, and outputs are read together: neither changes a kernel."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes import ntk, tangent_operator
from regimes.tangent.gram import capture, features, whole
from regimes.tangent.gram.blocks import Bytes, Layout, layout, passes
from regimes.tangent.gram.footprint import most_bytes


class Mixed(nn.Module):
    """Convolutions with and without groups, a table, a norm, a layer over positions, and a part that is not read."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.inner = nn.Sequential(
            nn.Conv1d(4, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.Tanh(), nn.Conv1d(6, 6, 3, groups=3, bias=False)
        )
        self.over, self.cells = nn.Linear(6, 4), nn.GRUCell(4, 3)
        self.out = nn.Linear(3, 3)
        self.scale, self.power = nn.Parameter(torch.tensor([0.3, 1.1, -0.7])), nn.Parameter(torch.tensor(1.3))

    def forward(self, x):
        found = self.over(self.inner(self.table(x).mT).mT.tanh()).mean(1)
        return self.scale * self.out(self.cells(found).sigmoid() ** self.power)


def mixed():
    torch.manual_seed(0)
    return Mixed().double(), torch.randint(0, 5, (7, 6)), torch.randint(0, 5, (3, 6))


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
@pytest.mark.parametrize(("at_once", "room"), [(1, 2000), (3, 0), (6, 10**6)])
def test_passes_over_some_of_the_samples_give_the_same_kernel(at_once, room, outputs, monkeypatch):
    model, x, x2 = mixed()
    layers = tangent_operator(model, x).layers(outputs=outputs)
    plain = [ntk(model, x, outputs=outputs), ntk(model, x, x2, outputs=outputs)]
    monkeypatch.setattr(features, "FEW", 1)
    monkeypatch.setattr(capture, "_PATCHES", 300)
    monkeypatch.setattr(whole, "layout", lambda n, k, *_: Layout(n, k, True, 1e9, 1, at_once, room))
    found = [ntk(model, x, outputs=outputs), ntk(model, x, x2, outputs=outputs)]
    for one, other in zip(found, plain, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-13)  # sharper than the default
    for name, kernel in tangent_operator(model, x).layers(outputs=outputs).items():
        assert_close(kernel, layers[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 100, 101])
@pytest.mark.parametrize("most", [1, 2, 3, 10, 1000])
def test_a_pass_has_two_samples_at_least_and_together_they_are_all(n, most):
    covered = torch.zeros(n)
    for part in passes(n, most):
        assert 2 <= part.stop - part.start <= max(2, most)
        covered[part] += 1
    assert covered.min() == 1
    assert covered.sum() <= n + 1


class Wide(nn.Module):
    """Convolutions whose deltas are a hundred times what is kept of an output."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Flatten())
        self.out = nn.Linear(4 * 16**2, 20)
        self.out.requires_grad_(False)

    def forward(self, x):
        return self.out(self.layers(x))


def test_deltas_of_many_outputs_are_read_together_within_their_room(monkeypatch):
    together = []
    counted = capture._Reader.read
    monkeypatch.setattr(
        capture._Reader, "read", lambda self, deltas, some: together.append(len(deltas)) or counted(self, deltas, some)
    )
    model, x = Wide(), torch.randn(40, 1, 20, 20)
    one = 4 * (2 * 4 * 18**2 + 4 * 16**2)  # bytes of a sample and output, the largest layer twice
    found = []
    for memory in (2**31, 2**23):
        together.clear()
        most, kernel = most_bytes(
            lambda memory=memory: tangent_operator(model, x, memory=memory).gram(), [*model.parameters(), x]
        )
        assert most - kernel.nbytes <= memory
        found.append(max(together))
    assert found[0] == 20
    assert found[1] * 16 * one <= 2**23


def test_work_and_what_is_kept_fit_together():
    peak, kept = Bytes(1000, 50, 40), Bytes(0, 10, 20)
    for memory in (10**5, 10**6, 10**7):
        for n in (10, 1000, 30_000):
            found = layout(n, 3, peak, kept, memory, None)
            work = Bytes(1000, 40, 20).of(found.at_once, found.outputs)
            if found.stays:
                assert kept.stored(n, 3, found.outputs) + work + found.room <= memory
            elif found.at_once > 1:
                assert found.strip * kept.of(found.samples, found.outputs) + work + found.room <= memory
