import math

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap
from torch.testing import assert_close

from regimes.control.one_sided import logarithmic_norms, one_sided_constant, quotients
from regimes.control.pairs import worst_pairs
from regimes.models.gradient_blocks import GradientField


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def stream():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize(("shape", "steps"), [((3,), 32), ((40,), 40), ((2, 3, 4), 32)])
def test_the_logarithmic_norm_is_the_largest_eigenvalue_of_the_symmetric_part(shape, steps):
    d = math.prod(shape)
    matrix = draw(d, d) / d**0.5

    def field(z):
        return torch.tanh(z.flatten(1) @ matrix.T).reshape(z.shape)

    z = draw(5, *shape)
    jacobians = vmap(jacrev(lambda each: field(each[None])[0]))(z).reshape(5, d, d)
    exact = torch.linalg.eigvalsh((jacobians + jacobians.mT) / 2)[:, -1]
    assert_close(logarithmic_norms(field, z, generator=stream(), steps=steps), exact)


def test_a_matrix_with_negative_eigenvalues_can_have_a_positive_logarithmic_norm():
    matrix = torch.tensor([[-1.0, 10.0], [0.0, -1.0]], dtype=torch.float64)
    found = logarithmic_norms(lambda z: z @ matrix.T, draw(2, 2), generator=stream())
    assert_close(found, torch.full((2,), 4.0, dtype=torch.float64))


def test_several_nets_are_a_batch_axis():
    matrices, z = draw(4, 3, 3), draw(4, 7, 3)

    def field(states):
        return torch.tanh(states @ matrices.mT)

    together = logarithmic_norms(field, z, generator=stream(), batch_axes=2)
    for net in range(4):

        def own(states, net=net):
            return torch.tanh(states @ matrices[net].T)

        assert_close(together[net], logarithmic_norms(own, z[net], generator=stream()))
    found = one_sided_constant(field, z, generator=stream(), batch_axes=2, steps=20, pairs=7)
    assert found.value.shape == (4,)
    assert (found.value >= together.amax(1)).all()


def test_the_constant_of_a_linear_field_is_its_logarithmic_norm_by_pairs_as_well():
    matrix = draw(4, 4)
    exact = torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
    found = one_sided_constant(lambda z: z @ matrix.T, draw(16, 4), generator=stream(), steps=300)
    assert_close(found.at_states, exact)
    assert_close(found.between_pairs, exact, rtol=1e-3, atol=0.0)  # ascent, not an eigenvalue solver
    assert_close(found.value, exact, rtol=1e-10, atol=0.0)


def test_the_search_finds_the_one_cell_of_a_relu_net_in_which_it_expands():
    """f(z) = −z + 3 relu(z_1 − 4): μ = 2 beyond z_1 = 4, where no state was drawn, and −1 elsewhere."""

    def field(z):
        return -z + 3 * torch.relu(z - 4) * torch.tensor([1.0, 0.0], dtype=z.dtype)

    z = draw(64, 2).clamp(-2, 2)
    assert_close(logarithmic_norms(field, z, generator=stream()), torch.full((64,), -1.0, dtype=torch.float64))
    assert_close(float(one_sided_constant(field, z, generator=stream()).value), 2.0)


def test_the_search_stays_in_its_region():
    def ball(z):
        return z / z.norm(dim=-1, keepdim=True).clamp(min=1.0)

    z = ball(draw(32, 2))
    found = one_sided_constant(lambda states: states.square() / 2, z, generator=stream(), within=ball)
    assert float(found.pairs.one.norm(dim=1).max()) <= 1 + 1e-12
    assert 0.95 <= float(found.value) <= 1.0 + 1e-12  # μ = max z_i: 1 at the edge of the ball


def test_the_quotient_of_a_pair_is_that_written_out():
    one, other = draw(2, 5, 3)
    field = GradientField(3).double()
    with torch.no_grad():
        apart, moved = one - other, field(one) - field(other)
        assert_close(quotients(field, one, other), (apart * moved).sum(1) / (apart**2).sum(1))
        assert (quotients(field, one, other) <= 0).all()


def test_the_constant_of_a_gradient_field_is_between_minus_the_least_singular_value_squared_and_0():
    field = GradientField(3, 5).double()
    least = torch.linalg.svdvals(field.linear.weight.detach())[-1] ** 2
    found = one_sided_constant(field, draw(32, 3), generator=stream()).value
    assert -least <= found <= 0
    plain = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
    assert one_sided_constant(plain, draw(32, 3), generator=stream()).value > 0


def test_the_parameters_of_a_field_keep_their_gradients():
    field = GradientField(3).double()
    field.linear.weight.grad = torch.ones_like(field.linear.weight)
    one_sided_constant(field, draw(6, 3), generator=stream(), steps=3, hops=1)
    assert torch.equal(field.linear.weight.grad, torch.ones_like(field.linear.weight))
    assert field.linear.bias.grad is None


def test_the_search_is_never_worse_than_its_start_and_keeps_nearly_equal_states_apart():
    one = draw(8, 3)
    other = one + 1e-6 * draw(8, 3)

    def score(x, y):
        return -(x - y).square().sum(1)

    found = worst_pairs(score, one, other, steps=50)
    assert (found.score >= score(one, other)).all()
    assert (found.score < 0).all()
    assert torch.equal(worst_pairs(score, one, other, steps=0).one, one)


def test_wrong_fields_and_states_are_refused():
    z = draw(4, 3)
    with pytest.raises(ValueError, match="shape and dtype of the states"):
        logarithmic_norms(lambda states: states[:, :2], z, generator=stream())
    with pytest.raises(ValueError, match="finite z"):
        logarithmic_norms(torch.tanh, z / 0, generator=stream())
    with pytest.raises(ValueError, match="sample"):
        logarithmic_norms(nn.BatchNorm1d(3).double(), z, generator=stream())
    with pytest.raises(ValueError, match="stops gradients"):
        logarithmic_norms(lambda states: torch.tanh(states.detach()) + 0 * states, z, generator=stream())
    with pytest.raises(ValueError, match="at least two states"):
        one_sided_constant(torch.tanh, z[:1], generator=stream())
    with pytest.raises(ValueError, match="two different states"):
        worst_pairs(lambda x, y: (x - y).sum(1), z, z)
    with pytest.raises(ValueError, match="one number a pair"):
        worst_pairs(lambda x, y: x - y, z, z + 1)
