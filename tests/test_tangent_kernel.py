"""The empirical kernel on every kind of module, against a plain loop of backward passes."""

import pytest
import torch
from kinds_of_modules import MODELS
from plain_kernels import slow_jacobian, slow_ntk
from torch import nn
from torch.testing import assert_close

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.models.mlp import MLP
from regimes.models.two_layer import TwoLayer
from regimes.modules import unwrapped
from regimes.tangent.functional import unflatten
from regimes.tangent.kernel import jacobian, ntk, ntk_vector_product
from regimes.tangent.linearize import linearize


@pytest.fixture(params=MODELS)
def case(request):
    build, shape = MODELS[request.param]
    return build().double().eval(), torch.randn(shape, dtype=torch.float64), torch.randn(3, *shape[1:]).double()


def test_the_jacobian_is_that_of_single_backward_passes(case):
    model, x, _ = case
    parts = jacobian(model, x)
    assert_close(torch.cat([part.reshape(*part.shape[:2], -1) for part in parts.values()], 2), slow_jacobian(model, x))


def test_the_kernel_is_the_sum_of_gradient_products(case):
    model, x1, x2 = case
    assert_close(ntk(model, x1, x2), slow_ntk(model, x1, x2))
    assert_close(ntk(model, x1), slow_ntk(model, x1, x1))


@pytest.mark.slow
def test_the_trace_is_the_sum_over_outputs_and_not_the_mean(case):
    model, x1, x2 = case
    full = ntk(model, x1, x2)
    assert_close(ntk(model, x1, x2, outputs="trace"), torch.einsum("ijaa->ij", full))
    assert_close(ntk(model, x1, outputs="trace"), torch.einsum("ijaa->ij", ntk(model, x1)))


def test_the_vector_product_is_the_kernel_times_the_vector(case):
    model, x1, x2 = case
    full = ntk(model, x1, x2)
    vector = torch.randn(len(x2), full.shape[-1], dtype=torch.float64)
    assert_close(ntk_vector_product(model, x1, vector, x2), torch.einsum("ijab,jb->ia", full, vector))


@pytest.mark.parametrize("outputs", ["full", "trace"])
@pytest.mark.parametrize("options", [{"block": 1}, {"block": 3}, {"block": 100}, {"memory": 1}, {"memory": 5000}])
@pytest.mark.slow
def test_blocks_change_nothing(outputs, options):
    model = MLP([3, 6, 4], activation=RELU, generator=generator(0), sigma_b=0.1)
    x1, x2 = torch.randn(7, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    assert_close(ntk(model, x1, x2, outputs=outputs, **options), ntk(model, x1, x2, outputs=outputs))
    assert_close(ntk(model, x1, outputs=outputs, **options), ntk(model, x1, outputs=outputs))


@pytest.mark.parametrize("options", [{}, {"block": 2}, {"memory": 1}])
def test_one_batch_gives_an_exactly_symmetric_positive_kernel(options):
    model = MLP([3, 6, 2], activation=RELU, generator=generator(0))
    full = ntk(model, torch.randn(5, 3, dtype=torch.float64), **options)
    assert torch.equal(full, full.permute(1, 0, 3, 2))
    matrix = full.transpose(1, 2).reshape(10, 10)
    values = torch.linalg.eigvalsh(matrix)
    assert values[0] > -1e-12 * values[-1]  # rounding of ten eigenvalues
    trace = ntk(model, torch.randn(5, 3, dtype=torch.float64), outputs="trace", **options)
    assert torch.equal(trace, trace.T)


def test_a_linear_model_has_the_kernel_of_its_inputs():
    model = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    expected = (x @ x.T + 1)[:, :, None, None] * torch.eye(2, dtype=torch.float64)
    assert_close(ntk(model, x), expected)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_two_layer_net_has_its_written_out_kernel(scale):
    """s² Σ_j [σ(b·x)σ(b·x') + a_j² x·x' σ'σ']."""
    net = TwoLayer(3, 6, activation=RELU, generator=generator(0), scale=scale)
    x = torch.randn(4, 3, dtype=torch.float64)
    value, slope = RELU.value(net.preactivations(x)), RELU.derivative(net.preactivations(x)) * net.output_weights[:, 0]
    assert_close(ntk(net, x, outputs="trace"), scale**2 * (value @ value.T + (x @ x.T) * (slope @ slope.T)).detach())


def test_shared_parameters_count_with_all_their_uses():
    """h = w·(w·x) = w² x has the derivative 2wx; one layer at a time would give 2·(wx)² in place of (2wx)²."""
    layer = nn.Linear(1, 1, bias=False).double()
    x = torch.tensor([[3.0]], dtype=torch.float64)
    expected = (2 * layer.weight * x).square().detach()
    assert_close(ntk(nn.Sequential(layer, layer), x, outputs="trace"), expected)
    other = nn.Linear(1, 1, bias=False)
    other.weight = layer.weight
    assert_close(ntk(nn.Sequential(layer, other), x, outputs="trace"), expected)
    owner = nn.Module()
    owner.first = owner.second = nn.Parameter(layer.weight.detach())
    owner.forward = lambda x: x @ owner.first @ owner.second
    assert_close(ntk(owner, x, outputs="trace"), expected)


def test_a_layer_used_twice_stays_trainable():
    layer = nn.Linear(1, 1)
    ntk(nn.Sequential(layer, layer), torch.ones(1, 1))
    assert isinstance(layer.weight, nn.Parameter)


def test_frozen_parameters_do_not_count():
    model = nn.Linear(3, 2).double()
    model.weight.requires_grad_(False)
    x = torch.randn(4, 3, dtype=torch.float64)
    assert_close(ntk(model, x, outputs="trace"), 2 * torch.ones(4, 4, dtype=torch.float64))


def test_integer_inputs_are_inputs_of_an_embedding():
    model = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 2)).double()
    x = torch.randint(0, 7, (4, 2))
    assert_close(ntk(model, x), slow_ntk(model, x, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_model_is_kept(dtype):
    model = nn.Linear(3, 2).to(dtype)
    x = torch.randn(4, 3, dtype=dtype)
    kernel = ntk(model, x)
    assert kernel.dtype == dtype
    assert not kernel.requires_grad
    assert ntk_vector_product(model, x, torch.ones(4, 2, dtype=dtype)).dtype == dtype


def test_neither_the_model_nor_its_gradients_are_touched():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ntk(model, torch.randn(4, 3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())


def test_the_kernel_predicts_one_small_gradient_step():
    """A step w − s·∇R moves f by −(s/n) Θ (f − y) + O(s²): half mean square, mean over n samples."""
    net = MLP([3, 20, 2], activation=RELU, generator=generator(0))
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    before, step = net(x).detach(), 1e-7
    predicted = -step / 6 * torch.einsum("ijab,jb->ia", ntk(net, x), before - y)
    ((net(x) - y).square().sum(1).mean() / 2).backward()
    torch.optim.SGD(net.parameters(), step).step()
    assert_close(net(x).detach() - before, predicted, rtol=1e-4, atol=0)  # second-order term and cancellation at 1e-7


def test_a_vector_in_parameter_space_is_seen_by_the_jacobian():
    net = MLP([3, 4, 2], activation=RELU, generator=generator(0))
    x = torch.randn(5, 3, dtype=torch.float64)
    parts = jacobian(net, x)
    direction = torch.randn(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    change = sum(
        parts[name].flatten(2) @ piece.reshape(-1)
        for name, piece in unflatten(direction, dict(net.named_parameters())).items()
    )
    assert_close(change, slow_jacobian(net, x) @ direction)


X = torch.randn(4, 3)


@pytest.mark.parametrize(
    ("model", "call", "message"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), {}, r"ntk .* '1' \(BatchNorm1d\) .* model.eval\(\)"),
        (nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1)), {}, "draws random numbers"),
        (nn.ReLU(), {}, "no trainable parameter"),
        (nn.Linear(3, 2), {"outputs": "mean"}, "'trace' or 'diagonal', or a list of outputs; got 'mean'"),
        (nn.Linear(3, 2), {"block": 0}, "block as a whole number, at least 1; got 0"),
        (nn.Linear(3, 2), {"x1": X[:0]}, "at least one sample in inputs"),
        (nn.Linear(3, 2), {"x2": X[:0]}, "at least one sample in x2"),
        (nn.Linear(3, 2), {"x2": X[:, :2]}, r"one sample shape, dtype and device; got \(4, 3\)"),
        (nn.Linear(3, 2), {"x1": X.double()}, "the dtype of the model, torch.float32; got torch.float64"),
        (nn.Linear(3, 2), {"x1": X.to("meta")}, "on the device of the model, cpu; got meta"),
        (nn.Sequential(nn.Linear(3, 2), nn.Flatten(0)), {}, "a row for each sample"),
        (nn.Linear(3, 2), {"x1": X[:, :2]}, r"with shape \(2,\) the model \(Linear\) needs 3 features, got 2"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1)), {"x1": torch.randn(2, 1, 5, 5)},
            r"with shape \(1, 5, 5\) layer '2' \(Linear\) needs 8 features, got 18",
        ),
        (nn.Sequential(nn.Conv2d(3, 2, 3)), {"x1": torch.randn(2, 1, 5, 5)}, r"'0' \(Conv2d\) needs 3 channels, got 1"),
        (nn.LSTM(3, 2), {"x1": torch.randn(2, 5, 3)}, "returns one tensor .* gave tuple"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_clear_line(model, call, message):
    arguments = {"x1": X} | call
    with pytest.raises(ValueError, match=message) as error:
        ntk(model, **arguments)
    assert "\n" not in str(error.value)


def test_a_model_that_fails_for_another_reason_says_so_itself():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("out of order")

    model = Broken(3, 2)
    with pytest.raises(RuntimeError, match="out of order"):
        ntk(model, X)
    assert not model._forward_pre_hooks


def test_a_vector_of_the_wrong_shape_is_refused():
    with pytest.raises(
        ValueError,
        match=r"needs vector \(4, 2\); got vector \(4, 1\).* of the 4 samples of x2, a column for each of the 2",
    ):
        ntk_vector_product(nn.Linear(3, 2), X, torch.ones(4, 1))


@pytest.mark.parametrize("caller", [lambda x: ntk(x, torch.zeros(2, 3)), lambda x: ntk(nn.Linear(3, 1), x)])
@pytest.mark.parametrize("wrong", [None, [1.0, 2.0]])
def test_what_is_no_module_or_no_tensor_is_refused_in_words(caller, wrong):
    with pytest.raises((ValueError, TypeError), match=r"needs (a torch module|inputs as a tensor)|annotations"):
        caller(wrong)


@pytest.mark.slow  # imports the compiler
def test_a_compiled_model_has_the_kernel_of_the_model_inside():
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3)
    compiled = torch.compile(net, backend="eager")
    assert torch.equal(ntk(compiled, x), ntk(net, x))
    assert {name for name, _ in linearize(compiled).start.named_buffers()} >= {"0.weight", "2.bias"}
    assert unwrapped(compiled) is net
    assert unwrapped(compiled, "fit") is compiled  # what is to be trained stays compiled
