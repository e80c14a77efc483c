"""Steps of pairs: order by slope, symplecticity, and the way back."""

import math

import pytest
import torch
from torch.testing import assert_close

from regimes.control.partitioned import change, change_back
from regimes.control.tableau import (
    EULER,
    GAUSS2,
    GAUSS3,
    HEUN,
    IMPLICIT_EULER,
    IMPLICIT_MIDPOINT,
    PAIRS,
    STORMER_VERLET,
    SYMPLECTIC_EULER,
    YOSHIDA4,
    Pair,
    Tableau,
    composed,
)
from regimes.control.trees import order

F64 = torch.float64
SYMPLECTIC = [*PAIRS, IMPLICIT_MIDPOINT, GAUSS2]
BY_NAME = [pytest.param(each, id=each.name) for each in SYMPLECTIC]


def velocity(time, p):
    return torch.sinh(p) * (1 + 0.3 * torch.as_tensor(time, dtype=F64).cos())


def force(time, q):
    """Of V = (1 + ½ sin t) Σ log cosh q_i + ½ (q_1 − q_2)², which binds the coordinates to each other."""
    return -(1 + 0.5 * torch.as_tensor(time, dtype=F64).sin()) * torch.tanh(q) - (q - q.flip(-1))


def run(method, steps, q, p, horizon=2.0):
    size = horizon / steps
    for number in range(steps):
        added = change(velocity, force, method, number * size, q, p, size)
        q, p = q + added.q, p + added.p
    return torch.cat([q, p], -1)


@pytest.mark.slow
@pytest.mark.parametrize("method", BY_NAME)
def test_the_measured_order_of_a_pair_is_the_one_claimed(method):
    q, p = torch.randn(2, 16, 2, dtype=F64) / 2  # many starts: in a single one the leading term may be small
    truth = run(GAUSS3, 200, q, p)
    few = {1: 512, 2: 128, 4: 64}[method.order]
    errors = [float((run(method, steps, q, p) - truth).norm()) for steps in (few, 2 * few)]
    assert abs(math.log2(errors[0] / errors[1]) - method.order) < 0.1  # corrections of order h


def omega(half):
    top = torch.cat([torch.zeros(half, half), torch.eye(half)], 1)
    return torch.cat([top, torch.cat([-torch.eye(half), torch.zeros(half, half)], 1)], 0).double()


def jacobian(method, size=0.3):
    state = torch.randn(4, dtype=F64)

    def moved(state):
        added = change(velocity, force, method, 0.7, state[None, :2], state[None, 2:], size)
        return state + torch.cat([added.q, added.p], 1)[0]

    return torch.autograd.functional.jacobian(moved, state)


@pytest.mark.parametrize("method", BY_NAME)
def test_a_step_of_a_symplectic_method_keeps_the_area(method):
    found = jacobian(method)
    assert_close(found.T @ omega(2) @ found, omega(2), rtol=0, atol=1e-12)
    assert_close(torch.linalg.det(found), torch.tensor(1.0, dtype=F64))


@pytest.mark.parametrize("method", [EULER, HEUN, Pair("both explicit", EULER, EULER, 1)], ids=lambda each: each.name)
def test_a_step_of_another_method_does_not(method):
    found = jacobian(method)
    assert float((found.T @ omega(2) @ found - omega(2)).abs().max()) > 1e-3


@pytest.mark.parametrize("method", [*BY_NAME, EULER, HEUN])
def test_a_step_back_undoes_a_step(method):
    q, p = torch.randn(2, 3, 2, dtype=F64)
    there = change(velocity, force, method, 0.5, q, p, 0.1)
    back = change_back(velocity, force, method, 0.5, q + there.q, p + there.p, 0.1)
    assert_close(there.q + back.q, torch.zeros_like(q), rtol=0, atol=1e-14)
    assert_close(there.p + back.p, torch.zeros_like(p), rtol=0, atol=1e-14)


def test_the_steps_of_the_named_pairs_by_hand():
    q, p = torch.randn(2, 3, 2, dtype=F64)
    added = change(velocity, force, SYMPLECTIC_EULER, 0.5, q, p, 0.1)
    after = p + 0.1 * force(0.5, q)
    assert_close(p + added.p, after)
    assert_close(q + added.q, q + 0.1 * velocity(0.5, after))
    added = change(velocity, force, STORMER_VERLET, 0.5, q, p, 0.1)
    half = p + 0.05 * force(0.5, q)
    end = q + 0.05 * (velocity(0.5, half) + velocity(0.6, half))
    assert_close(q + added.q, end)
    assert_close(p + added.p, half + 0.05 * force(0.6, end))


def test_a_frozen_system_is_asked_once_in_one_place():
    asked = []

    def noted(name):
        return lambda time, state: asked.append(name) or state

    q, p = torch.randn(2, 3, 2, dtype=F64)
    frozen = change(noted("velocity"), noted("force"), STORMER_VERLET, 0.0, q, p, 0.1, frozen=True)
    assert sorted(asked) == ["force", "force", "velocity"]
    thawed = change(noted("velocity"), noted("force"), STORMER_VERLET, 0.0, q, p, 0.1)
    assert len(asked) == 3 + 4
    assert_close(torch.cat([*frozen[:2]]), torch.cat([*thawed[:2]]))


@pytest.mark.parametrize("method", [*BY_NAME, HEUN])
def test_stages_lie_where_the_velocities_were_taken(method):
    q, p = torch.randn(2, 3, 2, dtype=F64)
    added = change(velocity, force, method, 0.5, q, p, 0.1)
    first, second = (method, method) if isinstance(method, Tableau) else (method.first, method.second)
    velocities = [velocity(each.time, each.p) for each in added.stages]
    forces = [force(each.time, each.q) for each in added.stages]
    assert_close(added.q, sum(0.1 * weight * each for weight, each in zip(first.b, velocities, strict=True)))
    assert_close(added.p, sum(0.1 * weight * each for weight, each in zip(second.b, forces, strict=True)))


def test_the_derivative_of_a_pair_of_steps_is_the_true_one():
    q, p = torch.randn(2, 1, 2, dtype=F64)
    size = torch.tensor(0.1, dtype=F64)

    def moved(q, p, size):
        return change(velocity, force, YOSHIDA4, 0.0, q, p, size)[:2]

    assert torch.autograd.gradcheck(moved, [each.requires_grad_() for each in (q, p, size)])


def test_a_pair_whose_stages_need_each_other_is_refused():
    both = Pair("implicit both", IMPLICIT_EULER, IMPLICIT_EULER, 1)
    assert both.sequence is None
    with pytest.raises(ValueError, match="stages that follow from one another"):
        change(velocity, force, both, 0.0, torch.zeros(1, 2), torch.zeros(1, 2), 0.1)


def test_adjoints_undo_by_their_coefficients():
    assert IMPLICIT_EULER.adjoint.a == EULER.a
    assert EULER.adjoint.a == IMPLICIT_EULER.a
    assert SYMPLECTIC_EULER.adjoint.first.a == IMPLICIT_EULER.a
    assert all(each.adjoint.symplectic and each.adjoint.sequence is not None for each in PAIRS)


def test_shares_of_a_composition_decide_its_order():
    assert order([(each.a, each.b) for each in (YOSHIDA4.first, YOSHIDA4.second)], 5) == 4
    with pytest.raises(ValueError, match="the order conditions hold up to 2"):
        composed(STORMER_VERLET, (1 / 3, 1 / 3, 1 / 3), "thirds", 4)
