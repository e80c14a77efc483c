from copy import deepcopy

import pytest
import torch
from kinds_of_modules import MODELS
from torch import nn
from torch.testing import assert_close

from regimes.activations import ERF, RELU
from regimes.conventions import generator
from regimes.models.doubling import Doubled
from regimes.models.mlp import MLP
from regimes.models.scaling import Centred
from regimes.tangent.kernel import jacobian, ntk
from regimes.tangent.linearize import linearize
from regimes.tangent.regression import GradientFlow, kernel_ridge, predict


@pytest.fixture(params=MODELS)
def case(request):
    build, shape = MODELS[request.param]
    return build().double().eval(), torch.randn(shape, dtype=torch.float64)


def displace(tangent, size=1.0):
    with torch.no_grad():
        for delta in tangent.parameters():
            delta.copy_(size * torch.randn(delta.shape, dtype=delta.dtype))


def test_at_the_start_it_is_the_model(case):
    model, x = case
    assert_close(linearize(model)(x), model(x))


def test_displaced_it_is_the_first_order_model(case):
    model, x = case
    tangent = linearize(model)
    displace(tangent)
    parts = jacobian(model, x)
    change = sum(
        parts[name].reshape(len(x), parts[name].shape[1], -1) @ delta.reshape(-1)
        for name, delta in tangent.displacements().items()
    )
    assert_close(tangent(x), model(x) + change.view_as(model(x)))


def test_the_gradient_is_the_transposed_jacobian_at_any_displacement(case):
    model, x = case
    tangent = linearize(model)
    parts = jacobian(model, x)
    for _ in range(2):
        output = tangent(x)
        weight = torch.randn(output.shape, dtype=output.dtype)
        grads = torch.autograd.grad((weight * output).sum(), list(tangent.parameters()))
        for grad, (name, part) in zip(grads, parts.items(), strict=True):
            expected = torch.einsum("nk,nk...->...", weight.reshape(len(x), -1), part)
            assert_close(grad, expected, msg=name)
        displace(tangent)


def test_it_does_not_see_later_changes_of_the_model(case):
    model, x = case
    tangent = linearize(model)
    before = tangent(x).detach()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1)
    assert_close(tangent(x), before)


def test_its_kernel_is_that_of_the_model_wherever_it_is():
    model, x = MLP([3, 6, 2], activation=RELU, generator=generator(0)), torch.randn(4, 3, dtype=torch.float64)
    tangent = linearize(model)
    displace(tangent)
    assert_close(ntk(tangent, x), ntk(model, x))


def test_only_the_displacement_is_trained_and_it_moves_with_state_dict_and_dtype():
    model, x = MLP([3, 6, 2], activation=RELU, generator=generator(0)), torch.randn(4, 3, dtype=torch.float64)
    tangent = linearize(model)
    assert [tuple(p.shape) for p in tangent.parameters()] == [tuple(p.shape) for p in model.parameters()]
    displace(tangent)
    other = linearize(MLP([3, 6, 2], activation=RELU, generator=generator(1)))
    other.load_state_dict(tangent.state_dict())
    assert_close(other(x), tangent(x))
    assert_close(deepcopy(tangent).float()(x.float()), tangent(x).float(), rtol=1e-4, atol=1e-4)  # float32


@pytest.fixture
def regression():
    model = MLP([3, 40, 1], activation=ERF, generator=generator(0), sigma_b=0.5)
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    return model, x, y, torch.randn(3, 3, dtype=torch.float64)


@pytest.mark.slow
def test_gradient_descent_on_it_follows_the_exact_flow(regression):
    model, x, y, x_test = regression
    flow = GradientFlow(ntk(model, x, outputs="trace"), y, model(x).detach())
    tangent, step = linearize(model), 0.005
    optimiser = torch.optim.SGD(tangent.parameters(), step)
    for _ in range(100):
        optimiser.zero_grad()
        ((tangent(x) - y).square().sum(1).mean() / 2).backward()
        optimiser.step()
    time, k_test_train = 100 * step, ntk(model, x_test, x, outputs="trace")
    assert_close(tangent(x), flow.train(time), rtol=0, atol=step)  # Euler against the flow: O(step)
    assert_close(tangent(x_test), flow.test(time, k_test_train, model(x_test).detach()), rtol=0, atol=step)  # O(step)
    moved = torch.cat([delta.detach().reshape(-1) for delta in tangent.parameters()]).norm()
    assert_close(moved, flow.displacement(time), rtol=step, atol=0)  # O(step)
    assert (flow.train(time) - flow.train(0.0)).norm() > 0.1  # and something happened


@pytest.mark.slow
def test_trained_to_the_end_it_is_kernel_regression(regression):
    model, x, y, x_test = regression
    tangent = linearize(model)
    optimiser = torch.optim.LBFGS(tangent.parameters(), max_iter=300, tolerance_grad=1e-13, tolerance_change=0)

    def risk():
        optimiser.zero_grad()
        value = (tangent(x) - y).square().sum(1).mean() / 2
        value.backward()
        return value

    optimiser.step(risk)
    fit = kernel_ridge(ntk(model, x, outputs="trace"), y - model(x).detach())
    expected = model(x_test).detach() + predict(fit, ntk(model, x_test, x, outputs="trace"))
    assert_close(tangent(x_test).detach(), expected, rtol=0, atol=1e-6)  # gradient at 1e-10, condition number 1e3


@pytest.mark.slow
def test_the_centred_model_is_linearised_with_its_scale():
    model, x = MLP([3, 6, 1], activation=ERF, generator=generator(0)), torch.randn(4, 3, dtype=torch.float64)
    tangent = linearize(Centred(model, 5.0))
    assert_close(tangent(x), torch.zeros(4, 1, dtype=torch.float64))
    assert_close(ntk(tangent, x), 25 * ntk(model, x))


def test_the_remainder_is_of_second_order():
    model, x = MLP([3, 8, 1], activation=ERF, generator=generator(0)), torch.randn(4, 3, dtype=torch.float64)
    tangent = linearize(model)
    displace(tangent)
    direction = [delta.detach().clone() for delta in tangent.parameters()]
    remainders = []
    for size in (1e-2, 1e-3):
        moved = deepcopy(model)
        with torch.no_grad():
            for value, delta, step in zip(moved.parameters(), tangent.parameters(), direction, strict=True):
                value.add_(size * step)
                delta.copy_(size * step)
        remainders.append((moved(x) - tangent(x)).norm())
    assert 80 < remainders[0] / remainders[1] < 120  # a factor 10 in size is 100 in a second-order remainder


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), r"linearize .* '1' \(BatchNorm1d\)"),
        (nn.ReLU(), "no trainable parameter"),
    ],
)
def test_models_without_a_tangent_model_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        linearize(model)


def test_inputs_that_are_not_finite_are_not_blamed_on_the_model():
    x = torch.randn(4, 3)
    x[0, 0] = torch.nan
    with pytest.raises(ValueError, match="linearize needs finite x; 1 of its 12 entries is NaN"):
        linearize(nn.Linear(3, 2))(x)


class Ending(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.layer, self.end = nn.Linear(3, 1), end

    def forward(self, x):
        return self.end(self.layer(x))


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (torch.squeeze, r"a row for each sample; one sample gave shape \(\)"),
        (lambda y: y[:, :0], r"a row for each sample; one sample gave shape \(1, 0\)"),
        (lambda y: y.argmax(1), "outputs have derivatives; this one gives torch.int64"),
        (lambda y: y > 0, "outputs have derivatives; this one gives torch.bool"),
    ],
)
@pytest.mark.parametrize("door", [ntk, lambda model, x: linearize(model)(x)], ids=["ntk", "linearize"])
def test_outputs_that_have_no_derivative_or_no_row_for_one_sample_are_refused_in_words(door, end, message):
    with pytest.raises(ValueError, match=message):
        door(Ending(end), torch.randn(4, 3))


@pytest.mark.parametrize("wrap", [linearize, lambda model: Centred(model, 2.0), Doubled])
def test_made_and_called_under_inference_mode_a_wrapped_model_can_be_trained_afterwards(wrap):
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3)
    with torch.inference_mode():
        wrapped = wrap(model)
        there = wrapped(x)
    assert_close(there.clone(), wrapped(x).detach())
    wrapped(x).sum().backward()
    assert all(parameter.grad is not None for parameter in wrapped.parameters())
