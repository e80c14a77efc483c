import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from regimes.control.adaptive import integrate
from regimes.control.stepper import step
from regimes.control.tableau import (
    DORMAND_PRINCE,
    EULER,
    GAUSS2,
    IMPLICIT_EULER,
    IMPLICIT_MIDPOINT,
    KUTTA4,
    TABLEAUS,
)
from regimes.errors import RunFailed

F64 = torch.float64
BY_NAME = [pytest.param(each, id=each.name) for each in TABLEAUS]


def pushed(time, parts):
    """x' = y + cos 2t, y' = cos 2t − x."""
    x, y = parts
    return y + math.cos(2 * time), math.cos(2 * time) - x


def exact(t):
    """Its solution from (1, 0): x = (2 sin 2t − cos 2t)/3 and y = (2 sin 2t + cos 2t)/3 solve it, plus a rotation."""
    force, slope = math.cos(2 * t), math.sin(2 * t)
    x, y = (2 * slope - force) / 3, (2 * slope + force) / 3
    a, b = 1 + 1 / 3, -1 / 3
    return tensor([x + a * math.cos(t) + b * math.sin(t), y - a * math.sin(t) + b * math.cos(t)], dtype=F64)


def solved(method, steps):
    parts, size = (torch.ones(1, dtype=F64), torch.zeros(1, dtype=F64)), 5 / steps
    for number in range(steps):
        parts = step(pushed, method, number * size, parts, size).end
    return torch.cat(parts)


@pytest.mark.slow
@pytest.mark.parametrize("method", BY_NAME)
def test_the_measured_order_is_the_one_claimed(method):
    few = {1: 512, 2: 64, 6: 16}.get(method.order, 32)
    errors = [float((solved(method, steps) - exact(5.0)).norm()) for steps in (few, 2 * few)]
    assert abs(math.log2(errors[0] / errors[1]) - method.order) < 0.1  # corrections of order h


@pytest.mark.parametrize("method", BY_NAME)
def test_a_step_may_have_one_size_for_each_run(method):
    start, sizes, times = torch.rand(3, 2, dtype=F64), tensor([0.05, 0.1, 0.2], dtype=F64), tensor([0.0, 1.0, 2.0])

    def turning(time, parts):
        return (-parts[0].square() * torch.as_tensor(time).cos().reshape(-1, 1),)

    together = step(turning, method, times, (start,), sizes).end[0]
    for run in range(3):
        alone = step(turning, method, float(times[run]), (start[run : run + 1],), float(sizes[run])).end[0]
        assert_close(together[run : run + 1], alone)


@pytest.mark.parametrize("method", BY_NAME)
def test_the_derivative_of_a_step_is_that_of_its_solution(method):
    weight = torch.randn(2, 2, dtype=F64, requires_grad=True)
    start = torch.randn(3, 2, dtype=F64, requires_grad=True)
    size = tensor(0.1, dtype=F64, requires_grad=True)

    def end(weight, start, size):
        return step(lambda _, parts: (torch.tanh(parts[0] @ weight),), method, 0.0, (start,), size).end[0]

    assert torch.autograd.gradcheck(end, (weight, start, size))


def test_a_linear_implicit_step_is_its_stability_function():
    start = torch.ones(2, 1, dtype=F64)
    for method, function in ((IMPLICIT_EULER, 1 / 1.3), (IMPLICIT_MIDPOINT, (1 - 0.15) / (1 + 0.15))):
        (end,) = step(lambda _, parts: (-parts[0],), method, 0.0, (start,), 0.3).end
        assert_close(end, function * start)


def test_an_implicit_step_that_is_too_long_says_so():
    with pytest.raises(RunFailed, match="Take smaller steps"):
        step(lambda _, parts: (-100 * parts[0],), GAUSS2, 0.0, (torch.ones(1, 1, dtype=F64),), 1.0)


def test_an_explicit_step_leaves_the_state_alone():
    start = torch.ones(2, 1, dtype=F64)
    step(lambda _, parts: parts, KUTTA4, 0.0, (start,), 0.5)
    assert (start == 1).all()


def test_the_adaptive_method_takes_other_tableaus_and_times():
    start = torch.ones(3, 1, dtype=F64)

    def velocity(time, state):
        return (-2 * time.cos()[:, None] * state[0] ** 2,)

    options = {"rtol": 1e-9, "atol": 1e-12, "timed": True}
    (third,) = integrate(velocity, (start,), [1.0], **options)
    (fifth,) = integrate(velocity, (start,), [1.0], tableau=DORMAND_PRINCE, **options)
    for found in (third, fifth):
        assert_close(found.state[0], torch.full_like(start, 1 / (1 + 2 * math.sin(1))), rtol=1e-7, atol=0)  # 100 steps
    assert fifth.steps[0] < third.steps[0] / 4
    with pytest.raises(ValueError, match="embedded solution"):
        next(integrate(velocity, (start,), [1.0], tableau=EULER, timed=True))
