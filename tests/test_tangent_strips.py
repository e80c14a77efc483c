"""Blocks of samples that are held together, so that the blocks of the other side are read less often."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes import ntk, tangent_operator
from regimes.tangent.gram import blocks, capture, features, layers, whole
from regimes.tangent.gram.blocks import Block, Bytes, Layout, layout, strips
from regimes.tangent.gram.forms import Outputs
from regimes.tangent.gram.tiles import units


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 2, bias=False), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(8, 3)
    ).double()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(7, 4).double(), nn.Linear(4, 3).double()

    def forward(self, x):
        return self.out(self.table(x).tanh().mean(1))


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5)).double()

    def forward(self, x):
        return self.layers(x).square().mean(1)


@pytest.mark.parametrize("outputs", ["trace", "diagonal"])
def test_outputs_go_one_after_the_other_where_blocks_would_be_small(outputs, monkeypatch):
    model, x, x2 = Steps(), *(torch.randn(n, 20, 6, dtype=torch.float64) for n in (30, 4))
    plain = [ntk(model, x, outputs=outputs), ntk(model, x, x2, outputs=outputs)]
    layers = tangent_operator(model, x).layers(outputs=outputs)
    parts, counts, shown = whole.Task.parts, [], []

    def looked(self):
        found = parts(self)
        counts.append(len(found))
        return found

    monkeypatch.setattr(whole.Task, "parts", looked)
    operator = tangent_operator(model, x, memory=2**16)
    found = [operator.gram(outputs=outputs, progress=lambda *at: shown.append(at)), operator.gram(x2, outputs=outputs)]
    by_layer = operator.layers(outputs=outputs)
    assert min(counts) > 1
    for one, other in zip([*found, *by_layer.values()], [*plain, *layers.values()], strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)  # sharper than the default
    assert torch.equal(found[0], found[0].transpose(0, 1))
    assert shown == [(done, len(shown)) for done in range(1, len(shown) + 1)]
    counts.clear()
    operator.gram(outputs="full")
    tangent_operator(model, x).gram(outputs=outputs)
    assert counts == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("tile", [1.0, 3000.0, 1e9])
@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
@pytest.mark.parametrize("name", ["convolutions", "tokens"])
def test_strips_of_blocks_give_the_same_kernel(name, outputs, tile, monkeypatch, tmp_path):
    model = convolutions() if name == "convolutions" else Tokens()
    x, x2 = (
        torch.randn(n, 2, 5, 5, dtype=torch.float64) if name == "convolutions" else torch.randint(0, 7, (n, 6))
        for n in (11, 5)
    )
    plain = [ntk(model, x, outputs=outputs), ntk(model, x, x2, outputs=outputs)]
    layers = tangent_operator(model, x).layers(outputs=outputs)
    monkeypatch.setattr(whole, "layout", lambda n, k, *_: Layout(2, k, False, tile, 3))
    found = [ntk(model, x, outputs=outputs), ntk(model, x, x2, outputs=outputs)]
    found.append(ntk(model, x, outputs=outputs, out=tmp_path / "kernel.npy"))  # all outputs together, in a file
    for one, other in zip(found, [*plain, plain[0]], strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)  # sharper than the default
    turned = found[0].transpose(0, 1)
    assert torch.equal(found[0], turned.transpose(2, 3) if outputs == "full" else turned)
    for layer, kernel in tangent_operator(model, x).layers(outputs=outputs).items():
        assert_close(kernel, layers[layer])


def test_each_block_is_formed_once_and_those_of_the_first_strip_never_go_to_the_disk(monkeypatch):
    formed, written = [], []
    write, pieces = blocks._written, features.Features.pieces

    def watched(file, found):
        written.append(file.name)
        return write(file, found)

    def counted(self, part, outputs=slice(None), *given, **options):
        formed.append(part.flatten(1).sum(1).tolist())
        return pieces(self, part, outputs, *given, **options)

    monkeypatch.setattr(blocks, "_written", watched)
    monkeypatch.setattr(features.Features, "pieces", counted)
    monkeypatch.setattr(whole, "layout", lambda n, k, *_: Layout(2, k, False, 1e9, 2))
    x = torch.randn(10, 2, 5, 5, dtype=torch.float64)
    ntk(convolutions(), x)
    assert formed[3:] == [row.tolist() for row in x.flatten(1).sum(1).split(2)]  # three to measure
    assert written == ["4_0", "6_0", "8_0"]  # blocks begin at samples 0, 2, 4, 6, 8


@pytest.mark.parametrize("side", [1, 7, 30, 100, 1000])
def test_tiles_of_a_block_cover_its_upper_half_once_within_the_pairs_of_a_square(side):
    n, covered = 100, torch.zeros(100, 100)
    strip = strips([Block(slice(0, n), slice(0, 10))], 1)
    found = list(units(strip, [Block(slice(0, n), slice(0, 10))], Outputs("full"), side, symmetric=True))
    for unit in found:
        covered[unit.parts] += 1
        assert covered[unit.parts].numel() <= max(side, 1) ** 2
        assert unit.square == (unit.parts[0] == unit.parts[1])
    assert torch.equal(covered.triu(), torch.ones(n, n).triu())
    assert covered.max() == 1
    assert side < 1000 or len(found) == 15  # eight parts of 13 rows, and rectangles between halves


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize(("peak", "kept"), [(20, 7), (2, 1), (1, 1), (50, 1), (7, 7)])
def test_what_is_held_and_what_is_worked_on_fit_together(peak, kept, k):
    peak, kept = Bytes(100, peak, peak), Bytes(0, kept, kept)
    for memory in (10**4, 10**5, 10**6):
        found = layout(10**7, k, peak, kept, memory, None)
        held = found.strip * kept.of(found.samples, k)
        if found.strip > 1:
            own, work = kept.of(found.samples, k), Bytes(*(most - less for most, less in zip(peak, kept, strict=True)))
            assert held + own + max(work.of(found.at_once, k) + found.room, found.tile) <= 0.81 * memory
            assert found.tile > 0
    assert layout(10**7, k, peak, kept, 10**6, None).strip > 1
    assert layout(10**7, k, peak, kept, 10**6, 2).strip == 1  # blocks of the user's size are tiles of their own


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
def test_patches_formed_for_one_sample_at_a_time_give_the_same_kernel(outputs, monkeypatch):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=2, bias=False), nn.Flatten(),
        nn.Linear(4, 3),
    ).double()  # fmt: skip
    x = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    at_once = ntk(net, x, outputs=outputs)
    sizes = []
    patches = layers._patches
    monkeypatch.setattr(
        layers, "_patches", lambda use, some: sizes.append(len(patches(use, some))) or patches(use, some)
    )
    monkeypatch.setattr(capture, "_PATCHES", 1)
    assert_close(ntk(net, x, outputs=outputs), at_once, rtol=1e-14, atol=1e-14)
    assert set(sizes) == {1}
