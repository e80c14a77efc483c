"""Blocks as particles (θ, τ): the uniform grid is the plain net, order follows the times, gradients reach them."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from regimes.models.build import build
from regimes.models.image_nets import dense_net
from regimes.models.residual import Segment
from regimes.models.timed import TimedSegment, draw_times, timed


def net(blocks=4):
    return timed(dense_net((3,), 2, blocks=blocks).double())


def test_on_the_uniform_grid_it_is_the_plain_net():
    plain = build("preact_resnet", (3, 16, 16), 10, depth=20).double().eval()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert_close(timed(plain).double().eval()(x), plain(x))


def test_the_weight_of_a_block_is_its_gap_times_their_number():
    model = net(blocks=3)
    segment = model.segment(0)
    with torch.no_grad():
        segment.times.copy_(torch.tensor([0.9, 0.2, 0.4]))
    x = torch.randn(5, 3, dtype=torch.float64)
    by_hand = x
    for index, gap in ((1, 0.2), (2, 0.2), (0, 0.5)):
        by_hand = by_hand + 3 * gap * segment.blocks[index].residual(by_hand)
    assert_close(segment(x), by_hand)


def test_the_gradient_of_the_times_is_that_of_finite_differences():
    model = net()
    segment = model.segment(0)
    x = torch.randn(6, 3, dtype=torch.float64)
    model(x).square().sum().backward()
    found = segment.times.grad.clone()
    for place in range(4):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                segment.times[place] += sign * 1e-6
                values.append(model(x).square().sum())
                segment.times[place] -= sign * 1e-6
        assert_close(found[place], (values[0] - values[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_the_gradient_is_the_difference_that_the_chain_rule_gives():
    segment = net(blocks=3).segment(0)
    states, _ = segment.path(torch.randn(6, 3, dtype=torch.float64))
    for state in states:
        state.retain_grad() if state.requires_grad else None
    states[-1].square().sum().backward()
    residuals = [segment.blocks[k].residual(states[k].detach()).detach() for k in range(3)]
    inner = [3 * (states[k + 1].grad * residuals[k]).sum() for k in range(3)]
    assert_close(segment.times.grad, torch.stack([inner[0] - inner[1], inner[1] - inner[2], inner[2]]))


def test_naming_the_particles_otherwise_changes_nothing():
    model = net()
    segment = model.segment(0)
    with torch.no_grad():
        segment.times.copy_(torch.tensor([0.1, 0.3, 0.35, 0.8]))
    x = torch.randn(5, 3, dtype=torch.float64)
    order = [2, 0, 3, 1]
    other = TimedSegment([segment.blocks[k] for k in order]).double()
    with torch.no_grad():
        other.times.copy_(segment.times[order])
    assert torch.equal(other(x), segment(x))


def test_between_sortings_the_order_stays():
    segment = TimedSegment(list(dense_net((3,), 2, blocks=2).segment(0).blocks), sorting="epoch")
    x = torch.randn(4, 3)
    with torch.no_grad():
        segment.times.copy_(torch.tensor([0.8, 0.3]))
    unsorted = segment(x)
    assert segment.weights()[1] < 0
    segment.sort()
    assert (segment.weights() > 0).all()
    assert not torch.allclose(segment(x), unsorted)


def test_the_order_travels_with_the_weights():
    segment = TimedSegment(list(dense_net((3,), 2, blocks=3).segment(0).blocks), sorting="epoch")
    with torch.no_grad():
        segment.times.copy_(torch.tensor([0.8, 0.3, 0.5]))
    segment.sort()
    other = TimedSegment(list(dense_net((3,), 2, blocks=3).segment(0).blocks), sorting="epoch")
    other.load_state_dict(segment.state_dict())
    x = torch.randn(4, 3)
    assert torch.equal(other(x), segment(x))


def test_without_a_first_gap_the_first_particle_keeps_weight_one():
    segment = TimedSegment(list(dense_net((3,), 2, blocks=3).segment(0).blocks), first_gap=False)
    with torch.no_grad():
        segment.times.copy_(torch.tensor([0.7, 0.8, 1.0]))
    assert_close(segment.weights(), torch.tensor([1.0, 0.3, 0.6]))


def test_a_block_that_comes_from_another_space_is_no_particle():
    model = timed(build("preact_resnet", (3, 8, 8), 10, depth=20))
    assert [len(model.segment(k).times) for k in range(3)] == [3, 2, 2]
    assert model.segment(1).weights().tolist() == pytest.approx([1, 1])


def test_a_segment_without_particles_leaves_no_parameter_without_a_gradient():
    model = timed(build("preact_resnet", (3, 8, 8), 10, depth=8))
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert [len(model.segment(k).times) for k in range(3)] == [1, 0, 0]
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_sorting_moves_no_number():
    segment = net(blocks=5).segment(0)
    with torch.no_grad():
        segment.times.copy_(torch.tensor([0.8, 0.3, 0.5, -0.1, 0.3]))
    before = {name: value.clone() for name, value in segment.named_parameters()}
    segment.sort()
    assert segment.order.tolist() == [3, 1, 4, 2, 0]  # equal times keep their places
    assert segment.exchanges() == 7  # of 10 pairs all but (3, 4), (1, 4), (1, 2)
    for name, value in segment.named_parameters():
        assert_close(value.detach(), before[name], rtol=0, atol=0)


def test_blocks_with_an_activation_after_the_sum_are_refused():
    with pytest.raises(ValueError, match="pre-activation"):
        timed(build("resnext29", (3, 8, 8), 10, cardinality=1, width=4))


def test_a_plain_segment_can_be_made_of_the_same_blocks():
    segment = net().segment(0)
    x = torch.randn(5, 3, dtype=torch.float64)
    assert_close(Segment(list(segment.blocks))(x), segment(x))


class Additions(TorchDispatchMode):
    """Counts the sums of two states."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.add.Tensor and args[0].shape == STATES
        return func(*args, **(kwargs or {}))


STATES = (5, 3)


def test_a_timed_block_adds_its_step_to_its_state_once_and_nothing_else():
    segment, x = net(blocks=4).segment(0), torch.randn(STATES, dtype=torch.float64)
    with Additions() as additions:
        segment.path(x)
    assert additions.count == 4


@pytest.mark.parametrize("sorting", ["forward", "epoch", "never"])
def test_drawn_times_leave_blocks_as_they_were_built_also_after_a_sorting(sorting):
    model = timed(dense_net((3,), 2, blocks=4), sorting=sorting)
    segment = model.segments[0]
    with torch.no_grad():
        segment.times.copy_(torch.tensor([0.9, 0.1, 0.5, 0.3]))
    segment.sort()
    draw_times(model, torch.Generator().manual_seed(0))
    assert segment.orders() == [0, 1, 2, 3]
    assert float(segment.weights().detach().min()) >= 0
