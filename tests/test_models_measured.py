"""Steps measured as they are made: exact in all modes of differentiation, with few passes over memory."""

import pytest
import torch
from test_models_weighted_sum import Passes
from torch.func import jvp, vmap
from torch.testing import assert_close

from regimes.models import measured as measuring
from regimes.models.build import build
from regimes.models.measured import measured_step, measured_sum
from regimes.models.residual import Trace
from regimes.training.objectives import LeastAction
from regimes.transport.energy import mean_over_features, sum_over_features, transport_cost

WAYS = {
    "sum": (measured_sum, lambda start, step: (start + step, step.square().sum())),
    "step": (measured_step, lambda start, end: (end + 0, end - start, (end - start).square().sum())),
}


def pair(dtype=torch.float64, shape=(3, 4, 5, 2)):
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=dtype).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("way", WAYS)
def test_values_and_derivatives_are_those_of_the_formula(way):
    measured, plain = WAYS[way]
    parts = pair(shape=(3, 2))
    assert_close(measured(*parts), plain(*parts))
    torch.autograd.gradcheck(measured, parts, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(measured, parts)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("used", [(0,), (-1,), (0, -1), (1,), (0, 1), (1, -1)])
def test_any_of_the_results_may_be_used(way, used):
    parts = pair()
    found, expected = (sum((f(*parts)[one] * (2 + one)).sum() for one in used) for f in WAYS[way])
    grads = [torch.autograd.grad(value, parts, allow_unused=True) for value in (found, expected)]
    for own, other in zip(*grads, strict=True):
        zero = torch.zeros_like(parts[0])
        assert_close(zero if own is None else own, zero if other is None else other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moved", [0, 1])
def test_a_forward_derivative_takes_one_of_the_parts_alone(way, moved):
    parts, along = [part.detach() for part in pair()], torch.randn(3, 4, 5, 2, dtype=torch.float64)

    def alone(f):
        return jvp(
            lambda own: f(*(own if place == moved else parts[place] for place in range(2))), (parts[moved],), (along,)
        )

    assert_close(alone(WAYS[way][0]), alone(WAYS[way][1]))


@pytest.mark.parametrize("way", WAYS)
def test_members_have_the_gradients_of_each(way):
    parts = pair()
    measured, plain = (vmap(f)(*parts) for f in WAYS[way])
    assert_close(measured, plain)
    values = [
        (found[0] * torch.arange(40.0).view(4, 5, 2)).sum() + (found[-1] ** 2).sum() for found in (measured, plain)
    ]
    assert_close(*(torch.autograd.grad(value, parts) for value in values))


@pytest.mark.parametrize("way", WAYS)
def test_half_precision_is_widened_before_it_is_subtracted_and_squared(way):
    start, other = (1000 * part.detach().bfloat16() for part in pair(torch.float32))
    start.requires_grad_(), other.requires_grad_()
    *_, squares = WAYS[way][0](start, other)
    step = other.float() - (start.float() if way == "step" else 0)
    assert squares.dtype == torch.float32
    assert_close(squares, step.square().sum())
    of_other = torch.autograd.grad(squares, other)[0]
    assert_close(of_other, (2 * step).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("way", "most"), [("sum", 1), ("step", 2)])
def test_the_gradient_of_both_takes_one_pass_a_part(monkeypatch, way, most, dtype):
    monkeypatch.setattr(measuring, "CHUNK", 7)  # parts of states are no states
    parts = pair(dtype)
    found = WAYS[way][0](*parts)
    gradients = [torch.randn_like(found[0]), torch.ones_like(found[-1])]
    with Passes(parts[0].numel()) as backward:
        torch.autograd.grad([found[0], found[-1]], parts, gradients)
    assert backward.count == most


@pytest.mark.parametrize("layouts", [(0, 0), (1, 1), (0, 1)])
def test_differences_of_half_precision_are_the_same_in_chunks_and_in_any_layout(monkeypatch, layouts):
    monkeypatch.setattr(measuring, "CHUNK", 7)
    formats = [torch.contiguous_format, torch.channels_last]
    states = [part.detach().bfloat16() for part in pair(torch.float32)]
    start, end = (
        state.contiguous(memory_format=formats[one]).requires_grad_()
        for state, one in zip(states, layouts, strict=True)
    )
    _, step, squares = measured_step(start, end)
    exact = states[1].float() - states[0].float()
    assert torch.equal(step, exact)
    assert_close(squares, exact.square().sum())
    of_start, of_end = torch.autograd.grad(squares, (start, end), torch.tensor(0.3))
    assert_close((of_start, of_end), ((-0.6 * exact).bfloat16(), (0.6 * exact).bfloat16()))


def test_a_gradient_in_half_precision_is_rounded_once():
    start, step = (torch.full((1000,), value).bfloat16().requires_grad_() for value in (0.0, 1.0))
    gradients = [torch.full((1000,), -1.0).bfloat16(), torch.tensor(0.501)]  # -1 + 1.002: what a rounded product loses
    end, squares = measured_sum(start, step)
    (found,) = torch.autograd.grad([end, squares], step, gradients)
    assert_close(found, torch.full((1000,), 0.002).bfloat16())


@pytest.mark.parametrize(
    ("arch", "shape"),
    [("resnet9", (3, 8, 8)), pytest.param("resnext29", (3, 8, 8), marks=pytest.mark.slow), ("dense", (5,))],
)
@pytest.mark.parametrize("convention", [mean_over_features, sum_over_features])
@pytest.mark.parametrize("p", [2.0, 3.0])
def test_least_action_is_that_of_the_steps(arch, shape, convention, p):
    torch.manual_seed(0)
    options = {"resnet9": {"filters": 2, "blocks": 2}, "resnext29": {}, "dense": {"blocks": 2, "width": 4}}[arch]
    net = build(arch, shape, 3, **options).double()
    weights, x, y = list(net.parameters()), torch.randn(4, *shape, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    trace = net(x, trace=True)
    assert len(trace.flat_squares) == len(trace.flat_steps)
    plain = Trace(trace.output, trace.paths, trace.steps)
    assert_close(trace.flat_squares, [step.square().sum() for step in trace.flat_steps])
    found, expected = (LeastAction(p=p, convention=convention)(one, y) for one in (trace, plain))
    assert_close(found, expected)
    grads = [torch.autograd.grad(one.value, weights, retain_graph=True) for one in (found, expected)]
    assert_close(*grads)
    assert_close(found.transport, transport_cost(trace.flat_steps, p=p, convention=convention).detach())
