import math

import pytest
import torch
from refusing import given_or_refused
from torch import nn
from torch.testing import assert_close

from regimes.activations import ERF, TANH
from regimes.conventions import generator
from regimes.models.scaling import Centred
from regimes.models.two_layer import TwoLayer
from regimes.tangent.bend import Bend, share
from regimes.tangent.criterion import lazy_criterion
from regimes.tangent.functional import flatten, functional, unflatten
from regimes.tangent.kernel import ntk
from regimes.tangent.lanczos import ceiling
from regimes.tangent.linearize import linearize
from regimes.tangent.operator import tangent_operator

pytestmark = pytest.mark.slow


class Quadratic(nn.Module):
    """Sample i, the row of its number, is mapped to ½ wᵀ A_i w."""

    def __init__(self, matrices, w):
        super().__init__()
        self.w = nn.Parameter(w)
        self.register_buffer("matrices", matrices)

    def forward(self, x):
        return (0.5 * torch.einsum("nij,i,j->n", self.matrices[x[:, 0]], self.w, self.w))[:, None]


def symmetric(*shape):
    a = torch.randn(*shape, shape[-1], dtype=torch.float64)
    return (a + a.mT) / 2


def searched(hessians):
    """max over unit φ of ‖Σ φ_i H_i‖ by many searches with dense matrices."""
    best = 0.0
    for _ in range(100):
        cotangent = torch.randn(len(hessians), dtype=torch.float64)
        for _ in range(30):
            values, vectors = torch.linalg.eigh(torch.einsum("i,ijk->jk", cotangent / cotangent.norm(), hessians))
            v = vectors[:, values.abs().argmax()]
            cotangent = torch.einsum("ijk,j,k->i", hessians, v, v)
        best = max(best, cotangent.norm().item())
    return best


def test_one_quadratic_output_has_the_criterion_written_by_hand():
    """κ = |½wᵀAw − y| ‖A‖ / ‖Aw‖²."""
    a, w = symmetric(1, 5), torch.randn(5, dtype=torch.float64)
    y = torch.tensor([[2.0]], dtype=torch.float64)
    found = lazy_criterion(Quadratic(a, w), torch.tensor([[0]]), y, generator=generator(0))
    expected = ((w @ a[0] @ w / 2 - 2).abs() * torch.linalg.matrix_norm(a[0], 2) / (a[0] @ w).square().sum()).item()
    assert found.settled
    assert found.low <= expected * (1 + 1e-9)  # rounding
    for value in (found.low, found.estimate, found.high):
        assert_close(value, expected, rtol=1e-2, atol=0)  # what the search stops at


@pytest.mark.parametrize(("n", "p"), [(2, 4), (6, 20)])
def test_quadratic_models_lie_between_the_bounds_and_near_the_estimate(n, p):
    a, w = symmetric(n, p), torch.randn(p, dtype=torch.float64)
    x, y = torch.arange(n)[:, None], torch.randn(n, 1, dtype=torch.float64)
    slope = torch.linalg.matrix_norm(a @ w, 2).item()
    distance = (torch.einsum("nij,i,j->n", a, w, w) / 2 - y[:, 0]).norm().item()
    expected = distance * searched(a) / slope**2
    for probes in (None, 30):
        found = lazy_criterion(Quadratic(a, w), x, y, generator=generator(0), starts=2, probes=probes)
        assert found.low <= expected * (1 + 1e-9)  # rounding
        assert expected <= found.high
        assert_close(found.estimate, expected, rtol=5e-2, atol=0)  # random starts end in local maxima
        assert found.low <= found.estimate <= found.high
        assert f"upper over lower {found.second_derivative.ratio:.3g}" in str(found)


def test_samples_with_parameters_of_their_own_have_the_largest_of_their_norms():
    """Blocks: ‖D²h‖ = max ‖A_i‖/√n, ‖Dh‖ = max ‖A_i w_i‖/√n, and both bounds are equal."""
    blocks, w = symmetric(3, 2), torch.randn(6, dtype=torch.float64)
    a = torch.zeros(3, 6, 6, dtype=torch.float64)
    for i in range(3):
        a[i, 2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = blocks[i]
    model, y = Quadratic(a, w), torch.ones(3, 1, dtype=torch.float64)
    found = lazy_criterion(model, torch.arange(3)[:, None], y, generator=generator(0), starts=10)
    bend = max(torch.linalg.matrix_norm(block, 2) for block in blocks) / 3**0.5
    slope = max((block @ w[2 * i : 2 * i + 2]).norm() for i, block in enumerate(blocks)) / 3**0.5
    assert_close(found.second_derivative.low, bend.item(), rtol=1e-2, atol=0)  # what the search stops at
    assert_close(found.second_derivative.high, bend.item(), rtol=1e-9, atol=0)  # rounding
    assert_close(found.derivative.low, slope.item())


@pytest.fixture
def problem():
    net = TwoLayer(3, 6, 2, activation=TANH, generator=generator(1), scale=1.0)
    return net, torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float64, each) for each in (1e-120, 1e-90, 1e-60, 1e-20, 1e20, 1e60, 1e80, 1e120)]
    + [(torch.float32, each) for each in (1e-30, 1e-21, 1e-12, 1e-5, 1e5, 1e12, 1e25)],
)
def test_a_unit_of_outputs_changes_nothing_or_is_refused(problem, dtype, scale):
    net, x, y = problem
    net, x, y = net.to(dtype), x.to(dtype), y.to(dtype)
    first = lazy_criterion(net, x, y, generator=generator(0), starts=1)
    options = {"generator": generator(0), "starts": 1, "forward": lambda model, x: scale * model(x)}
    scaled, refusal = given_or_refused(lambda: lazy_criterion(net, x, scale * y, **options))
    if scaled is None:
        assert not 1e-6 < scale < 1e6
        assert "finite" in refusal or "Scale outputs" in refusal or "Dh is zero" in refusal
    else:
        assert_close(scaled.estimate, first.estimate, rtol=2e-2, atol=0)  # what the search stops at
        assert first.low <= scaled.high
        assert scaled.low <= first.high


def test_the_derivative_norm_is_the_top_of_the_kernel_over_n(problem):
    net, x, y = problem
    found = lazy_criterion(net, x, y, generator=generator(0), starts=1)
    matrix = ntk(net, x).transpose(1, 2).reshape(10, 10) / 5
    top = torch.linalg.eigvalsh(matrix)[-1].item() ** 0.5
    assert_close(found.derivative.low, top)
    assert_close(found.derivative.high, top)
    assert_close(found.distance, ((net(x) - y).square().sum(1).mean()).sqrt().item())


class Encoder(nn.Module):
    """Attention and layer norm, for which forward mode twice is wrong in torch."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 4, 0.0, "gelu", batch_first=True)

    def forward(self, x):
        return self.layer(self.inner(x[..., None])).mean((1, 2))[:, None]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(1, 3, batch_first=True)

    def forward(self, x):
        return self.layer(x[..., None])[0][:, -1]


@pytest.mark.parametrize(
    "build",
    [
        lambda: TwoLayer(3, 6, 2, activation=TANH, generator=generator(1), scale=1.0),
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 2)),
        Encoder,
        lambda: Recurrent(nn.LSTM),
    ],
    ids=["two layers", "layer norm", "attention", "lstm"],
)
def test_the_products_are_those_of_all_second_derivatives(build):
    net, x = build().double().eval(), torch.randn(4, 3, dtype=torch.float64)
    tangent = tangent_operator(net, x).tangent
    bend = Bend(tangent, x)
    f, params = functional(net)
    w, root = flatten(params), len(x) ** 0.5

    def gradient(w):
        with torch.enable_grad():
            return torch.func.jacrev(lambda w: f(unflatten(w, params), x).reshape(-1) / root)(w)

    eps = 1e-5
    hessians = torch.stack(
        [(gradient(w + eps * unit) - gradient(w - eps * unit)) / (2 * eps) for unit in torch.eye(len(w)).double()], -1
    )
    u, v = torch.randn(2, len(w), dtype=torch.float64)
    xi = torch.randn(3, len(hessians), dtype=torch.float64)
    close = {"rtol": 1e-6, "atol": 1e-7}  # of a central difference
    assert_close(bend.along(u, v), torch.einsum("ijk,j,k->i", hessians, u, v), **close)
    assert_close(bend.pulled(xi[0], u), torch.einsum("i,ijk,k->j", xi[0], hessians, u), **close)
    assert_close(bend.squares(u), torch.einsum("ijk,ikl,l->j", hessians, hessians, u), **close)
    mixed = torch.einsum("mi,ijk->mjk", xi, hessians)
    assert_close(bend.sketch(xi, u), torch.einsum("mjk,mkl,l->j", mixed, mixed, u) / 3, **close)


def test_both_bounds_are_those_of_all_second_derivatives(problem):
    """The lower one is attained by a search with dense matrices, the upper one is the norm of the unfolding."""
    net, x, y = problem
    f, params = functional(net)
    hessians = torch.func.hessian(lambda v: f(unflatten(v, params), x).reshape(-1) / 5**0.5)(flatten(params))
    found = lazy_criterion(net, x, y, generator=generator(0), starts=6, tolerance=1e-6).second_derivative
    unfolding = torch.linalg.matrix_norm(hessians.transpose(0, 1).reshape(len(hessians[0]), -1), 2).item()
    assert_close(found.low, searched(hessians), rtol=1e-2, atol=0)  # two searches for one maximum
    assert_close(found.high, unfolding)
    assert found.low <= found.high


def test_the_share_of_the_top_that_few_probes_show_is_undercut_by_chance_only():
    """Of the worst case, one eigenvalue: χ²_m/m."""
    for probes in (1, 5, 20):
        means = torch.randn(20000, probes, dtype=torch.float64).square().mean(1)
        assert 0 < share(probes) < 1
        assert (means < share(probes)).double().mean() < 2e-3  # twice the doubt
    assert share(10**6) > 0.98


def test_it_falls_as_one_over_alpha_for_the_centred_model(problem):
    net, x, y = problem
    values = [lazy_criterion(Centred(net, alpha), x, y, generator=generator(0), starts=1) for alpha in (1.0, 100.0)]
    for name in ("low", "estimate", "high"):
        assert_close(getattr(values[0], name) / getattr(values[1], name), 100.0, rtol=1e-4, atol=0)  # the search


def test_a_homogeneous_model_has_the_power_of_its_degree():
    """h(λw) = λ^q h(w): κ(λw) = λ^−q ‖λ^q h − y‖ ‖D²h‖/‖Dh‖², here q = 3 and y = 0, then y large."""
    a, w = symmetric(3, 5), torch.randn(5, dtype=torch.float64)

    class Cubic(Quadratic):
        def forward(self, x):
            return super().forward(x) * self.w[0]

    for size, y in ((0.0, torch.zeros(3, 1)), (-3.0, 1e9 * torch.ones(3, 1))):
        found = [
            lazy_criterion(Cubic(a, scale * w), torch.arange(3)[:, None], y.double(), generator=generator(0), starts=1)
            for scale in (1.0, 2.0)
        ]
        for name in ("low", "estimate", "high"):
            assert_close(getattr(found[1], name) / getattr(found[0], name), 2.0**size, rtol=1e-3, atol=0)  # the search


def test_the_width_law_of_two_layer_nets():
    """h = m^−a Σ φ(θ_j, x), E φ = 0: κ ~ m^−1/2 where ‖h(w_0)‖ leads, 1/(mα) = m^(a − 1) where the targets do."""
    x = torch.randn(4, 3, dtype=torch.float64)

    def net(width, power, seed):
        made = TwoLayer(3, width, activation=ERF, generator=generator(seed), scale=width**-power)
        with torch.no_grad():  # bounded weights: the largest of m Gaussian ones would grow with m
            made.output_weights.sign_()
            made.input_weights.div_(made.input_weights.norm(dim=1, keepdim=True))
        return made

    def law(width, power):
        y = 1e6 * torch.ones(4, 1, dtype=torch.float64)
        found = [lazy_criterion(net(width, power, s), x, y, generator=generator(s), starts=1) for s in range(2)]
        by_targets = torch.tensor([each.estimate for each in found]).log().mean()
        scale = torch.tensor([each.estimate / each.distance for each in found]).log().mean()
        starts = [net(width, power, seed)(x).detach().square().mean() for seed in range(400)]
        return by_targets, scale + torch.stack(starts).mean().log() / 2

    for power in (0.5, 1.0):
        (far, own), (far_wide, own_wide) = law(64, power), law(1024, power)
        assert abs(float(far_wide - far) / math.log(16) - (power - 1)) < 0.05
        assert abs(float(own_wide - own) / math.log(16) + 0.5) < 0.05


def test_linear_models_are_lazy_from_the_start(problem):
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    for model in (nn.Linear(3, 2).double(), nn.Sequential(nn.ReLU(), nn.Linear(3, 2)).double(), linearize(problem[0])):
        found = lazy_criterion(model, x, y, generator=generator(0))
        assert found.low == found.estimate == found.high == 0
        assert found.settled
        assert found.second_derivative.ratio == 1
        assert found.spread == 0


def test_the_general_form_is_half_of_that_of_targets_at_least_and_does_not_depend_on_the_unit_of_the_risk(problem):
    net, x, y = problem
    plain = lazy_criterion(net, x, y, generator=generator(0), starts=1)
    found = [
        lazy_criterion(net, x, risk=lambda f, c=c: c * (f - y).square().sum() / 10, generator=generator(0), starts=1)
        for c in (1.0, 7.0)
    ]
    loss = lambda: (net(x) - y).square().sum() / 10  # noqa: E731
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), net.parameters())]).norm()
    bend, rise = plain.second_derivative.low, plain.derivative.low
    assert_close(found[0].estimate, (loss() * bend / (slope * rise)).item(), rtol=1e-6, atol=0)  # two equal searches
    assert_close(found[0].estimate, found[1].estimate)
    assert found[0].estimate >= plain.estimate / 2


@pytest.mark.parametrize("width", [8, 128])
def test_the_second_derivative_of_a_two_layer_net_is_that_of_its_most_bent_neuron(width):
    """Neurons share no parameters, so D²h is block diagonal: [[0, σ'(z) x], [σ'(z) xᵀ, a σ''(z) x xᵀ]] for each."""
    net = TwoLayer(3, width, activation=ERF, generator=generator(0), scale=width**-0.5)
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    z, a = net.preactivations(x).detach(), net.output_weights.detach()[:, 0]
    block = torch.zeros(width, 5, 4, 4, dtype=torch.float64)
    slope = ERF.derivative(z).T[..., None] * x
    block[:, :, 0, 1:] = block[:, :, 1:, 0] = slope
    bend = a[:, None] * (-2 * z * ERF.derivative(z)).T
    block[:, :, 1:, 1:] = bend[..., None, None] * x[:, :, None] * x[:, None]
    unfolded = (block / (5 * width) ** 0.5).transpose(1, 2).flatten(2)
    expected = torch.linalg.matrix_norm(unfolded, 2).max().item()
    found = lazy_criterion(net, x, y, generator=generator(1), starts=1).second_derivative
    assert expected <= found.high * (1 + 1e-9)  # rounding
    assert_close(found.high, expected, rtol=0.1, atol=0)  # tolerance 0.2 of the square
    assert 0.7 * expected < found.low <= found.high


def test_too_few_iterations_are_admitted_and_the_bounds_hold(problem):
    net, x, y = problem
    exact = lazy_criterion(net, x, y, generator=generator(0), starts=1)
    few = lazy_criterion(net, x, y, generator=generator(0), starts=1, iterations=2)
    assert exact.settled
    assert not few.settled
    assert few.low <= exact.estimate <= few.high


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (nn.Linear(3, 2), 4, r"needs targets \(5, 2\); got targets \(4, 2\).* of the 5 inputs"),
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), 5, "lazy_criterion needs a model that maps each sample"),
        (nn.Sequential(nn.Linear(3, 2), nn.Threshold(1e9, 0.0)), 5, "Dh is zero"),
        (
            nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(), nn.Linear(8, 2)),
            5,
            "jumps .* so a small κ would prove nothing",
        ),
    ],
)
def test_impossible_questions_are_refused(model, rows, message):
    with pytest.raises(ValueError, match=message):
        lazy_criterion(model, torch.randn(5, 3), torch.randn(rows, 2), generator=generator(0))


class FailsLater(nn.Module):
    """Raises the error at a late call."""

    def __init__(self, error, call):
        super().__init__()
        self.inner, self.error, self.left = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), error, call

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.inner(x)


@pytest.mark.parametrize("text", ["the disk is unplugged", "DefaultCPUAllocator: can't allocate memory"])
def test_an_error_of_the_iterations_is_not_taken_for_a_missing_derivative(text):
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    with pytest.raises(RuntimeError, match=text):
        lazy_criterion(FailsLater(RuntimeError(text), 100), x, y, generator=generator(0))


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


class Once(nn.Module):
    def forward(self, z):
        return OnceDifferentiable.apply(z)


def test_a_missing_second_derivative_is_told_before_the_iterations():
    model = nn.Sequential(nn.Linear(3, 4), Once(), nn.Linear(4, 2))
    with pytest.raises(
        ValueError, match=r"needs a model that can be differentiated twice; here the second derivative that autograd"
    ):
        lazy_criterion(model, torch.randn(5, 3), torch.randn(5, 2), generator=generator(0), iterations=1000)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "either targets y or a risk"),
        ({"y": torch.zeros(5, 2), "risk": torch.sum}, "either targets y or a risk"),
        ({"risk": lambda f: f}, "a risk that gives one number"),
        ({"risk": lambda f: (f * 0).sum()}, "not at its minimum"),
        ({"risk": lambda f: -f.square().sum()}, "at least 0"),
    ],
)
def test_targets_or_a_risk_are_needed(given, message):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=message):
        lazy_criterion(net, torch.randn(5, 3), generator=generator(0), **given)


def test_inputs_of_several_tensors_go_in_as_the_model_takes_them(problem):
    net, x, y = problem

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, *, first, second):
            return self.net(first + second)

    one = lazy_criterion(net, x, y, generator=generator(0), starts=1)
    two = lazy_criterion(Sum(), {"first": x - 1, "second": torch.ones_like(x)}, y, generator=generator(0), starts=1)
    assert_close(two.estimate, one.estimate, rtol=1e-6, atol=0)  # two equal searches


def test_progress_is_told_line_by_line(problem):
    lines = []
    lazy_criterion(*problem, generator=generator(0), starts=1, progress=lines.append)
    assert lines[0] == "does the model bend smoothly?"
    assert any("λ_max(Σ H²) between" in line for line in lines)


def test_each_end_of_the_bracket_takes_the_end_of_the_derivative_that_is_on_the_safe_side():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    found = lazy_criterion(net, x, y, generator=generator(0), iterations=2, starts=1)
    assert not found.settled
    assert found.derivative.low < 0.999 * found.derivative.high  # so the ends can be told apart
    assert found.low == pytest.approx(found.distance * found.second_derivative.low / found.derivative.high**2)
    assert found.high == pytest.approx(found.distance * found.second_derivative.high / found.derivative.low**2)


def test_kinks_are_found_behind_inputs_that_are_all_zero():
    net = nn.Sequential(nn.Linear(4, 16, bias=False), nn.ReLU(), nn.Linear(16, 1, bias=False)).double()
    x = torch.cat([torch.zeros(8, 4), torch.randn(12, 4)]).double()
    with pytest.raises(ValueError, match="bends smoothly"):
        lazy_criterion(net, x, torch.randn(20, 1).double(), generator=generator(0))


def test_every_step_at_which_the_search_may_stop_shares_the_doubt(monkeypatch):
    from regimes.tangent import criterion

    looks = []
    monkeypatch.setattr(
        criterion, "ceiling", lambda step, size, looks_: looks.append(looks_) or ceiling(step, size, looks_)
    )
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x = torch.randn(3, 2, dtype=torch.float64)
    lazy_criterion(net, x, torch.zeros(3, 1, dtype=torch.float64), generator=generator(0), starts=1, iterations=7)
    assert len(looks) > 2
    assert set(looks) == {7}
