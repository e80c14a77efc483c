"""Unusual models at the door of the tangent package: each is refused in words, or its derivatives are right."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from plain_kernels import slow_jacobian, slow_ntk
from torch import nn
from torch.testing import assert_close

from regimes import tangent_operator
from regimes.conventions import generator
from regimes.tangent import model as door
from regimes.tangent.criterion import lazy_criterion
from regimes.tangent.functional import evaluator, functional, push_forward
from regimes.tangent.kernel import jacobian, ntk, ntk_vector_product
from regimes.tangent.linearize import linearize
from regimes.tangent.plain import Plain
from regimes.tangent.precision import full_precision

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
CALLERS = {
    "ntk": ntk,
    "jacobian": jacobian,
    "ntk_vector_product": lambda model, x: ntk_vector_product(
        model, x, torch.ones(len(x), 2, dtype=next(model.parameters()).dtype)
    ),
    "lazy_criterion": lambda model, x: lazy_criterion(
        model, x, torch.zeros(len(x), 2), generator=generator(0), iterations=5
    ),
    "linearize": lambda model, x: linearize(model)(x),
}


class Net(nn.Module):
    """A net of two layers, and a place for something unusual."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


class Mixing(Net):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class ByPlace(Net):
    """Adds a parameter for each place of the batch."""

    def __init__(self, start=1.0):
        super().__init__()
        self.places = nn.Parameter(start * torch.randn(8, 2))

    def forward(self, x):
        return super().forward(x) + self.places[: len(x)]


class BySize(Net):
    def forward(self, x):
        return super().forward(x) / len(x)


class WrongAxis(Net):
    def __init__(self):
        super().__init__()
        self.cells = nn.GRU(3, 3)

    def forward(self, x):
        return super().forward(self.cells(x[:, None].expand(-1, 2, -1))[0][:, 0])


class Noisy(Net):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


class InAList(Net):
    def __init__(self):
        super().__init__()
        self.kept = [self.inner.weight]

    def forward(self, x):
        return self.outer(torch.tanh(x @ self.kept[0].T))


class InAClosure(Net):
    def __init__(self):
        super().__init__()
        weight = self.inner.weight
        self.first = lambda x: x @ weight.T

    def forward(self, x):
        return self.outer(torch.tanh(self.first(x)))


class CachedProduct(Net):
    def __init__(self):
        super().__init__()
        self.product = self.outer.weight @ self.inner.weight

    def forward(self, x):
        return x @ self.product.T + self.outer.bias

    def __deepcopy__(self, memo):
        return CachedProduct()


class ReducedInside(Net):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class Counting(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class HalfWithoutGradients(Net):
    def forward(self, x):
        with torch.no_grad():
            hidden = torch.tanh(self.inner(x))
        return self.outer(hidden)


class OneSampleOnly(Net):
    def forward(self, x):
        return super().forward(x.view(1, 3))


REFUSED = {
    "samples that mix": (Mixing, "maps each sample by itself"),
    "a parameter for each place": (ByPlace, "changes with its place in the batch"),
    "a sequence layer over the samples": (WrongAxis, "batch_first=True"),
    "dropout in the forward": (Noisy, "same output each time"),
    "a parameter in a list": (InAList, "registered parameters"),
    "a parameter in a closure": (InAClosure, "registered parameters"),
    "a product formed earlier": (CachedProduct, "registered parameters"),
    "half precision": (lambda: Net().bfloat16(), "bfloat16: 16 bits are not enough here"),
}
REFUSED_WITH_INPUTS = {
    "autocast inside": (ReducedInside, "the output of the model in float32 or float64; got bfloat16"),
    "a buffer that changes": (Counting, "changes its buffer 'calls'"),
    "a parameter for each place that starts at 0": (lambda: ByPlace(0.0), "changes with its place in the batch"),
    "an output divided by the number of samples": (BySize, "changes with its place in the batch"),
    "one sample only": (OneSampleOnly, "batches of any size"),
    "spectral norm in train mode": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))), "spectral norm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_without_a_tangent_model_is_refused(name, caller):
    build, words = REFUSED[name]
    model = build()
    x = X.to(next(model.parameters()).dtype)
    with pytest.raises(ValueError, match=rf"^{caller} needs.*{words}"):
        CALLERS[caller](model, x)


@pytest.mark.parametrize("caller", ["ntk", "jacobian", "ntk_vector_product", "lazy_criterion"])
@pytest.mark.parametrize("name", REFUSED_WITH_INPUTS)
def test_a_model_that_a_call_shows_to_be_none_is_refused(name, caller):
    build, words = REFUSED_WITH_INPUTS[name]
    with pytest.raises(ValueError, match=rf"^{caller} needs.*{words}"):
        CALLERS[caller](build(), X)


@pytest.mark.parametrize("caller", CALLERS)
def test_a_part_without_gradients_is_refused(caller):
    with pytest.raises(ValueError, match=rf"^{caller} needs a model with one derivative.*set requires_grad=False"):
        CALLERS[caller](HalfWithoutGradients(), X)


def test_a_part_without_gradients_that_is_not_trained_is_constant():
    model = HalfWithoutGradients()
    model.inner.requires_grad_(False)
    kernel = ntk(model, X)
    frozen = Net()
    frozen.load_state_dict(model.state_dict())
    frozen.inner.requires_grad_(False)
    assert_close(kernel, ntk(frozen, X))


def test_a_refused_model_is_left_as_it_was():
    model = Counting()
    with pytest.raises(ValueError, match="put back"):
        ntk(model, X)
    assert model.calls == 0
    for norm in (nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm):
        layer = norm(nn.Linear(3, 2))
        before = {name: value.clone() for name, value in layer.state_dict().items()}
        with pytest.raises(ValueError, match="spectral norm"):
            ntk(layer, X)
        assert_close(dict(layer.state_dict()), before)


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_a_spectral_norm_at_rest_has_its_kernel(norm):
    layer = norm(nn.Linear(3, 2)).double().eval()
    x = X.double()
    rows = [torch.autograd.grad(layer(x)[i, a], list(layer.parameters())) for i in range(6) for a in range(2)]
    slow = torch.stack([torch.cat([each.reshape(-1) for each in row]) for row in rows])
    fast = torch.cat([part.flatten(2) for part in jacobian(layer, x).values()], 2).flatten(0, 1)
    assert_close(fast @ fast.T, slow @ slow.T)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("caller", ["ntk", "jacobian", "ntk_vector_product", "lazy_criterion"])
def test_inputs_that_are_not_finite_are_refused(caller, bad):
    x = X.clone()
    x[2, 1] = bad
    with pytest.raises(ValueError, match=f"^{caller} needs finite inputs; 1 of its 18 entries"):
        CALLERS[caller](Net(), x)
    with pytest.raises(ValueError, match=f"^{caller} needs real inputs; got torch.complex64"):
        CALLERS[caller](Net(), X.to(torch.complex64))


def test_weights_that_are_not_finite_give_no_criterion():
    model = Net()
    model.inner.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite outputs"):
        CALLERS["lazy_criterion"](model, X)


@pytest.mark.parametrize("wrong", [{"starts": 0}, {"iterations": 0}, {"tolerance": float("nan")}])
def test_a_criterion_without_work_is_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"lazy_criterion needs {name}"):
        lazy_criterion(Net(), X, torch.zeros(6, 2), generator=generator(0), **wrong)


@pytest.mark.slow
@pytest.mark.parametrize("around", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_in_single_precision_have_their_kernel(layer, around):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = layer(3, 2, batch_first=True)

        def forward(self, x):
            return self.cells(x)[0][:, -1]

    model, x = Last(), torch.randn(4, 5, 3)
    exact = ntk(model.double(), x.double())
    model.float()
    with around():
        assert_close(ntk(model, x).double(), exact, rtol=1e-4, atol=1e-5)
        vector = torch.randn(4, 2)
        product = ntk_vector_product(model, x, vector)
    assert not product.requires_grad
    assert_close(product.double(), torch.einsum("ijab,jb->ia", exact, vector.double()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("caller", ["ntk", "jacobian", "ntk_vector_product"])
def test_autocast_around_a_call_changes_no_digit(caller):
    model = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 2))
    plain = CALLERS[caller](model, X)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(CALLERS[caller](model, X), plain, rtol=0, atol=0)
        assert torch.is_autocast_enabled("cpu")


@pytest.fixture
def reduced():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_the_look_takes_one_gradient_by_plain_autograd_and_one_by_torch_func(monkeypatch):
    pulled = []
    pull = Plain.pull

    def counted(self, x, cotangent):
        pulled.append(len(x))
        return pull(self, x, cotangent)

    monkeypatch.setattr(Plain, "pull", counted)
    tangent_operator(Net(), X)
    assert pulled == [4]  # the gradient by torch.func, of two samples at other places, is what it is held against


def test_reduced_products_are_switched_off_inside_and_on_again_after(reduced):
    seen = []

    class Looking(Net):
        def forward(self, x):
            seen.append(torch.get_float32_matmul_precision())
            return super().forward(x)

    ntk(Looking(), X)
    assert set(seen) == {"highest"}
    assert torch.get_float32_matmul_precision() == "medium"
    with pytest.raises(ValueError, match="maps each sample"):
        ntk(Mixing(), X)
    assert torch.get_float32_matmul_precision() == "medium"


def test_the_last_of_several_threads_puts_the_precision_back(reduced):
    inside, leave = threading.Barrier(3, timeout=30), [threading.Event(), threading.Event()]

    def work(number):
        with full_precision(torch.device("cpu")):
            inside.wait()
            assert leave[number].wait(30)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    inside.wait()
    assert torch.get_float32_matmul_precision() == "highest"
    leave[0].set()
    threads[0].join()
    assert torch.get_float32_matmul_precision() == "highest"
    leave[1].set()
    threads[1].join()
    assert torch.get_float32_matmul_precision() == "medium"


def test_the_look_at_a_model_costs_little():
    model, x = nn.Sequential(nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 2)), torch.randn(300, 200)
    sizes = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    start = time.perf_counter()
    ntk(model, x, outputs="trace")
    assert sum(size for size in sizes if 1 < size < 300) <= 5 * 4 + 3 * 2 + 2 * (2 + 4 + 4)
    assert sizes.count(300) == 1
    assert time.perf_counter() - start < 30


def test_a_tangent_of_other_names_or_shapes_is_refused():
    f, params = functional(Net())
    with pytest.raises(ValueError, match="push_forward needs a tangent with the names"):
        push_forward(lambda values: f(values, X), params, {name: value[:1] for name, value in params.items()})


def test_the_evaluator_reaches_the_buffers_too():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    shifted = evaluator(model)({"1.running_mean": torch.ones(3)}, X)
    assert_close(shifted, model(X) - 1 / (1 + 1e-5) ** 0.5)


class Padded(nn.Module):
    """A look-up in a table with a row for padding, written in one of the ways that torch has; a table of types."""

    def __init__(self, way):
        super().__init__()
        self.table = nn.EmbeddingBag(5, 3, padding_idx=2) if way == "bag" else nn.Embedding(5, 3, padding_idx=2)
        self.types, self.out, self.way = nn.Embedding(2, 3, padding_idx=0), nn.Linear(3, 2), way
        for table in (self.table, self.types):
            nn.init.normal_(table.weight)

    def forward(self, x):
        weight = self.table.weight
        means = {
            "module": lambda: self.table(x).mean(1),
            "function": lambda: nn.functional.embedding(x, weight, 2).mean(1),
            "operator": lambda: torch.embedding(weight, x, 2).mean(1),
            "bag": lambda: self.table(x),
        }[self.way]()
        return self.out(torch.tanh(means + self.types(0 * x[:, 0])))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap over the bag
@pytest.mark.parametrize("way", ["module", "function", "operator", "bag"])
def test_the_row_for_padding_moves_in_no_derivative_wherever_it_stands(way):
    model, x = Padded(way).double(), torch.tensor([[2, 3, 2], [2, 2, 1], [0, 4, 2]])
    seen, v = tangent_operator(model, x), torch.randn(3, 2, dtype=torch.float64)
    exact = slow_ntk(model, x, x)
    assert_close(seen.gram(), exact)
    assert_close(seen.matvec(v), torch.einsum("ijab,jb->ia", exact, v))
    if way != "bag":  # whose backward pass has no derivative
        lazy = linearize(model)
        lazy(x).square().sum().backward()
        table, types = list(lazy.displacement)[:2]
        assert not table.grad[2].any()
        assert table.grad[3].any()
        assert not types.grad.any()


class InADomain(Net):
    """Takes numbers from 0 to 1 only."""

    def forward(self, x):
        assert 0 <= x.min() <= x.max() <= 1, "numbers from 0 to 1"
        return super().forward(x)


@pytest.mark.parametrize(
    "samples", [torch.tensor([[0.1, 0.5, 0.9]]), torch.tensor([[0.1, 0.5, 0.9]] * 4), torch.ones(1, 3)]
)
def test_one_sample_alone_is_enough_however_small_the_domain_of_the_model(samples):
    model = InADomain()
    assert_close(ntk(model, samples), slow_ntk(model, samples, samples))


class OfOneSample(Net):
    """Knows the sum of the only samples that it takes."""

    def forward(self, x):
        if not torch.allclose((x * torch.arange(3)).sum(1), torch.tensor(2.3)):
            raise RuntimeError("another sample")
        return super().forward(x)


def test_a_model_of_a_single_sample_has_a_kernel():
    model, x = OfOneSample(), torch.tensor([[0.1, 0.5, 0.9]])
    assert_close(ntk(model, x), slow_ntk(model, x, x))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("features", [1, 3])
def test_slopes_that_are_learned_have_their_kernel(features, k):
    model = nn.Sequential(
        nn.PReLU(), nn.GELU(), nn.PReLU(features), nn.Sigmoid(), nn.Linear(features, k, bias=False)
    ).double()
    x = torch.randn(4, features, dtype=torch.float64)
    assert_close(ntk(model, x), slow_ntk(model, x, x))
    assert_close(jacobian(model, x)["0.weight"].flatten(2), slow_jacobian(model, x)[..., :1])


@pytest.mark.parametrize("wrong", [lambda rows: rows[:, :1], lambda rows: 2 * rows])
def test_a_rule_of_vmap_that_is_wrong_is_not_believed(wrong, monkeypatch):
    net, plain = Net().double(), door.vmap
    x = X.double()
    expected = jacobian(net, x)
    outermost = []

    def broken(function, *options):
        def apply(values):
            outermost.append(values)
            rows = plain(function, *options)(values)
            outermost.pop()
            return rows if outermost else {**rows, "inner.bias": wrong(rows["inner.bias"])}

        return apply

    monkeypatch.setattr(door, "vmap", broken)
    found = jacobian(net, x)
    for name, each in expected.items():
        assert_close(found[name], each)


def test_a_hook_that_changes_a_gradient_is_named_and_one_that_does_not_is_fine():
    model = Net()
    handle = model.inner.bias.register_hook(lambda gradient: gradient / 2)
    with pytest.raises(ValueError, match=r"hook on the parameter 'inner.bias'"):
        ntk(model, X)
    handle.remove()
    model.inner.bias.register_hook(lambda gradient: gradient.clamp(-1e3, 1e3))
    assert_close(ntk(model, X), slow_ntk(model, X, X))


class Summed(nn.Module):
    """Of two inputs, with a learned slope that goes by plain autograd row by row."""

    def __init__(self):
        super().__init__()
        self.inner, self.slopes, self.outer = nn.Linear(3, 4), nn.Parameter(torch.rand(4)), nn.Linear(4, 2)

    def forward(self, one, other):
        return self.outer(torch.tanh(self.inner(one + other) * self.slopes.exp()))


def test_threads_take_turns_on_a_model():
    model = Summed().double()
    samples = [tuple(torch.randn(2, n, 3, dtype=torch.float64)) for n in (5, 2, 3, 4)]
    shared = tangent_operator(model, samples[0])
    expected = [ntk(model, samples[0], each) for each in samples]

    def work(number):
        return [
            part for _ in range(4) for part in (shared.gram(samples[number]), ntk(model, samples[0], samples[number]))
        ]

    with ThreadPoolExecutor(3) as pool:
        for number, found in zip((1, 2, 3), pool.map(work, (1, 2, 3)), strict=True):
            for kernel in found:
                assert_close(kernel, expected[number])
