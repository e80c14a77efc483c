import math
from inspect import unwrap  # annotations, checked in tests alone, stop wrong types before the doors do

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap
from torch.testing import assert_close

from regimes.control.one_sided import logarithmic_norms, one_sided_constant, quotients
from regimes.control.pairs import worst_pairs
from regimes.eigenvalues import least_eigenvalues
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


MIXED = [
    pytest.param(lambda z: z - z.mean(0), 1, id="mean"),
    pytest.param(lambda z: z * z.amax(0), 1, id="largest"),
    pytest.param(lambda z: z - z.mean(0), 2, id="mean over nets"),
    pytest.param(lambda z: z - z.mean(1, keepdim=True), 2, id="mean over states"),
    pytest.param(lambda z: z + z[0], 2, id="one net added to all"),
    pytest.param(lambda z: z + 1e-6 * z.flip(0), 2, id="a little of another net"),
]


@pytest.mark.parametrize("measure", [logarithmic_norms, one_sided_constant])
@pytest.mark.parametrize(("field", "axes"), MIXED)
def test_functions_that_mix_states_are_refused_over_every_batch_axis(measure, field, axes):
    z = draw(*(2, 40, 3)[2 - axes :])
    with pytest.raises(ValueError, match="maps each sample by itself"):
        measure(field, z, generator=stream(), batch_axes=axes)


@pytest.mark.parametrize("measure", [logarithmic_norms, one_sided_constant])
@pytest.mark.parametrize(
    "field",
    [
        torch.log,
        lambda z: z * math.nan,
        lambda z: 1 / (z * 0),
        lambda z: (z - z.detach()).abs().sqrt(),
        torch.rand_like,
    ],
)
def test_fields_without_finite_values_and_derivatives_are_refused(measure, field):
    with pytest.raises(ValueError, match=f"{measure.__name__} needs"):
        measure(field, draw(8, 3), generator=stream())


def test_states_where_the_field_is_no_number_count_for_nothing():
    z = draw(20, 2).abs() + 0.5
    found = one_sided_constant(torch.log, z, generator=stream(), steps=40)  # μ = max 1/z_i, and z may leave its domain
    assert math.isfinite(found.value)
    assert found.value >= (1 / z).max()
    bounded = one_sided_constant(torch.log, z, generator=stream(), within=lambda states: states.clamp(min=0.5))
    assert 1.9 < bounded.value <= 2.0 + 1e-12


def test_weights_for_each_state_need_their_number_and_the_search_another():
    matrices, z = draw(6, 3, 3), draw(6, 3)

    def field(states):
        return (matrices @ states[..., None])[..., 0]

    exact = torch.linalg.eigvalsh((matrices + matrices.mT) / 2)[:, -1]
    assert_close(logarithmic_norms(field, z, generator=stream()), exact)
    with pytest.raises(ValueError, match="any number of states on axis 0"):
        one_sided_constant(field, z, generator=stream())


@pytest.mark.parametrize(
    ("within", "message"),
    [
        (lambda z: None, "NoneType"),
        (lambda z: z[:1], r"\(1, 3\)"),
        (lambda z: z.float(), "float32"),
        (lambda z: z / 2, "inside the region"),
        (lambda z: z * math.nan, "inside the region"),
    ],
)
def test_what_is_no_projection_onto_a_region_of_the_states_is_refused(within, message):
    z = draw(4, 3)
    with pytest.raises(ValueError, match=f"one_sided_constant needs .*{message}"):
        one_sided_constant(torch.tanh, z, generator=stream(), within=within)
    with pytest.raises(ValueError, match=f"worst_pairs needs .*{message}"):
        worst_pairs(lambda x, y: (x - y).sum(1), z, z + 1, within=within)


def test_a_region_of_one_state_has_no_pairs():
    with pytest.raises(ValueError, match="needs a region with other states"):
        one_sided_constant(torch.tanh, torch.zeros(3, 2), generator=stream(), within=lambda z: z * 0)


@pytest.mark.parametrize("z", [torch.ones(4, 3), torch.zeros(5, 3), torch.eye(3)[[0, 0, 1, 1, 2]]])
def test_states_may_be_equal(z):
    matrix = draw(3, 3)
    exact = torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
    found = one_sided_constant(lambda states: states @ matrix.T, z.double(), generator=stream(), steps=30, hops=1)
    assert_close(found.value, exact)
    assert found.between_pairs <= exact + 1e-9


def test_a_quotient_needs_two_different_states_and_a_field_that_is_finite_there():
    z = draw(5, 3)
    for other, field, message in (
        (z, torch.tanh, "two different states"),
        (torch.cat([z[:1], z[1:] + 1]), torch.tanh, "two different states"),
        (z + 1e-200, torch.tanh, "two different states"),
        (z[:4], torch.tanh, "axis_0"),
        (z.float() + 1, torch.tanh, "one precision"),
        (z + math.inf, torch.tanh, "finite other"),
        (z + 1, torch.log, "finite values of the field"),
        (z + 1, lambda states: states.sum(1), "shape and dtype"),
    ):
        with pytest.raises(ValueError, match=message):
            unwrap(quotients)(field, z, other)


@pytest.mark.parametrize("size", [3, 40])
def test_one_matrix_without_numbers_leaves_the_least_eigenvalues_of_the_others(size):
    matrices = draw(4, size, size)
    matrices = matrices + matrices.mT
    exact = torch.linalg.eigvalsh(matrices)[:, 0]
    matrices[1, 0, 0], matrices[2, 1, 1] = math.nan, math.inf
    found = least_eigenvalues(
        lambda v: (matrices @ v[..., None])[..., 0], draw(4, size), generator=stream(), steps=size
    )
    assert found.isnan().tolist() == [False, True, True, False]
    assert_close(found[[0, 3]], exact[[0, 3]])


def test_a_score_has_to_give_a_tensor_and_a_pair_without_a_number_leaves_the_others_alone():
    one, other = draw(4, 2).abs(), draw(4, 2).abs() + 2
    with pytest.raises(ValueError, match="gives a tensor"):
        worst_pairs(lambda x, y: None, one, other)

    def score(x, y):
        return -(x.log() - y.log()).square().sum(1)

    whole = worst_pairs(score, one, other, steps=20).score
    one[1, 0] = -1.0
    found = worst_pairs(score, one, other, steps=20).score
    assert found.isnan().tolist() == [False, True, False, False]
    assert_close(found[[0, 2, 3]], whole[[0, 2, 3]])


def test_a_field_that_overflows_away_from_the_states_has_the_rate_of_where_it_does_not():
    draws = 5 * torch.randn(20, 2, generator=stream())
    found = one_sided_constant(lambda z: (z.exp() + 1).log(), draws, generator=stream())
    assert 0.99 < float(found.value) < 1.01
    assert 0.5 < float(found.between_pairs) < 1.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rate", "offset"), [(-1.0, 10.0), (-1.0, 1e4), (-0.1, 50.0), (-3.0, 0.0)])
def test_rounding_of_the_field_lifts_no_rate_above_the_true_one(rate, offset, dtype):
    z = torch.randn(32, 5, generator=stream(), dtype=dtype)
    found = one_sided_constant(lambda x: rate * x + offset, z, generator=stream())
    rounding = 4 * torch.finfo(dtype).eps * abs(rate)  # of sums of products; that of the field's values is taken off
    assert float(found.between_pairs) <= rate + rounding
    assert float(found.value) <= rate + rounding
    assert float(found.value) >= rate - 1e-6
