"""The kernel layer by layer, the kernel row by row and a plain loop of backward passes: one kernel."""

import pytest
import torch
from kinds_of_modules import MODELS, Mean
from plain_kernels import slow_jacobian, slow_ntk
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from regimes import tangent_operator
from regimes.activations import RELU
from regimes.conventions import generator
from regimes.models.build import build
from regimes.models.mlp import MLP
from regimes.models.two_layer import TwoLayer
from regimes.tangent import operator
from regimes.tangent.gram import capture, features
from regimes.tangent.gram.coverage import Coverage
from regimes.tangent.gram.forms import APPLIED, PAIRS, ROWS

pytestmark = pytest.mark.slow


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular", groups=4, bias=False),
        nn.Tanh(),
        nn.Conv2d(4, 2, 2, padding=1, padding_mode="reflect"),
        nn.Flatten(),
    )


def residual():
    model = build("resnet9", (1, 6, 6), 2, filters=4, blocks=2).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


class Encoder(nn.Module):
    """Tokens and places, a transformer of two layers, a head."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(7, 4, padding_idx=2)
        self.places = nn.Parameter(torch.randn(1, 5, 4))
        layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.RMSNorm(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.norm(self.layers(self.tokens(x) + self.places)).mean(1))


class TiedTokens(nn.Module):
    """The table of the tokens is the matrix of the head too."""

    def __init__(self):
        super().__init__()
        self.tokens, self.inner = nn.Embedding(5, 3), nn.Linear(3, 3)

    def forward(self, x):
        return F.linear(torch.tanh(self.inner(self.tokens(x)).mean(1)), self.tokens.weight)


class Transposed(nn.Module):
    """One matrix forwards and backwards, as in tied autoencoders."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, x):
        return torch.tanh(x @ self.weight) @ self.weight.T


class Folded(nn.Module):
    """Samples and steps in one axis: the steps within the samples, or the samples within the steps."""

    def __init__(self, minor):
        super().__init__()
        self.minor, self.inner, self.scale = minor, nn.Linear(3, 4), nn.Parameter(torch.randn(4))

    def forward(self, x):
        rows = (x.transpose(0, 1) if self.minor else x).reshape(-1, 3)
        y = (torch.tanh(self.inner(rows)) * self.scale).reshape(*((-1, len(x)) if self.minor else (len(x), -1)), 4)
        return y.mean(0 if self.minor else 1)


class Sorted(nn.Module):
    """Works on the samples in the order of their size."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        order = x.norm(dim=1).argsort()
        return torch.tanh(self.inner(x[order]))[order.argsort()]


class Experts(nn.Module):
    """Each sample goes to one of two layers; the first two samples of a test go to the same."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        first = x[:, 0] > 0
        if first.all():
            return self.one(x)
        y = x.new_zeros(len(x), 2)
        return y.index_put((first,), self.one(x[first])).index_put((~first,), self.other(x[~first]))


class Branches(nn.Module):
    """Samples that start below 0 meet a second layer too; squared weights cannot be read from the graph."""

    def __init__(self, squared):
        super().__init__()
        self.squared, self.one, self.other = squared, nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)

    def forward(self, x):
        one, other = ((each.weight**2 if self.squared[i] else each.weight) for i, each in enumerate(self.children()))
        y, late = F.linear(x, one), x[:, 0] < 0
        return y + late[:, None] * F.linear(x, other) if late.any() else y


MORE = {
    "mlp": (lambda: MLP([3, 6, 4], activation=RELU, generator=generator(0), sigma_b=0.1), (4, 3)),
    "two layer": (lambda: TwoLayer(3, 6, 2, activation=RELU, generator=generator(0), scale=0.5), (4, 3)),
    "convolutions": (convolutions, (4, 2, 7, 6)),
    "one axis": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, bias=False), nn.Flatten()), (4, 2, 7)),
    "three axes": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2, padding=1), nn.GELU(), nn.Flatten(1)), (3, 1, 2, 3, 2)),
    "transposed convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.BatchNorm2d(2).eval(), nn.Flatten()),
        (4, 1, 2, 2),
    ),
    "residual": (residual, (4, 1, 6, 6)),
    "sequences": (
        lambda: Mean(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))),
        (4, 5, 3),
    ),
    "learned slopes": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.PReLU(3), nn.Conv1d(3, 3, 1), nn.PReLU(), nn.Flatten()),
        (4, 2, 4),
    ),
    "encoder": (Encoder, 5),
    "tied tokens": (TiedTokens, 4),
    "transposed": (Transposed, (4, 3)),
    "steps within samples": (lambda: Folded(False), (4, 5, 3)),
    "samples within steps": (lambda: Folded(True), (4, 5, 3)),
    "samples sorted": (Sorted, (6, 3)),
}
# Those of which some parameters go row by row.
SOME_ROWS = {"transposed convolution", "tied tokens", "transposed", "samples sorted"}
ALL = {**MODELS, **MORE}


def made(name, seed=0):
    torch.manual_seed(seed)
    create, shape = ALL[name]
    model = create().double().eval()
    x = (
        torch.randint(0, 7 if name == "encoder" else 5, (4, 5))
        if isinstance(shape, int)
        else torch.randn(shape).double()
    )
    if name == "encoder":
        x[0, 0] = model.tokens.padding_idx  # also among the samples that a model is looked at on
    return model, x


def row_by_row(monkeypatch):
    monkeypatch.setattr(operator, "coverage", lambda model, params, two, k: Coverage((), (), tuple(params)))


def assert_same(kernel, expected, tolerance=1e-10):
    assert kernel.shape == expected.shape
    assert (kernel - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", ALL)
def test_the_kernel_is_that_of_a_plain_loop(name):
    model, x = made(name)
    full = slow_ntk(model, x, x)
    seen = tangent_operator(model, x)
    assert_same(seen.gram(), full)
    assert (seen._covered.rest == ()) == (name not in SOME_ROWS)
    assert_same(seen.gram(x[:2]), full[:, :2])
    assert_same(seen.gram(outputs="trace"), torch.einsum("ijaa->ij", full))
    assert_same(seen.gram(outputs="diagonal"), torch.einsum("ijaa->ija", full))
    if full.shape[-1] > 1:
        assert_same(seen.gram(x[1:], outputs=[1, 0]), full[:, 1:, [1, 0]][..., [1, 0]])


@pytest.mark.parametrize("name", MORE)
def test_row_by_row_gives_the_same(name, monkeypatch):
    model, x = made(name)
    expected = tangent_operator(model, x).gram()
    row_by_row(monkeypatch)
    assert_same(tangent_operator(model, x).gram(), expected)


@pytest.mark.parametrize("form", [ROWS, PAIRS, APPLIED])
@pytest.mark.parametrize("name", ["dense", "convolutions", "sequences", "gru", "encoder"])
def test_every_form_gives_the_same(name, form, monkeypatch):
    model, x = made(name)
    expected = slow_ntk(model, x, x)
    monkeypatch.setattr(features, "cheapest", lambda sizes, forms, **_: form if form in forms else forms[0])
    seen = tangent_operator(model, x)
    assert_same(seen.gram(), expected)
    assert_same(seen.gram(outputs="trace"), torch.einsum("ijaa->ij", expected))
    assert_same(seen.gram(outputs="diagonal"), torch.einsum("ijaa->ija", expected))


@pytest.fixture(
    scope="module", params=["dense", "convolutions", "encoder", "lstm", "tied tokens", "samples within steps"]
)
def unbatched(request):
    """A model, three inputs, and the kernels of them all and with the first two, by what is asked of the outputs."""
    model, x = made(request.param)
    whole = tangent_operator(model, x := x[:3])
    forms = ("full", "trace", "diagonal")
    return model, x, {of: [whole.gram(*some, outputs=of) for some in ((), (x[:2],))] for of in forms}


@pytest.mark.parametrize("options", [{"block": 1}, {"block": 2}, {"memory": 1}, {"memory": 30_000}])
def test_batched_is_unbatched(unbatched, options):
    model, x, whole = unbatched
    parts = tangent_operator(model, x, memory=options.get("memory", operator.MEMORY))
    for outputs, (square, oblong) in whole.items():
        assert_same(parts.gram(outputs=outputs, block=options.get("block")), square, 1e-12)
        assert_same(parts.gram(x[:2], outputs=outputs, block=options.get("block")), oblong, 1e-12)


@pytest.mark.parametrize("memory", [1, 3000, operator.MEMORY])
def test_the_kernel_of_one_batch_is_symmetric_to_the_last_bit(memory):
    model, x = made("dense")
    seen = tangent_operator(model, x, memory=memory)
    full, trace = seen.gram(), seen.gram(outputs="trace")
    assert torch.equal(full, full.permute(1, 0, 3, 2))
    assert torch.equal(trace, trace.T)


@pytest.mark.parametrize("memory", [1, 3000, operator.MEMORY])
def test_every_derivative_is_formed_once(memory, monkeypatch):
    model, x = made("dense")
    seen = tangent_operator(model, x, memory=memory)
    formed, plain, measured = [], features.Features.pieces, features.Features.measured

    def measuring(self, two, enough):
        found = measured(self, two, enough)
        formed.clear()
        return found

    def pieces(self, part, outputs=slice(None), *given, **options):
        formed.append((part.tolist(), self.chosen[outputs].tolist()))
        return plain(self, part, outputs, *given, **options)

    monkeypatch.setattr(features.Features, "pieces", pieces)
    monkeypatch.setattr(features.Features, "measured", measuring)
    seen.gram(x[:2] + 1)
    made_of = [(tuple(row), a) for rows, outputs in formed for row in rows for a in outputs]
    assert len(made_of) == len(set(made_of)) == (4 + 2) * 2


@pytest.mark.parametrize("setting", ["plain", "autocast", "medium"])
@pytest.mark.parametrize("name", ["dense", "convolutions", "residual", "encoder"])
def test_single_precision_is_right_to_five_digits(name, setting):
    model, x = made(name)
    exact = tangent_operator(model, x).gram()
    model.float()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium" if setting == "medium" else "highest")
        with torch.autocast("cpu", torch.bfloat16, enabled=setting == "autocast"):
            kernel = tangent_operator(model, x.float() if x.is_floating_point() else x).gram()
    finally:
        torch.set_float32_matmul_precision(before)
    assert kernel.dtype == torch.float32
    assert_same(kernel.double(), exact, 1e-5)


def test_long_sums_in_single_precision_are_right_to_five_digits():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3000, 300), nn.Tanh(), nn.Linear(300, 2)).double(), torch.randn(8, 3000).double()
    exact = tangent_operator(model, x).gram()
    assert_same(tangent_operator(model.float(), x.float()).gram().double(), exact, 1e-5)


def test_a_layer_that_only_later_samples_reach_is_not_forgotten():
    torch.manual_seed(0)
    model, x = Experts().double(), torch.randn(6, 3).double().abs()
    x[3:] *= -1
    assert_same(tangent_operator(model, x).gram(), slow_ntk(model, x, x))


@pytest.mark.parametrize("squared", [(False, False), (False, True), (True, False), (True, True)])
def test_a_layer_that_no_probed_sample_reaches_is_not_forgotten(squared):
    torch.manual_seed(0)
    model, x = Branches(squared).double(), torch.randn(70, 3).double().abs()
    x[-5:, 0] *= -1
    seen, expected = tangent_operator(model, x), slow_ntk(model, x, x)
    assert_same(seen.gram(x[-5:]), expected[:, -5:])
    assert_same(seen.gram(block=7), expected)


@pytest.mark.parametrize("name", ["dense", "encoder", "gru", "by plain autograd"])
def test_the_names_of_a_direction_come_in_any_order(name):
    model, x = made("dense" if name == "by plain autograd" else name)
    seen = tangent_operator(model, x)
    if name == "by plain autograd":
        seen.tangent.found = seen.tangent.found._replace(transforms=False)
    direction = {name: torch.randn_like(p) for name, p in seen.tangent.params.items()}
    flat = torch.cat([each.reshape(-1) for each in direction.values()])
    turned = dict(reversed(direction.items()))
    assert_close(seen.jvp(turned), slow_jacobian(model, x) @ flat)
    assert_close(seen.tangent.plain.push(x, turned)[1].reshape(len(x), -1), slow_jacobian(model, x) @ flat)


def test_the_products_are_those_of_the_jacobian():
    model, x = made("encoder")
    seen, jacobian = tangent_operator(model, x), slow_jacobian(model, x)
    u, v = torch.randn(4, 3).double(), {name: torch.randn_like(p) for name, p in seen.tangent.params.items()}
    pulled = seen.vjp(u)
    assert list(pulled) == list(v)
    assert_close(torch.cat([g.reshape(-1) for g in pulled.values()]), torch.einsum("iap,ia->p", jacobian, u))
    flat = torch.cat([each.reshape(-1) for each in v.values()])
    assert_close(seen.jvp(v), jacobian @ flat)
    assert_close(seen.matvec(u), torch.einsum("ijab,jb->ia", seen.gram(), u))
    assert_close(seen.matvec(u[:2], x[:2]), torch.einsum("ijab,jb->ia", seen.gram(x[:2]), u[:2]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.gram(outputs="mean"), "tangent_operator needs outputs='full', 'trace' or 'diagonal', or a list"),
        (lambda s: s.gram(outputs=[2]), r"different outputs from 0 to 1, at least one; got \[2\]"),
        (lambda s: s.gram(outputs=[0, 0]), r"different outputs from 0 to 1"),
        (lambda s: s.gram(outputs=[]), r"at least one; got \[\]"),
        (lambda s: s.gram(outputs=[0.5]), "every output as a whole number"),
        (lambda s: s.gram(block=0), "block as a whole number, at least 1; got 0"),
        (lambda s: s.gram(torch.full((2, 3), torch.nan)), "finite x2"),
        (lambda s: s.gram(torch.zeros(2, 4)), "x1 and x2 of one sample shape"),
        (lambda s: s.vjp(torch.zeros(4, 3)), r"cotangent \(4, 2\)"),
        (lambda s: s.vjp(torch.full((4, 2), torch.nan)), "finite cotangent"),
        (lambda s: s.matvec(torch.zeros(4, 2).double()), "of one precision"),
        (lambda s: s.jvp({}), "a direction with the names, shapes and dtypes"),
        (lambda s: s.jvp({n: torch.full_like(p, torch.nan) for n, p in s.tangent.params.items()}), "finite direction"),
    ],
)
def test_wrong_calls_are_one_clear_line(call, message):
    seen = tangent_operator(nn.Linear(3, 2), torch.randn(4, 3))
    with pytest.raises((ValueError, TypeError), match=message + "|annotation|Type-check") as error:
        call(seen)
    assert isinstance(error.value, ValueError) or "annot" in str(error.value) or "Type-check" in str(error.value)


def moved(model):
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.5)


def replaced(model):
    model.load_state_dict({name: 1.5 * value + 0.5 for name, value in model.state_dict().items()}, assign=True)


def frozen(model):
    model[0].weight.requires_grad_(False)


def parted(model):
    """Of two layers with one weight, one gets its own."""
    model[1].weight = nn.Parameter(2 * model[1].weight.detach())


class States(nn.Module):
    """Those of a recurrent net, which vmap does not follow."""

    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(3, 3, batch_first=True)

    def forward(self, x):
        return self.cells(x[:, None])[0][:, -1]


@pytest.mark.parametrize("between", [nn.Identity, lambda: nn.RMSNorm(3), States], ids=["layers", "norm", "recurrent"])
@pytest.mark.parametrize("change", [moved, replaced, frozen, parted])
def test_every_number_is_that_of_the_present_parameters(change, between):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Tanh(), between(), nn.Linear(3, 2)).double()
    model[1].weight = model[0].weight
    x = torch.randn(4, 3, dtype=torch.float64)
    old = tangent_operator(model, x)
    before = old.gram()
    change(model)
    new, u = tangent_operator(model, x), torch.randn(4, 2, dtype=torch.float64)
    direction = {name: torch.randn_like(value) for name, value in model.named_parameters() if value.requires_grad}
    assert_close(old.jvp(direction), new.jvp(direction))
    assert_close(old.vjp(u), new.vjp(u))
    assert_close(old.matvec(u), torch.einsum("ijab,jb->ia", old.gram(), u))
    assert_close(old.gram(), new.gram())
    assert not torch.allclose(old.gram(), before)


def test_memory_has_to_be_a_number_of_bytes():
    with pytest.raises(ValueError, match="memory as a whole number, at least 1; got 0"):
        tangent_operator(nn.Linear(3, 2), torch.randn(4, 3), memory=0)


def test_a_model_is_called_once_on_each_block():
    calls = []
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5))
    model.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    tangent_operator(model, torch.randn(40, 3)).gram()
    assert [size for size in calls if size > 4] == [40]


def test_a_graph_that_changes_is_read_row_by_row(monkeypatch):
    model, x = made("dense")
    expected = slow_ntk(model, x, x)
    plain = capture.capture

    def changing(model, part, *rest, **options):
        if len(part) > 2:
            raise capture.Unread("another graph")
        return plain(model, part, *rest, **options)

    monkeypatch.setattr(features, "capture", changing)
    seen = tangent_operator(model, x)
    assert_same(seen.gram(), expected)
    assert seen._covered.groups == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda operator: operator.gram(),
        lambda operator: operator.layers(),
        lambda operator: operator.vjp(torch.ones(6, 2)),
        lambda operator: operator.vjps([torch.ones(6, 2)]),
        lambda operator: operator.jvp({name: torch.ones_like(each) for name, each in operator.tangent.params.items()}),
        lambda operator: operator.matvec(torch.ones(6, 2)),
    ],
    ids=["gram", "layers", "vjp", "vjps", "jvp", "matvec"],
)
@pytest.mark.parametrize("part", [nn.Dropout(0.3), nn.BatchNorm1d(8)], ids=["dropout", "batch norm"])
def test_an_operator_looks_at_the_mode_of_its_model_again(call, part):
    model = nn.Sequential(nn.Linear(3, 8), part, nn.Tanh(), nn.Linear(8, 2)).eval()
    operator = tangent_operator(model, torch.randn(6, 3))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    model.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        call(operator)
    for name, each in model.state_dict().items():
        assert torch.equal(each, before[name])
    model.eval()
    call(operator)


def test_a_mode_that_changes_nothing_is_none():
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
    operator = tangent_operator(model, torch.randn(6, 3))
    expected = operator.gram()
    model.train()
    assert torch.equal(operator.gram(), expected)
