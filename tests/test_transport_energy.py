import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from regimes.transport import energy


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def line(x, y, depth):
    t = torch.linspace(0, 1, depth + 1, dtype=torch.float64)
    return [(1 - s) * x + s * y for s in t]


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("depth", [1, 4, 32])
def test_straight_even_paths_act_as_much_as_their_map_costs(depth, p):
    x, y = draw(16, 3), draw(16, 3)
    path = line(x, y, depth)
    truth = (y - x).square().sum(1).pow(p / 2).mean()
    assert_close(energy.action(path, p=p), truth)
    assert_close(energy.map_cost(path, p=p), truth)
    assert_close(energy.length(path), (y - x).norm(dim=1).mean())
    assert_close(energy.straightness(path), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_a_detour_and_an_uneven_pace_act_more_than_the_map_costs(p):
    x, y, via = draw(16, 3), draw(16, 3), draw(16, 3)
    assert energy.action([x, via, y], p=p) > energy.action([x, (x + y) / 2, y], p=p)
    assert energy.straightness([x, via, y]) < 0.99
    uneven = [x, 0.9 * x + 0.1 * y, y]
    assert energy.action(uneven, p=p) > energy.map_cost(uneven, p=p)
    assert_close(energy.straightness(uneven), torch.tensor(1.0, dtype=torch.float64))


def test_the_two_conventions_differ_by_the_number_of_features_at_p_2():
    steps = [draw(8, 5), draw(8, 2, 3, 3)]
    by_sum = energy.block_costs(steps)
    by_mean = energy.block_costs(steps, convention=energy.mean_over_features)
    assert_close(by_sum, by_mean * torch.tensor([5.0, 18.0], dtype=torch.float64))


def test_costs_of_known_steps():
    steps = [torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])]
    assert_close(energy.transport_cost(steps), torch.tensor(12.5 + 1))  # sum over features, mean over samples, no ½
    assert_close(energy.transport_cost(steps, p=1.0), torch.tensor(2.5 + 1))
    assert_close(energy.transport_cost(steps, p=3.0), torch.tensor(62.5 + 1))
    assert_close(energy.transport_cost(steps, p=1.0, convention=energy.mean_over_features), torch.tensor(1.75 + 0.5))


def test_the_step_of_the_action_is_the_time_between_states():
    path = list(draw(5, 4, 2))
    assert_close(energy.action(path, step=1.0), energy.transport_cost(energy.steps_of(path)))
    assert_close(energy.action(path), 4 * energy.action(path, step=1.0))
    assert_close(energy.action(path, p=3.0), 16 * energy.action(path, p=3.0, step=1.0))


def test_segments_add_up_and_may_differ_in_shape():
    first, second = [draw(6, 4) for _ in range(3)], [draw(6, 2, 2, 2) for _ in range(2)]
    total = energy.measure([first, second])
    assert_close(total.blocks, energy.block_costs(energy.steps_of(first) + energy.steps_of(second)))
    assert_close(total.transport, total.blocks.sum())
    assert_close(total.action, energy.action(first) + energy.action(second))
    assert_close(total.map_cost, energy.map_cost(first) + energy.map_cost(second))
    assert_close(total.length, energy.length(first) + energy.length(second))
    distance = energy.map_cost(first, p=1.0) + energy.map_cost(second, p=1.0)
    assert_close(total.straightness, distance / total.length)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
def test_gradients_are_finite_where_a_block_does_not_move(p):
    step = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    energy.transport_cost([step], p=p).backward()
    assert step.grad is not None
    assert_close(step.grad, torch.zeros_like(step))


def test_gradients_are_right():
    step = draw(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: energy.transport_cost([v], p=3.0), (step,))
    assert torch.autograd.gradcheck(lambda v: energy.action([torch.zeros_like(v), v / 3, v]), (step,))


def test_paths_that_stay_are_straight():
    x = draw(4, 2)
    assert energy.straightness([x, x, x]) == 1
    assert energy.measure([[x, x]]).straightness == 1


def test_bad_paths_are_named():
    with pytest.raises(ValueError, match="at least two"):
        energy.action([draw(3, 2)])
    with pytest.raises(ValueError, match="one path a segment"):
        energy.length([draw(3, 2), draw(3, 4)])
    with pytest.raises(ValueError, match="at least one block"):
        energy.transport_cost([])
    with pytest.raises(ValueError, match="at least one segment"):
        energy.measure([])
    with pytest.raises(ValueError, match="1 <= p"):
        energy.transport_cost([draw(3, 2)], p=0.5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_states_in_half_precision_are_subtracted_in_float32(kind):
    # 254.9921875 has more digits than 16 bits hold.
    start, end = torch.full((4, 2), 1.0078125).to(kind), torch.full((4, 2), 256.0).to(kind)
    truth = (end.double() - start.double()).norm(dim=1).mean()
    for found in (
        energy.length([start, end]),
        energy.measure([[start, end]]).length,
        energy.map_cost([start, end], p=1.0),
    ):
        assert found.dtype == torch.float32
        assert_close(found.double(), truth, rtol=1e-6, atol=0)  # float32


def test_nan_states_have_no_straightness():
    path = [draw(4, 2), draw(4, 2), draw(4, 2)]
    path[1][0, 0] = float("nan")
    for found in (energy.straightness, energy.length, lambda states: energy.measure([states])):
        with pytest.raises(ValueError, match="finite z_1"):
            found(path)


def test_at_p_1_the_pace_does_not_count():
    x, y = draw(16, 3), draw(16, 3)
    uneven = [x, 0.9 * x + 0.1 * y, y]
    assert_close(energy.action(uneven, p=1.0), energy.map_cost(uneven, p=1.0))
    assert_close(energy.action(uneven, p=1.0), energy.length(uneven))


@pytest.mark.parametrize("convention", [energy.sum_over_features, energy.mean_over_features])
def test_the_square_has_all_derivatives_of_a_product(convention):
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: convention(x, 2.0), x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(lambda x: convention(x, 2.0), x)
    members = torch.randn(5, 4, 3, dtype=torch.float64)
    each = torch.stack([convention(one, 2.0) for one in members])
    assert_close(torch.func.vmap(lambda one: convention(one, 2.0))(members), each)


class Passes(TorchDispatchMode):
    """Counts operations that write a tensor of the step's size."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.count += isinstance(made, torch.Tensor) and made.numel() == 60 and "view" not in func.name()
        return made


def test_the_gradient_of_a_squared_step_takes_one_pass_over_it():
    step = torch.randn(5, 3, 2, 2, requires_grad=True)
    cost = energy.sum_over_features(step, 2.0)
    with Passes() as passes:
        cost.backward()
    assert_close(step.grad, 2 * step.detach() / 5)
    assert passes.count <= 2  # the product, and autograd's own copy of it where it keeps the gradient of a leaf
