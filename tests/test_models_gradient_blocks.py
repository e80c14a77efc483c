import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.activations import ACTIVATIONS, GELU, LOGISTIC, TANH
from regimes.models.gradient_blocks import GradientField
from regimes.models.residual import Block, ResidualNet, Segment, parameter_count
from regimes.models.tracing import trace_residuals
from regimes.training.objectives import LeastAction
from regimes.transport.brenier import brenier_test

RISING = [one for one in (*ACTIVATIONS.values(), LOGISTIC) if one is not GELU]


def field(width=4, hidden=6, activation=TANH):
    return GradientField(width, hidden, activation=activation).double()


def distances(one, other):
    return (one - other).norm(dim=1)


def test_it_is_the_formula_written_out():
    r, z = field(), torch.randn(5, 4, dtype=torch.float64)
    a, b = r.linear.weight, r.linear.bias
    assert_close(r(z), torch.stack([-a.T @ torch.tanh(a @ row + b) for row in z]))
    assert parameter_count(r) == 6 * 4 + 6
    assert GradientField(3).linear.weight.shape == (3, 3)


def test_it_is_minus_the_gradient_of_a_convex_function():
    r = field()
    z = torch.randn(5, 4, dtype=torch.float64).requires_grad_()
    potential = torch.nn.functional.softplus(2 * r.linear(z)).sum() - r.linear(z).sum()  # Σ log(2 cosh(Az + b))
    (gradient,) = torch.autograd.grad(potential, z)
    assert_close(r(z), -gradient)


@pytest.mark.parametrize("activation", RISING, ids=lambda one: one.name)
def test_a_step_of_two_over_the_squared_norm_moves_no_states_apart_and_a_longer_one_can(activation):
    r = field(3, 3, activation)
    with torch.no_grad():
        limit = 2 / (activation.lipschitz * torch.linalg.matrix_norm(r.linear.weight, 2) ** 2)
        pairs = 30 * torch.randn(2, 4000, 3, dtype=torch.float64)
        one, other = pairs[0], torch.cat([pairs[1][:2000], pairs[0][2000:] + 1e-3 * pairs[1][2000:]])
        before = distances(one, other)
        after = distances(Block(r, scale=float(limit))(one), Block(r, scale=float(limit))(other))
        assert (after <= (1 + 1e-10) * before).all()  # distances of 1e-3 between states of size 30, to rounding
        steep = torch.linalg.svd(r.linear.weight).Vh[0]
        largest_slope = 20 if activation.derivative(torch.tensor(20.0)) > 0.99 else 0
        base = torch.linalg.solve(r.linear.weight, largest_slope - r.linear.bias)
        near = torch.stack([base, base + 1e-4 * steep])
        moved = Block(r, scale=1.1 * float(limit))(near)
        assert (moved[0] - moved[1]).norm() > 1e-4 * 1.1


def test_a_plain_residual_moves_states_apart_at_every_step():
    layer = nn.Linear(3, 3).double()
    z = torch.randn(4000, 3, dtype=torch.float64)
    other = z + 1e-3 * torch.randn(4000, 3, dtype=torch.float64)
    block = Block(nn.Sequential(layer, nn.ReLU()), scale=0.1)
    assert (distances(block(z), block(other)) > distances(z, other)).any()


def test_its_jacobian_is_symmetric_as_that_of_an_optimal_map():
    found = brenier_test(
        Block(field(), scale=0.1),
        torch.randn(32, 4, dtype=torch.float64),
        generator=torch.Generator().manual_seed(0),
    )
    assert found.asymmetry < 1e-25
    assert found.min_eigenvalue > 0


def test_it_trains_in_a_residual_net_with_least_action_and_is_traced():
    def block():
        return Block(GradientField(3, 5), scale=0.5)

    net = ResidualNet(nn.Linear(2, 3), [Segment([block(), block()])], nn.Linear(3, 2))
    x, y = torch.randn(16, 2), torch.arange(16) % 2
    trace = net(x, trace=True)
    assert_close(trace.steps[0][0], 0.5 * net.segments[0].blocks[0].residual(trace.paths[0][0]))
    objective = LeastAction(multiplier=0.01)
    loss = objective(net(x, trace=True), y).value
    loss.backward()
    assert all(each.grad.abs().sum() > 0 for each in net.parameters())
    traced = trace_residuals(net)
    assert_close(traced(x, trace=True).steps, trace.steps)


def test_it_survives_pickle_and_its_state_can_be_loaded():
    r, z = field(), torch.randn(2, 3, 4, dtype=torch.float64)
    again = pickle.loads(pickle.dumps(r))
    assert torch.equal(again(z), r(z))
    fresh = field()
    fresh.load_state_dict(r.state_dict())
    assert torch.equal(fresh(z), r(z))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"width": 0}, "width"),
        ({"width": 2, "hidden": 0}, "hidden"),
    ],
)
def test_impossible_fields_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        GradientField(**arguments)
