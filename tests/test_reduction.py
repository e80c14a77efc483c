"""Gradients of several processes are on their way while the backward pass goes on; one process stands for several."""

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.testing import assert_close

from regimes import reduction
from regimes.processes import ProcessGroup
from regimes.reduction import Reduction


@pytest.fixture
def group():
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield ProcessGroup()
    dist.destroy_process_group()


@pytest.fixture
def doubled(monkeypatch):
    """As if a second process had the same numbers; what is sent, in order."""
    sent, all_reduce = [], dist.all_reduce

    def twice(tensor, **how):
        sent.append(len(tensor))
        tensor.mul_(2)
        return all_reduce(tensor, **how)

    monkeypatch.setattr(dist, "all_reduce", twice)
    return sent


def net():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))).double()


def through(model, x=None):
    return model(torch.ones(2, 4, dtype=torch.float64) if x is None else x).square().sum()


def expected(model, weights=None):
    """Gradients of two processes."""
    found = torch.autograd.grad(through(model), list(model.parameters() if weights is None else weights))
    return [2 * grad for grad in found]


def held(model):
    return [weight.grad for weight in model.parameters()]


def step(group, model, *counts):
    model.zero_grad()
    return group.backward(through(model), model.parameters(), *counts)


def test_gradients_are_sent_before_the_backward_pass_ends(group, doubled, monkeypatch):
    monkeypatch.setattr(reduction, "PART", 16 * 8)  # a weight of a layer
    model, at_the_end = net(), []
    step(group, model)
    first = list(doubled)
    model[0].weight.register_post_accumulate_grad_hook(lambda weight: at_the_end.append(len(doubled)))
    step(group, model)
    assert at_the_end[0] - len(first) >= 3  # those of the last three layers
    assert doubled[len(first) :] == first
    assert_close(held(model), expected(model), rtol=0, atol=0)


@pytest.mark.parametrize("part", [1, 16 * 8, 20 * 8 + 1, 2**23])
def test_gradients_counts_and_words_are_sums_in_parts_of_any_size(group, doubled, monkeypatch, part):
    monkeypatch.setattr(reduction, "PART", part)
    model = net()
    for _ in range(3):
        group.say(True, False)
        (count,) = step(group, model, torch.tensor(7))
        assert_close(held(model), expected(model), rtol=0, atol=0)
        assert (int(count), group.heard()) == (14, (True, False))


def test_a_gradient_that_does_not_come_stays_none(group, doubled, monkeypatch):
    monkeypatch.setattr(reduction, "PART", 1)
    model = net()
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    model[1].weight.requires_grad_(False)
    trained = [*model[0].parameters(), model[1].bias, *model[2:].parameters()]
    for _ in range(3):
        step(group, model)
        assert_close([weight.grad for weight in trained], expected(model, trained), rtol=0, atol=0)
        assert model.unused.grad is None
        assert model[1].weight.grad is None


def test_gradients_may_come_in_another_order_or_otherwise_than_at_first(group, doubled, monkeypatch):
    monkeypatch.setattr(reduction, "PART", 1)
    model = net()
    step(group, model)
    for layers in ([3, 1, 0, 2], [0, 1], [2, 3, 0, 1]):
        part = nn.Sequential(*(model[layer] for layer in layers))
        model.zero_grad()
        group.backward(through(part), model.parameters())
        found = [weight.grad for weight in part.parameters()]
        assert_close(found, expected(part), rtol=0, atol=0)
        assert sum(grad is not None for grad in held(model)) == 2 * len(layers)


def test_a_shared_weight_is_sent_once_whole(group, doubled, monkeypatch):
    monkeypatch.setattr(reduction, "PART", 1)
    model = net()
    model[3].weight = model[0].weight
    for _ in range(2):
        step(group, model)
        assert_close(held(model), expected(model), rtol=0, atol=0)


def test_parts_are_of_one_dtype_and_a_count_stays_exact_beside_half_precision(group, doubled):
    halves, whole = (nn.Linear(2, 2).to(dtype) for dtype in (torch.bfloat16, torch.float32))
    x = torch.ones(1, 2)
    for _ in range(2):
        for part in (halves, whole):
            part.zero_grad()
        value = (halves(x.bfloat16()).float() + whole(x)).sum()
        (count,) = group.backward(value, [*whole.parameters(), *halves.parameters()], torch.tensor(1_000_001))
        assert int(count) == 2_000_002
        for part in (halves, whole):
            assert_close(part.weight.grad.float(), torch.full((2, 2), 2.0))


def test_another_network_is_taken_for_what_it_is(group, doubled):
    for size in (1, 2):
        model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(size))).double()
        for _ in range(2):
            step(group, model)
            assert_close(held(model), expected(model), rtol=0, atol=0)


def test_after_an_error_no_hook_is_left(group):
    model = net()
    with pytest.raises(RuntimeError, match="scalar"):
        group.backward(model(torch.ones(2, 4, dtype=torch.float64)), model.parameters())
    assert not any(weight._post_accumulate_grad_hooks for weight in model.parameters())


def test_without_a_gradient_the_counts_are_joined_all_the_same(group, doubled):
    value = torch.ones((), requires_grad=True)
    (count,) = Reduction([], list).backward(value, [torch.tensor(3)])
    assert int(count) == 6
