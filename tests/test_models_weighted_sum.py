"""The weighted sum of a timed block: exact in all modes of differentiation, with few passes over memory."""

import pytest
import torch
from torch import nn
from torch.func import jvp, vmap
from torch.nn.modules import module as hooks
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from regimes.models import inner_product as summing
from regimes.models.weighted_sum import weighted, weighted_sum

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


def test_the_gradient_of_the_weight_is_added_up_in_float32_where_states_are_in_half_precision():
    gradient = torch.zeros(2 * summing.CHUNK).bfloat16()
    gradient[:30_000], gradient[-29_997:] = 1, -1  # neither sum is a number of eight bits
    step, weight = torch.ones_like(gradient), torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True)
    weighted_sum(torch.zeros_like(step), step, weight).backward(gradient)
    assert weight.grad == 3


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


def chain(last, *, training=True):
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()] if isinstance(last, nn.Conv2d) else [nn.Linear(4, 4), nn.Tanh()]
    return nn.Sequential(*layers, last).double().train(training)


LAST = {
    "linear": lambda: nn.Linear(4, 4),
    "linear without bias": lambda: nn.Linear(4, 4, bias=False),
    "convolution": lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2),
    "convolution without bias": lambda: nn.Conv2d(4, 4, 3, padding="same", bias=False),
}


@pytest.mark.parametrize("last", LAST)
def test_a_last_layer_takes_the_weight_with_all_gradients(last):
    residual, weight = chain(LAST[last]()), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    z = torch.randn((3, 4, 5, 5) if "convolution" in last else (3, 4), dtype=torch.float64, requires_grad=True)
    found, expected = weighted(residual, z, weight), weight * residual(z)
    assert found is not None
    assert_close(found, expected)
    wanted, factor = [z, weight, *residual.parameters()], torch.randn_like(expected)
    assert_close(*(torch.autograd.grad(value, wanted, factor) for value in (found, expected)))


def test_no_pass_over_the_state_is_left_for_the_weight():
    residual, weight = chain(nn.Conv2d(4, 4, 3, padding=1)), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    counts = []
    for way in (lambda: residual(z), lambda: weighted(residual, z, weight)):
        with Passes(z.numel()) as passes:
            found = way()
            torch.autograd.grad(found, [z, *residual.parameters()], torch.ones_like(found))
        counts.append(passes.count)
    assert counts[0] == counts[1]


class Wrapped(nn.Linear):
    """A layer of another kind."""


def watched(look):
    residual = chain(nn.Linear(4, 4))
    look(residual)
    return residual


@pytest.mark.parametrize(
    "register",
    [
        hooks.register_module_forward_hook,
        hooks.register_module_forward_pre_hook,
        hooks.register_module_full_backward_hook,
        hooks.register_module_full_backward_pre_hook,
    ],
)
def test_who_looks_at_all_modules_sees_the_last_layer_too(register):
    residual, z, weight = chain(nn.Linear(4, 4)), torch.randn(3, 4, dtype=torch.float64), torch.tensor(0.7)
    handle = register(lambda *_: None)
    try:
        assert weighted(residual, z, weight) is None
    finally:
        handle.remove()
    assert weighted(residual, z, weight) is not None


@pytest.mark.parametrize(
    "residual",
    [
        chain(Wrapped(4, 4)),
        chain(nn.Linear(4, 4), training=False),
        nn.Linear(4, 4),
        nn.Sequential(),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
        watched(lambda residual: residual[-1].register_forward_hook(lambda *_: None)),
        watched(lambda residual: residual[-1].register_full_backward_hook(lambda *_: None)),
        watched(lambda residual: residual.register_forward_pre_hook(lambda *_: None)),
    ],
    ids=["own kind", "eval", "no chain", "empty", "nonlinear", "circular", "hook", "backward hook", "hook of all"],
)
def test_other_residuals_are_weighted_from_outside(residual):
    assert weighted(residual, torch.randn(3, 4, dtype=torch.float64), torch.tensor(0.7)) is None
