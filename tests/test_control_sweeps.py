import itertools

import pytest
import torch
from torch import nan
from torch.testing import assert_close

from regimes.control.backtracking import ARMIJO, UPPER_BOUND, Rule
from regimes.control.gradients import checkpointed, discretise_then_optimise, optimise_then_discretise
from regimes.control.layers import Layers
from regimes.control.sweeps import forward_backward_sweeps, hamiltonian_slope, maximised
from regimes.control.tableau import DORMAND_PRINCE, EULER, HEUN, KUTTA4
from regimes.errors import RunFailed


def field(time, z, params):
    return torch.tanh(z @ params["K"].T + (1 + time) * params["b"])


def problem(tableau=EULER, substeps=1, layers=4):
    params = [
        {"K": torch.randn(2, 2, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)} for _ in range(layers)
    ]
    z, target = torch.randn(2, 6, 2, dtype=torch.float64)
    made = Layers(field, params, tableau, horizon=1.5, substeps=substeps)
    return made, z, lambda end: (end - target).square().sum(1).mean() / 2


def taken(sweeps, number):
    return list(itertools.islice(sweeps, number))


@pytest.mark.parametrize(
    ("rule", "ascents", "decay"), [(UPPER_BOUND, 1, 0.0), (UPPER_BOUND, 3, 0.1), (ARMIJO, 1, 0.1), (ARMIJO, 3, 0.0)]
)
def test_the_cost_falls_in_every_sweep(rule, ascents, decay):
    layers, z, cost = problem()
    found = taken(forward_backward_sweeps(layers, z, cost, rule=rule, ascents=ascents, decay=decay), 8)
    costs = [each.cost for each in found]
    assert all(after < before for before, after in itertools.pairwise(costs))
    last = found[-1].layers
    squares = sum(float(each.square().sum()) for one in last.params for each in one.values())
    assert costs[-1] == pytest.approx(float(cost(last.end(z))) + decay / 2 * squares)
    assert found[0].layers.params[0]["K"] is not layers.params[0]["K"]
    assert torch.equal(found[0].layers.params[0]["K"], layers.params[0]["K"])


def test_one_ascent_is_gradient_descent_by_back_propagation_with_the_steps_of_the_rule():
    layers, z, cost = problem(KUTTA4, substeps=2)
    leaves = [{name: each.clone().requires_grad_() for name, each in one.items()} for one in layers.params]
    flat, step = [each for one in leaves for each in one.values()], 10.0
    found = taken(forward_backward_sweeps(layers, z, cost), 4)
    for each in found[1:]:
        value = cost(layers._replace(params=leaves).end(z))
        slopes = torch.autograd.grad(value, flat)
        square = sum(float(slope.square().sum()) for slope in slopes)
        while True:
            with torch.no_grad():
                moved = [
                    {name: part - step * slope for (name, part), slope in zip(one.items(), pair, strict=True)}
                    for one, pair in zip(leaves, zip(slopes[::2], slopes[1::2], strict=True), strict=True)
                ]
                new = cost(layers._replace(params=moved).end(z))
            if new <= value - step / 2 * square:
                break
            step /= 1.5
        step /= 0.99
        leaves = [{name: part.requires_grad_() for name, part in one.items()} for one in moved]
        flat = [part for one in leaves for part in one.values()]
        assert each.cost == pytest.approx(float(new), rel=1e-12)
        assert each.step == pytest.approx(step)
        for one, other in zip(each.layers.params, moved, strict=True):
            assert_close(one, {name: part.detach() for name, part in other.items()}, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("tableau", "substeps"), [(EULER, 1), (HEUN, 3), (KUTTA4, 2), (DORMAND_PRINCE, 1)])
def test_the_slope_of_a_layers_hamiltonian_is_minus_the_gradient_of_the_cost(tableau, substeps):
    layers, z, cost = problem(tableau, substeps)
    found = discretise_then_optimise(layers, z, cost)
    states = [z, *(each.end[0] for each in layers.steps(z))]
    for layer, params in enumerate(layers.params):
        slope = hamiltonian_slope(layers, layer, params, states, found)
        assert_close(slope, {name: -each for name, each in found.params[layer].items()})


def test_more_ascents_come_nearer_to_the_maximum_of_hamiltonian_and_penalty():
    layers, z, cost = problem(HEUN)
    found, step, decay = discretise_then_optimise(layers, z, cost), 0.2, 0.2
    states = [z, *(each.end[0] for each in layers.steps(z))]

    def defect(ascents):
        """Of the condition ∇H(θ) − decay θ = (θ − θ_l)/s."""
        total = 0.0
        for layer, params in enumerate(maximised(layers, z, found, step, ascents=ascents, decay=decay)):
            slope = hamiltonian_slope(layers, layer, params, states, found)
            for name, part in params.items():
                gap = slope[name] - decay * part - (part - layers.params[layer][name]) / step
                total += float(gap.square().sum())
        return total

    defects = [defect(ascents) for ascents in (1, 2, 4, 30)]
    assert all(after < before for before, after in itertools.pairwise(defects))
    assert defects[-1] < 1e-12


def steered(decay, layers=5, horizon=2.0):
    """z' = u with J = ½ ‖z(T) − y‖² + decay/2 Σ ‖u_l‖²: the u_l are equal, by hand."""
    z, y, h = torch.tensor([[1.0, -2.0]]).double(), torch.tensor([[3.0, 1.0]]).double(), horizon / layers
    params = [{"u": torch.zeros(2, dtype=torch.float64)} for _ in range(layers)]
    made = Layers(lambda t, z, p: z * 0 + p["u"], params, EULER, horizon=horizon)
    adjoint = (z - y) / (1 + layers * h**2 / decay)
    return made, z, lambda end: (end - y).square().sum() / 2, -h / decay * adjoint[0]


@pytest.mark.parametrize("rule", [UPPER_BOUND, ARMIJO])
def test_a_linear_quadratic_problem_is_solved_exactly(rule):
    layers, z, cost, control = steered(0.3)
    *_, last = forward_backward_sweeps(layers, z, cost, rule=rule, decay=0.3)
    for one in last.layers.params:
        assert_close(one["u"], control, atol=1e-7, rtol=0)  # J is flat there: its rounding ends the sweeps


def test_without_bound_on_the_step_a_sweep_is_the_plain_method_of_successive_approximations():
    """θ⁺ = argmax H − decay/2 ‖θ‖² = ∇H/decay, which for a small decay goes far beyond the minimum."""
    layers, z, cost, _ = steered(0.01)
    found = discretise_then_optimise(layers, z, cost)
    plain = maximised(layers, z, found, 1e12, decay=0.01)
    assert_close(plain[0]["u"], -found.params[0]["u"] / 0.01, rtol=1e-9, atol=0)
    assert float(cost(layers._replace(params=plain).end(z))) > float(found.cost)
    (_, second) = taken(forward_backward_sweeps(layers, z, cost, rule=Rule(1e12, 1.0, 0.1, 0.5, 0.0), decay=0.01), 2)
    assert second.cost < float(found.cost)  # backtracking holds it


def test_both_roads_to_the_adjoint_sweep_alike():
    layers, z, cost = problem(HEUN)
    one, other = (
        taken(forward_backward_sweeps(layers, z, cost, road=road, ascents=2), 6)
        for road in (discretise_then_optimise, optimise_then_discretise)
    )
    assert_close([each.cost for each in one], [each.cost for each in other], rtol=1e-10, atol=0)


def test_passes_are_counted():
    layers, z, cost = problem()
    calls = []

    def counted(*arguments):
        calls.append(1)
        return discretise_then_optimise(*arguments)

    found = taken(forward_backward_sweeps(layers, z, cost, road=counted, ascents=4), 5)
    assert found[-1].forward == found[-1].backward == 1 + 4 * (len(calls) - 1)


def test_the_callers_parameters_are_left_alone_and_take_no_gradient():
    layers, z, cost = problem()
    before = [{name: each.clone() for name, each in one.items()} for one in layers.params]
    last = taken(forward_backward_sweeps(layers, z, cost), 4)[-1]
    assert_close(layers.params, before, rtol=0, atol=0)
    assert not any(each.requires_grad for one in last.layers.params for each in one.values())


@pytest.mark.parametrize(("given", "message"), [
    ({"ascents": 0}, "ascents"), ({"decay": -1.0}, "decay"), ({"rule": Rule(0.0, 1.0, 0.5, 0.5, 0.0)}, "first step"),
])  # fmt: skip
def test_impossible_settings_are_refused_before_the_first_sweep(given, message):
    layers, z, cost = problem()
    with pytest.raises(ValueError, match=f"forward_backward_sweeps needs .*{message}"):
        forward_backward_sweeps(layers, z, cost, **given)


def test_a_start_without_a_cost_is_refused():
    layers, z, _ = problem()
    with pytest.raises(RunFailed, match="needs a finite cost at the start; got nan"):
        next(forward_backward_sweeps(layers, z, lambda end: end.sum() * nan))


@pytest.mark.parametrize("ascents", [1, 3])
@pytest.mark.parametrize("rule", [UPPER_BOUND, ARMIJO])
def test_the_field_is_called_for_the_passes_that_are_counted_and_once_at_the_door(rule, ascents):
    layers, z, cost = problem(HEUN, substeps=2)
    calls = []

    def counted(*arguments):
        calls.append(1)
        return field(*arguments)

    found = taken(forward_backward_sweeps(layers._replace(field=counted), z, cost, rule=rule, ascents=ascents), 5)
    assert len(calls) == 1 + found[-1].forward * 4 * 2 * 2  # layers, steps, stages
    assert found[-1].forward == found[-1].backward


def test_states_that_a_road_does_not_keep_are_computed_once_a_sweep_and_counted():
    layers, z, cost = problem()
    calls = []

    def counted(*arguments):
        calls.append(1)
        return field(*arguments)

    def forgetful(*arguments):
        return discretise_then_optimise(*arguments)._replace(states=None)

    sweeps = forward_backward_sweeps(layers._replace(field=counted), z, cost, road=forgetful, ascents=3)
    kept = taken(forward_backward_sweeps(layers, z, cost, ascents=3), 5)
    found = taken(sweeps, 5)
    assert [each.cost for each in found] == [each.cost for each in kept]
    assert found[-1].forward == kept[-1].forward + 4
    assert len(calls) == 1 + found[-1].forward * 4


@pytest.mark.parametrize("road", [discretise_then_optimise, optimise_then_discretise, checkpointed])
def test_roads_give_the_states_that_they_keep(road):
    layers, z, cost = problem(HEUN, substeps=2)
    states = road(layers, z, cost).states
    assert_close(list(states), [z, *(each.end[0] for each in layers.steps(z))])
    assert not any(each.requires_grad for each in states)


@pytest.mark.parametrize("value", [nan, -torch.inf, torch.inf])
def test_neither_costs_nor_gradients_that_are_not_finite_are_started_from_or_taken(value):
    layers, z, _ = problem()
    with pytest.raises(RunFailed, match="finite cost at the start"):
        next(forward_backward_sweeps(layers, z, lambda end: end.sum() * 0 + value))
    with pytest.raises(RunFailed, match="finite gradient at the start"):
        next(forward_backward_sweeps(layers, z, lambda end: (end.sum() * 0).sqrt()))
    steered_layers, start, _, _ = steered(0.1)

    def hole(end):
        return torch.where(end.sum() > 1.0, value, -end.sum())

    *_, last = taken(forward_backward_sweeps(steered_layers, start, hole), 20)
    assert -1.0 <= last.cost < 1.0


@pytest.mark.parametrize(
    "changes", [{"longer": nan}, {"shorter": 0.0}, {"share": "a"}, {"curvature": -1.0}, {"longest": 0.0}]
)
def test_rules_that_fail_later_are_refused_before_the_first_sweep(changes):
    layers, z, cost = problem()
    with pytest.raises(ValueError, match=f"forward_backward_sweeps needs {next(iter(changes))}"):
        forward_backward_sweeps(layers, z, cost, rule=ARMIJO._replace(**changes))


def test_a_field_that_does_not_fit_is_refused_before_the_first_sweep():
    layers, z, cost = problem()
    with pytest.raises(ValueError, match="shape and dtype of the state"):
        forward_backward_sweeps(layers._replace(field=lambda time, z, params: z[:, :1]), z, cost)
