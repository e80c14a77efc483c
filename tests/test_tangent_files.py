"""Kernels in files that go on after a kill, kernels of single layers, and what is told on the way."""

import numpy as np
import pytest
import torch
from killing import Killed
from torch import nn
from torch.testing import assert_close

from regimes import ntk, tangent_operator
from regimes.models.scaling import Centred
from regimes.tangent import operator
from regimes.tangent.gram import files

pytestmark = pytest.mark.slow


def net(k=3):
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, k)).double()


def killed_after(tiles):
    """Ends the work after so many tiles."""

    def watch(done, total):
        if done >= tiles:
            raise Killed

    return watch


@pytest.fixture(autouse=True)
def every_tile_is_noted(monkeypatch):
    monkeypatch.setattr(files, "_SECONDS", -1.0)


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal", [2, 0]])
@pytest.mark.parametrize("other", [False, True])
def test_a_kernel_in_a_file_is_the_kernel(tmp_path, outputs, other):
    model, x = net(), torch.randn(9, 4, dtype=torch.float64)
    x2 = torch.randn(5, 4, dtype=torch.float64) if other else None
    expected = ntk(model, x, x2, outputs=outputs)
    found = ntk(model, x, x2, outputs=outputs, block=2, out=tmp_path / "kernel.npy")
    assert_close(found, expected)
    assert_close(torch.from_numpy(np.load(tmp_path / "kernel.npy")), expected)


@pytest.mark.parametrize("outputs", ["full", "trace"])
@pytest.mark.parametrize("memory", [2**29, 2**13])  # the second holds not all outputs of a sample
def test_what_was_killed_goes_on_where_it_stood(tmp_path, outputs, memory):
    model, x, path = net(), torch.randn(9, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    options = {"outputs": outputs, "block": 2, "memory": memory, "out": path}
    with pytest.raises(Killed):
        ntk(model, x, progress=killed_after(4), **options)
    told = []
    found = ntk(model, x, progress=lambda done, total: told.append((done, total)), **options)
    assert told[0][0] == 5
    assert told[-1][0] == told[-1][1] > 5
    assert_close(found, ntk(model, x, outputs=outputs))


def test_tiles_written_before_the_kill_are_not_computed_again(tmp_path):
    model, x, path = net(), torch.randn(9, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    with pytest.raises(Killed):
        ntk(model, x, block=3, out=path, outputs="trace", progress=killed_after(2))
    np.load(path, mmap_mode="r+")[0, 3] = -1  # in the second tile: by the first one the model is known
    assert ntk(model, x, block=3, out=path, outputs="trace")[0, 3] == -1


def test_a_tile_that_was_half_written_is_written_again(tmp_path):
    model, x, path = net(), torch.randn(9, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    with pytest.raises(Killed):
        ntk(model, x, block=3, out=path, outputs="trace", progress=killed_after(2))
    np.load(path, mmap_mode="r+")[3:, 3:] = 7.0
    assert_close(ntk(model, x, block=3, out=path, outputs="trace"), ntk(model, x, outputs="trace"))


def test_a_finished_file_is_returned_at_once(tmp_path):
    model, x, path = net(), torch.randn(5, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    first = ntk(model, x, out=path).clone()
    assert_close(ntk(model, x, out=path, progress=killed_after(0)), first)


def test_a_finished_file_serves_whatever_the_order_of_its_tiles_was(tmp_path, monkeypatch):
    model, x, path = net(), torch.randn(5, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    first = ntk(model, x, out=path).clone()
    monkeypatch.setattr(operator, "TILING", -1)
    for how in ({}, {"block": 2}, {"memory": 2**20}):
        assert_close(ntk(model, x, out=path, progress=killed_after(0), **how), first, rtol=0, atol=0)
    with pytest.raises(ValueError, match="belongs to other weights"):
        ntk(model, x, out=path, outputs="trace")


def test_an_unfinished_file_in_another_order_of_tiles_is_refused(tmp_path, monkeypatch):
    model, x, path = net(), torch.randn(5, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    with pytest.raises(Killed):
        ntk(model, x, out=path, block=2, progress=killed_after(2))
    with pytest.raises(ValueError, match="blocks or memory"):
        ntk(model, x, out=path, block=3)
    monkeypatch.setattr(operator, "TILING", -1)
    with pytest.raises(ValueError, match="or to another version of regimes"):
        ntk(model, x, out=path, block=2)


def test_a_file_of_another_kernel_is_refused(tmp_path):
    model, x, path = net(), torch.randn(5, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    ntk(model, x, out=path)
    for changed in (lambda: ntk(net(), x, out=path), lambda: ntk(model, x + 1, out=path)):
        with pytest.raises(ValueError, match="belongs to other weights"):
            changed()
    with pytest.raises(ValueError, match="belongs to other weights"):
        ntk(model, x, out=path, outputs="trace")
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ValueError, match="as a new file"):
        ntk(model, x, out=tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"
    with pytest.raises(ValueError, match="folder that is there"):
        ntk(model, x, out=tmp_path / "nowhere" / "kernel.npy")
    (tmp_path / "kernel.npy.progress.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read"):
        ntk(model, x, out=path)


def test_a_mapping_goes_into_a_file_too(tmp_path):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2).double()

        def forward(self, a, b):
            return torch.tanh(self.layer(a)) * b

    model, x = Sum(), {"a": torch.randn(4, 3).double(), "b": torch.randn(4, 2).double()}
    assert_close(ntk(model, x, out=tmp_path / "kernel.npy"), ntk(model, x))
    with pytest.raises(ValueError, match="belongs to other weights"):
        ntk(model, {**x, "b": x["b"] + 1}, out=tmp_path / "kernel.npy")


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
@pytest.mark.parametrize("memory", [2**29, 2**12])
def test_kernels_of_layers_are_those_of_a_model_with_the_others_frozen(outputs, memory):
    model, x = net(), torch.randn(7, 4, dtype=torch.float64)
    other = torch.randn(3, 4, dtype=torch.float64)
    for x2 in (None, other):
        found = tangent_operator(model, x, memory=memory).layers(x2, outputs=outputs)
        assert list(found) == ["0", "2", "3", "4"]
        assert_close(sum(found.values()), ntk(model, x, x2, outputs=outputs))
        for layer, kernel in found.items():
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.startswith(f"{layer}."))
            assert_close(kernel, ntk(model, x, x2, outputs=outputs))
            model.requires_grad_(True)


def test_layers_of_parameters_that_go_row_by_row():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.scale = nn.Linear(4, 3).double(), nn.Parameter(torch.randn(3).double())

        def forward(self, x):
            return torch.tanh(self.first(x)) * torch.sin(self.scale)

    model, x = Odd(), torch.randn(5, 4, dtype=torch.float64)
    found = tangent_operator(model, x).layers()
    assert sorted(found) == ["", "first"]
    assert_close(found[""] + found["first"], ntk(model, x))
    model.first.requires_grad_(False)
    assert_close(found[""], ntk(model, x))


def test_progress_counts_all_tiles():
    told = []
    model, x = net(), torch.randn(9, 4, dtype=torch.float64)
    ntk(model, x, block=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(done + 1, len(told)) for done in range(len(told))]
    assert len(told) > 1
    told.clear()
    tangent_operator(model, x).layers(block=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(done + 1, len(told)) for done in range(len(told))]


def test_progress_is_quiet_where_it_ends_within_a_minute(capsys):
    ntk(net(), torch.randn(3, 4, dtype=torch.float64), progress=True)
    assert capsys.readouterr() == ("", "")


def test_a_file_of_a_kernel_with_other_trained_parameters_is_refused(tmp_path):
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x = torch.randn(6, 3).double()
    tangent_operator(net, x).gram(outputs="trace", out=tmp_path / "k")
    net[0].requires_grad_(False)
    with pytest.raises(ValueError, match="another"):
        tangent_operator(net, x).gram(outputs="trace", out=tmp_path / "k")


class Routed(nn.Module):
    """Samples below 0 go to a second layer, of which the first samples know nothing."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()

    def forward(self, x):
        first = x[:, 0] > 0
        if first.all():
            return self.one(x)
        y = x.new_zeros(len(x), 2)
        return y.index_put((first,), self.one(x[first])).index_put((~first,), self.other(x[~first]))


def test_a_kernel_that_turned_out_to_go_row_by_row_goes_on_where_it_stood(tmp_path):
    model, x, path = Routed(), torch.randn(9, 3, dtype=torch.float64), tmp_path / "kernel.npy"
    x[:, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -1.0, -2.0])
    expected = ntk(model, x, outputs="trace")
    told = []
    with pytest.raises(Killed):
        ntk(model, x, block=2, out=path, outputs="trace", progress=killed_after(4))
    found = ntk(model, x, block=2, out=path, outputs="trace", progress=lambda done, total: told.append(done))
    assert told[0] == 5
    assert_close(found, expected)


class Weighed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2).double()

    def forward(self, a, b):
        return torch.tanh(self.layer(a)) * b


@pytest.mark.parametrize("x2", [None, 2])
@pytest.mark.parametrize(
    "before",
    [
        lambda seen, x: seen.vjp(torch.ones(3, 2).double(), x),
        lambda seen, x: seen.jvp(
            {name: torch.ones_like(p) for name, p in seen.vjp(torch.ones(6, 2).double()).items()}, x
        ),
        lambda seen, x: seen.matvec(torch.ones(3, 2).double(), x),
        lambda seen, x: seen.gram(x),
        lambda seen, x: seen.layers(x),
    ],
)
def test_what_was_asked_of_other_samples_before_does_not_change_which_kernel_it_is(tmp_path, before, x2):
    model, (a, b) = Weighed(), torch.randn(2, 6, 3, dtype=torch.float64)
    x = (a, b[:, :2])
    other = None if x2 is None else tuple(each[:x2] for each in x)
    seen = tangent_operator(model, x)
    before(seen, tuple(each[:3] + 1 for each in x))
    assert seen.model.pool is seen.model.samples  # the others are let go
    first = seen.gram(other, out=tmp_path / "kernel.npy").clone()
    again = tangent_operator(model, x).gram(other, out=tmp_path / "kernel.npy", progress=killed_after(0))
    assert_close(first, again)
    with pytest.raises(ValueError, match="belongs to other weights"):
        tangent_operator(model, x).gram(tuple(each[:2] + 1 for each in x), out=tmp_path / "kernel.npy")


def scaled(alpha):
    return lambda model: Centred(model, alpha)


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(
    ("one", "two"),
    [
        (scaled(1.0), scaled(10.0)),
        (lambda net: net, lambda net: nn.Sequential(net[0], nn.ReLU(), *net[2:])),
        (
            lambda net: nn.Sequential(net[0], nn.LeakyReLU(0.1), *net[2:]),
            lambda net: nn.Sequential(net[0], nn.LeakyReLU(0.3), *net[2:]),
        ),
    ],
    ids=["α", "another activation", "a setting"],
)
def test_a_model_with_the_same_weights_is_another_one(tmp_path, one, two, outputs, other):
    torch.manual_seed(0)
    base, x, path = net(), torch.randn(9, 4, dtype=torch.float64), tmp_path / "kernel.npy"
    x2 = x[:6] + 0.1 if other else None
    options = {"outputs": outputs, "block": 2, "out": path}
    with pytest.raises(Killed):
        ntk(one(base), x, x2, progress=killed_after(4), **options)
    with pytest.raises(ValueError, match="kernel of another model"):
        ntk(two(base), x, x2, **options)
    expected = ntk(one(base), x, x2, outputs=outputs)
    assert_close(ntk(one(base), x, x2, **options), expected)
    with pytest.raises(ValueError, match="kernel of another model"):
        ntk(two(base), x, x2, **options)
    assert_close(ntk(one(base), x, x2, **options), expected)
