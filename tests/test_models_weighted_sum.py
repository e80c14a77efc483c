"""The weighted sum of a timed block: exact in all modes of differentiation, with few passes over memory."""

import pytest
import torch
from torch.func import jvp, vmap
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from regimes.models import weighted_sum as summing
from regimes.models.weighted_sum import weighted_sum

SHAPE = (3, 4, 5, 2)


def operands(layout=torch.contiguous_format, **more):
    torch.manual_seed(0)
    start, step = (torch.randn(SHAPE, dtype=torch.float64).contiguous(memory_format=layout) for _ in range(2))
    return [part.detach().requires_grad_() for part in (start, step, torch.tensor(0.7, dtype=torch.float64))]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 2**16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_value_and_derivatives_are_those_of_the_formula(monkeypatch, layout, chunk):
    monkeypatch.setattr(summing, "CHUNK", chunk)
    parts = operands(layout)
    assert_close(weighted_sum(*parts), parts[0] + parts[2] * parts[1])
    torch.autograd.gradcheck(weighted_sum, parts, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(weighted_sum, parts)


@pytest.mark.parametrize("moved", [(0,), (1,), (2,), (0, 2)])
def test_a_forward_derivative_takes_any_of_the_parts(moved):
    parts = [part.detach() for part in operands()]

    def some(f):
        return lambda *own: f(*(own[moved.index(place)] if place in moved else parts[place] for place in range(3)))

    own = tuple(parts[place] for place in moved)
    along = tuple(torch.randn_like(part) for part in own)
    assert_close(jvp(some(weighted_sum), own, along), jvp(some(lambda a, b, w: a + w * b), own, along))


def test_members_of_an_ensemble_have_the_gradients_of_each():
    parts = [torch.stack([part.detach(), -2 * part.detach()]).requires_grad_() for part in operands()]
    together = vmap(weighted_sum)(*parts)
    alone = torch.stack([a + w * b for a, b, w in zip(*parts, strict=True)])
    assert_close(together, alone)
    factor = torch.randn_like(alone)
    assert_close(
        torch.autograd.grad((together * factor).sum(), parts), torch.autograd.grad((alone * factor).sum(), parts)
    )


def test_a_gradient_of_another_layout_meets_its_own_numbers():
    parts = operands(torch.channels_last)
    gradient = torch.randn(SHAPE, dtype=torch.float64)
    found = torch.autograd.grad(weighted_sum(*parts), parts, gradient)
    assert_close(found[2], (gradient * parts[1]).sum())


def test_other_precisions_of_the_parts_are_as_in_a_plain_sum():
    start, step, weight = torch.randn(4, 3), torch.randn(4, 3).bfloat16(), torch.tensor(0.5)
    found = weighted_sum(start, step, weight)
    assert found.dtype == torch.float32
    assert_close(found, start + weight * step)


def test_the_gradient_of_the_weight_keeps_its_digits_in_float32():
    step = torch.randn(2_000_000)
    weight = torch.tensor(0.3, requires_grad=True)
    weighted_sum(torch.zeros(2_000_000), step, weight).backward(step)
    assert_close(weight.grad.double(), step.double().square().sum(), rtol=1e-6, atol=0)


class Passes(TorchDispatchMode):
    """Counts the results as large as a state."""

    def __init__(self, size):
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        found = function(*arguments, **(keywords or {}))
        own = isinstance(found, torch.Tensor) and found.numel() == self.size
        self.count += own and not any(
            found.data_ptr() == x.data_ptr() for x in arguments if isinstance(x, torch.Tensor)
        )
        return found


def test_a_sum_makes_one_state_and_its_gradients_one():
    parts = operands()
    with Passes(parts[0].numel()) as forward:
        found = weighted_sum(*parts)
    gradient = torch.randn_like(found)
    with Passes(parts[0].numel()) as backward:
        torch.autograd.grad(found, parts, gradient)
    assert (forward.count, backward.count) == (1, 1)
