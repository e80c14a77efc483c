import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.activations import ERF, TANH
from regimes.conventions import generator
from regimes.models.scaling import Centred
from regimes.models.two_layer import TwoLayer
from regimes.tangent.criterion import lazy_criterion
from regimes.tangent.functional import flatten, functional, unflatten
from regimes.tangent.kernel import ntk

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


def test_one_quadratic_output_has_the_criterion_written_by_hand():
    """κ = |½wᵀAw − y| ‖A‖ / ‖Aw‖²."""
    a, w = symmetric(1, 5), torch.randn(5, dtype=torch.float64)
    y = torch.tensor([[2.0]], dtype=torch.float64)
    found = lazy_criterion(Quadratic(a, w), torch.tensor([[0]]), y, generator=generator(0), tolerance=1e-6)
    expected = (w @ a[0] @ w / 2 - 2).abs() * torch.linalg.matrix_norm(a[0], 2) / (a[0] @ w).square().sum()
    assert found.settled
    assert found.low <= expected * (1 + 1e-9)  # rounding
    assert_close(found.low, expected.item(), rtol=1e-4, atol=0)  # tolerance of the iterations
    assert_close(found.high, expected.item(), rtol=1e-4, atol=0)  # tolerance of the iterations


def test_samples_with_parameters_of_their_own_have_the_largest_of_their_norms():
    """Blocks: ‖D²h‖ = max ‖A_i‖/√n, ‖Dh‖ = max ‖A_i w_i‖/√n, and both bounds are equal."""
    blocks, w = symmetric(3, 2), torch.randn(6, dtype=torch.float64)
    a = torch.zeros(3, 6, 6, dtype=torch.float64)
    for i in range(3):
        a[i, 2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = blocks[i]
    model, y = Quadratic(a, w), torch.ones(3, 1, dtype=torch.float64)
    found = lazy_criterion(model, torch.arange(3)[:, None], y, generator=generator(0), tolerance=1e-6, starts=10)
    bend = max(torch.linalg.matrix_norm(block, 2) for block in blocks) / 3**0.5
    slope = max((block @ w[2 * i : 2 * i + 2]).square().sum() for i, block in enumerate(blocks)) / 3
    assert_close(found.second_derivative.low, bend.item(), rtol=1e-4, atol=0)  # tolerance of the iterations
    assert_close(found.second_derivative.high, bend.item(), rtol=1e-4, atol=0)  # tolerance of the iterations
    assert_close(found.derivative.low, slope.item(), rtol=1e-4, atol=0)  # tolerance of the iterations


@pytest.fixture
def problem():
    net = TwoLayer(3, 6, 2, activation=TANH, generator=generator(1), scale=1.0)
    return net, torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)


def test_the_derivative_norm_is_the_top_of_the_kernel_over_n(problem):
    net, x, y = problem
    found = lazy_criterion(net, x, y, generator=generator(0), tolerance=1e-6)
    matrix = ntk(net, x).transpose(1, 2).reshape(10, 10) / 5
    top = torch.linalg.eigvalsh(matrix)[-1].item()
    assert found.derivative.low <= top * (1 + 1e-12) <= found.derivative.high * (1 + 1e-9)  # rounding
    assert_close(found.derivative.low, top, rtol=1e-6, atol=0)  # tolerance of the iterations
    assert_close(found.distance, ((net(x) - y).square().sum(1).mean()).sqrt().item())


def test_the_second_derivative_norm_brackets_every_pair_of_directions(problem):
    """Against all second derivatives: no random direction beats the upper bound, the lower bound is attained."""
    net, x, y = problem
    f, params = functional(net)
    w = flatten(params)
    hessians = torch.func.hessian(lambda v: f(unflatten(v, params), x).reshape(-1) / 5**0.5)(w)
    found = lazy_criterion(net, x, y, generator=generator(0), tolerance=1e-5, starts=8).second_derivative
    best = 0.0
    for _ in range(300):
        cotangent = torch.randn(10, dtype=torch.float64)
        for _ in range(30):
            values, vectors = torch.linalg.eigh(torch.einsum("i,ijk->jk", cotangent / cotangent.norm(), hessians))
            v = vectors[:, values.abs().argmax()]
            cotangent = torch.einsum("ijk,j,k->i", hessians, v, v)
        best = max(best, cotangent.norm().item())
    unfolding = torch.linalg.matrix_norm(hessians.transpose(0, 1).reshape(len(w), -1), 2).item()
    assert_close(found.low, best, rtol=1e-3, atol=0)  # two searches for one maximum
    assert_close(found.high, unfolding, rtol=1e-3, atol=0)  # tolerance of the iterations
    assert found.low <= found.high


def test_it_falls_as_one_over_alpha_for_the_centred_model(problem):
    net, x, y = problem
    values = [
        lazy_criterion(Centred(net, alpha), x, y, generator=generator(0), tolerance=1e-5) for alpha in (1.0, 100.0)
    ]
    assert_close(values[0].low / values[1].low, 100.0, rtol=1e-4, atol=0)  # tolerance of the iterations
    assert_close(values[0].high / values[1].high, 100.0, rtol=1e-4, atol=0)  # tolerance of the iterations


def test_a_linear_model_is_lazy_from_the_start():
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    found = lazy_criterion(nn.Linear(3, 2).double(), x, y, generator=generator(0))
    assert found.low == found.high == 0
    assert found.settled


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
    found = lazy_criterion(net, x, y, generator=generator(1)).second_derivative
    assert_close(found.high, expected, rtol=1e-2, atol=0)  # tolerance of the iterations, in the square
    assert 0.7 * expected < found.low <= found.high


def test_too_few_iterations_are_admitted(problem):
    net, x, y = problem
    assert not lazy_criterion(net, x, y, generator=generator(0), iterations=2, tolerance=1e-9).settled


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (nn.Linear(3, 2), 4, r"needs targets \(5, 2\); got targets \(4, 2\).* of the 5 inputs"),
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), 5, "lazy_criterion needs a model that maps each sample"),
        (nn.Sequential(nn.Linear(3, 2), nn.Threshold(1e9, 0.0)), 5, "Dh is zero"),
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


def test_a_missing_second_derivative_is_told_before_the_iterations():
    model = nn.Sequential(nn.Linear(3, 4), nn.Mish(), FailsLater(RuntimeError("too late"), 60))
    model[-1].inner = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=r"needs a model with second derivatives in forward mode; here: .*mish"):
        lazy_criterion(model, torch.randn(5, 3), torch.randn(5, 2), generator=generator(0), iterations=1000)


def test_each_end_of_the_bracket_takes_the_end_of_the_derivative_that_is_on_the_safe_side():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    found = lazy_criterion(net, x, y, generator=generator(0), iterations=2, tolerance=1e-9)
    assert not found.settled
    assert found.derivative.low < 0.999 * found.derivative.high  # so the ends can be told apart
    assert found.low == pytest.approx(found.distance * found.second_derivative.low / found.derivative.high)
    assert found.high == pytest.approx(found.distance * found.second_derivative.high / found.derivative.low)
