import math
from inspect import unwrap  # annotations, checked in tests alone, stop wrong types before the doors do

import pytest
import torch
from torch.testing import assert_close

from regimes.control.gradients import (
    backwards_in_time,
    checkpointed,
    discretise_then_optimise,
    optimise_then_discretise,
)
from regimes.control.layers import Layers
from regimes.control.tableau import (
    DORMAND_PRINCE,
    EULER,
    GAUSS2,
    HEUN,
    IMPLICIT_MIDPOINT,
    KUTTA3,
    KUTTA4,
    TABLEAUS,
)
from regimes.control.trees import product_order

F64 = torch.float64
BY_NAME = [pytest.param(each, id=each.name) for each in TABLEAUS]


def field(time, z, params):
    return torch.tanh(z @ params["K"].T + params["b"] * (1 + time))


def problem(method, layers=3, substeps=2):
    draw = torch.Generator().manual_seed(0)
    options = {"generator": draw, "dtype": F64}
    params = [{"K": torch.randn(2, 2, **options), "b": torch.randn(2, **options)} for _ in range(layers)]
    target = torch.randn(4, 2, **options)
    return Layers(field, params, method, 1.0, substeps), torch.randn(4, 2, **options), target


def half_square(target):
    return lambda end: (end - target).square().sum() / 2


def plain(layers, z, cost):
    """The gradient by the formula of the tableau, written out."""
    leaves = [{name: each.clone().requires_grad_() for name, each in one.items()} for one in layers.params]
    start = state = z.clone().requires_grad_()
    h = layers.size
    for number in range(len(leaves) * layers.substeps):
        params, slopes = leaves[number // layers.substeps], []
        for row, share in zip(layers.tableau.a, layers.tableau.c, strict=True):
            at = state + h * sum(weight * slope for weight, slope in zip(row, slopes, strict=False))
            slopes.append(field((number + share) * h, at, params))
        state = state + h * sum(weight * slope for weight, slope in zip(layers.tableau.b, slopes, strict=True))
    cost(state).backward()
    return start.grad, leaves


def gap(one, other):
    """Largest difference of adjoints and of gradients, relative to the largest."""
    pairs = [(one.adjoints, other.adjoints)]
    pairs += [(a[name], b[name]) for a, b in zip(one.params, other.params, strict=True) for name in b]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("method", [EULER, HEUN, KUTTA3, KUTTA4, DORMAND_PRINCE])
def test_back_propagation_through_the_steps_is_plain_autograd(method):
    layers, z, target = problem(method)
    found = discretise_then_optimise(layers, z, half_square(target))
    start, leaves = plain(layers, z, half_square(target))
    assert_close(found.adjoints[0], start)
    for mine, one in zip(found.params, leaves, strict=True):
        assert_close(mine, {name: each.grad for name, each in one.items()})


@pytest.mark.parametrize("method", BY_NAME)
def test_computing_steps_again_changes_nothing(method):
    layers, z, target = problem(method)
    assert (
        gap(checkpointed(layers, z, half_square(target)), discretise_then_optimise(layers, z, half_square(target))) == 0
    )


@pytest.mark.parametrize("method", [each for each in TABLEAUS if 0 not in each.b])
def test_with_the_symplectic_partner_both_gradients_agree_at_every_layer(method):
    layers, z, target = problem(method)
    by_steps = discretise_then_optimise(layers, z, half_square(target))
    by_adjoint = optimise_then_discretise(layers, z, half_square(target))
    assert gap(by_adjoint, by_steps) < 1e-13  # rounding
    assert_close(by_adjoint.cost, by_steps.cost)


@pytest.mark.parametrize("method", [EULER, HEUN, KUTTA3, KUTTA4])
def test_with_the_method_itself_they_differ_at_the_order_of_products_kept(method):
    gaps = []
    for substeps in (4, 8):
        layers, z, target = problem(method, 2, substeps)
        other = optimise_then_discretise(layers, z, half_square(target), companion=method.a)
        gaps.append(gap(other, discretise_then_optimise(layers, z, half_square(target))))
    assert abs(math.log2(gaps[0] / gaps[1]) - product_order(method.a, method.b, 6)) < 0.3  # corrections of order h


@pytest.mark.parametrize("method", [IMPLICIT_MIDPOINT, GAUSS2])
def test_a_symplectic_method_is_its_own_companion(method):
    layers, z, target = problem(method)
    other = optimise_then_discretise(layers, z, half_square(target), companion=method.a)
    assert gap(other, discretise_then_optimise(layers, z, half_square(target))) < 1e-13  # rounding


def test_backwards_in_time_differs_by_the_error_of_the_method():
    gaps = []
    for substeps in (4, 8):
        layers, z, target = problem(KUTTA4, 2, substeps)
        cost = half_square(target)
        gaps.append(gap(backwards_in_time(layers, z, cost), discretise_then_optimise(layers, z, cost)))
    assert 1e-12 < gaps[1] < gaps[0] / 12


def test_what_does_not_fit_is_refused():
    layers, z, target = problem(KUTTA4)
    cost = half_square(target)
    with pytest.raises(ValueError, match="at least one layer"):
        discretise_then_optimise(layers._replace(params=[]), z, cost)
    with pytest.raises(ValueError, match="cost that is one number"):
        discretise_then_optimise(layers, z, lambda end: end)
    with pytest.raises(ValueError, match="shape and dtype of the state"):
        backwards_in_time(layers._replace(field=lambda t, z, p: z[:, :1]), z, cost)
    with pytest.raises(ValueError, match="companion of 4 rows"):
        optimise_then_discretise(layers, z, cost, companion=HEUN.a)
    with pytest.raises(ValueError, match="weights b other than 0"):
        optimise_then_discretise(layers._replace(tableau=DORMAND_PRINCE), z, cost)
    with pytest.raises(ValueError, match="horizon"):
        checkpointed(layers._replace(horizon=-1.0), z, cost)


@pytest.mark.parametrize("road", [discretise_then_optimise, optimise_then_discretise, backwards_in_time, checkpointed])
def test_a_cost_without_a_derivative_is_refused(road):
    layers, z, _ = problem(EULER)
    for cost in (lambda end: torch.tensor(1.0), lambda end: end.detach().sum()):
        with pytest.raises(ValueError, match="depends on the state"):
            road(layers, z, cost)


@pytest.mark.parametrize("road", [optimise_then_discretise, backwards_in_time])
def test_no_cost_is_refused(road):
    layers, z, _ = problem(EULER)
    with pytest.raises(ValueError, match="needs cost; got None"):
        unwrap(road)(layers, z, None)


def test_places_can_be_cut_like_any_sequence():
    layers, _, _ = problem(EULER)
    places = layers._replace(substeps=3).places()
    for part in (slice(1, 3), slice(None, None, -2), slice(-2, None), slice(5, 5)):
        assert list(places[part]) == list(places)[part]
    assert places[1:][0] == places[1]
    with pytest.raises(IndexError):
        places[len(places)]
