import math
from inspect import unwrap  # annotations, checked in tests alone, stop wrong types before the doors do

import pytest
import torch
from torch import nan
from torch.testing import assert_close

from regimes.control.backtracking import ARMIJO, UPPER_BOUND, Descent, Rule
from regimes.control.simplex import onto_simplex
from regimes.errors import RunFailed

EVERY = torch.arange(3)


def bowl(curvatures):
    """½ Σ c x² of each run, with its own c."""

    def objective(theta, runs):
        c = curvatures[runs]
        return (c * theta.square()).sum(1) / 2, lambda chosen: (c * theta)[chosen]

    return objective


CURVATURES = torch.tensor([[1.0, 2.0], [30.0, 1.0], [400.0, 7.0]], dtype=torch.float64)
START = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-1.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("rule", [UPPER_BOUND, ARMIJO])
def test_every_trial_that_is_taken_lowers_the_value_as_far_as_the_rule_says(rule):
    descent = Descent(bowl(CURVATURES), START, rule)
    for _ in range(60):
        before = {name: part.clone() for name, part in descent.state_dict().items()}
        taken = descent.trial(EVERY)
        left = [run for run in range(3) if run not in taken.tolist()]
        for run in left:  # a refused run stays where it is, with a shorter step
            assert torch.equal(descent.params[run], before["params"][run])
            assert_close(descent.steps[run], before["steps"][run] * rule.shorter)
        d = (descent.params - before["params"])[taken]
        step = before["steps"][taken]
        allowed = rule.share * (before["gradients"][taken] * d).sum(1) + rule.curvature * d.square().sum(1) / 2 / step
        assert bool((descent.values[taken] <= before["values"][taken] + allowed).all())
        assert_close(d, -step[:, None] * before["gradients"][taken])
        assert_close(descent.steps[taken], (step * rule.longer).clamp(max=rule.longest))
    assert bool((descent.iterations < descent.trials).all())
    assert bool((descent.trials == 60).all())


@pytest.mark.parametrize("rule", [UPPER_BOUND, ARMIJO])
def test_the_minimum_of_a_bowl_is_found(rule):
    descent = Descent(bowl(CURVATURES), START, rule)
    for _ in range(1000):
        descent.trial(EVERY)
    assert_close(descent.params, torch.zeros(3, 2).double(), atol=1e-5, rtol=0)  # slowest factor per step 1 − 1/60


def test_steps_of_the_upper_bound_stay_below_the_inverse_curvature():
    """On ½ c x² the bound holds if and only if s ≤ 1/c; the step is tried at most 1 % above."""
    curvature = torch.tensor([[5.0]], dtype=torch.float64)
    descent = Descent(bowl(curvature), torch.ones(1, 1).double(), UPPER_BOUND)
    taken = []
    for _ in range(40):  # before the value is 0
        step = float(descent.steps[0])
        if len(descent.trial(torch.tensor([0]))):
            taken.append(step)
    assert max(taken) <= 1 / 5 * (1 + 1e-6)
    assert len(taken) > 20
    assert min(taken) > 0.6 / 5


def test_without_projection_the_upper_bound_is_armijos_rule_with_share_one_half():
    same = Rule(10.0, 1 / 0.99, 1 / 1.5, share=0.5, curvature=0.0)
    one, other = (Descent(bowl(CURVATURES), START, rule) for rule in (UPPER_BOUND, same))
    for _ in range(30):  # later trials hang on rounding
        one.trial(EVERY)
        other.trial(EVERY)
    assert_close(one.params, other.params)
    assert torch.equal(one.iterations, other.iterations)


def test_a_run_goes_its_way_whatever_the_others_do():
    together = Descent(bowl(CURVATURES), START, ARMIJO)
    for _ in range(40):
        together.trial(EVERY)
    for run in range(3):
        alone = Descent(bowl(CURVATURES[run : run + 1]), START[run : run + 1], ARMIJO)
        for _ in range(40):
            alone.trial(torch.tensor([0]))
        assert_close(alone.params[0], together.params[run])
    part = Descent(bowl(CURVATURES), START, ARMIJO)
    for _ in range(40):
        part.trial(torch.tensor([0, 2]))
    assert torch.equal(part.params[1], START[1])
    assert_close(part.params[[0, 2]], together.params[[0, 2]])


def test_a_value_that_is_no_number_is_never_taken():
    def cliff(theta, runs):
        value = torch.where(theta[:, 0] < 0.5, nan, theta[:, 0])
        return value, lambda chosen: torch.ones_like(theta)[chosen]

    descent = Descent(cliff, torch.ones(1, 1).double(), Rule(10.0, 1.0, 0.5, 0.4, 0.0))
    for _ in range(20):
        descent.trial(torch.tensor([0]))
        assert float(descent.params) >= 0.5
        assert math.isfinite(float(descent.values))
    assert int(descent.iterations) > 0


def test_a_start_without_a_value_is_refused():
    with pytest.raises(RunFailed, match="finite value and gradient at the start"):
        Descent(lambda theta, runs: (theta[:, 0] * nan, lambda chosen: theta[chosen]), START, ARMIJO)


def test_a_descent_goes_on_bit_for_bit_where_its_state_was_kept():
    whole = Descent(bowl(CURVATURES), START, ARMIJO)
    for _ in range(10):
        whole.trial(EVERY)
    half = Descent(bowl(CURVATURES), START, ARMIJO)
    half.load_state_dict({name: part.clone() for name, part in whole.state_dict().items()})
    for _ in range(10):
        whole.trial(EVERY)
        half.trial(EVERY)
    for name, part in whole.state_dict().items():
        assert torch.equal(part, half.state_dict()[name])


def test_projected_steps_find_the_nearest_point_of_the_simplex_to_a_target():
    target = torch.tensor([[0.9, 0.4, -0.5], [3.0, 0.0, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)

    def distance(theta, runs):
        gap = theta - target[runs]
        return gap.square().sum(1) / 2, lambda chosen: gap[chosen]

    start = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    descent = Descent(distance, start, UPPER_BOUND, lambda theta, runs: onto_simplex(theta))
    for _ in range(200):
        descent.trial(EVERY)
        assert_close(descent.params.sum(1), torch.ones(3).double())
    assert_close(descent.params, onto_simplex(target), atol=1e-7, rtol=0)
    assert torch.equal(descent.params[1], torch.tensor([1.0, 0.0, 0.0]).double())


def nearest(v):
    """By bisection for τ in Σ max(v − τ, 0) = 1."""
    low, high = float(v.min()) - 1, float(v.max())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float((v - middle).clamp(min=0).sum()) > 1 else (low, middle)
    return (v - low).clamp(min=0)


def test_the_projection_onto_the_simplex_is_that_of_bisection_and_keeps_its_points():
    v = torch.randn(40, 7, dtype=torch.float64) * torch.logspace(-2, 2, 40, dtype=torch.float64)[:, None]
    found = onto_simplex(v)
    assert_close(found, torch.stack([nearest(each) for each in v]), atol=1e-12, rtol=0)  # bisected to rounding
    assert bool((found >= 0).all())
    assert_close(found.sum(1), torch.ones(40).double())
    assert_close(onto_simplex(found), found)
    assert torch.equal(onto_simplex(torch.tensor([5.0, 0.0])), torch.tensor([1.0, 0.0]))
    assert torch.equal(onto_simplex(torch.tensor([[-3.0]])), torch.ones(1, 1))
    ties = onto_simplex(torch.tensor([0.2, 0.2, 0.2, 0.2], dtype=torch.float64))
    assert_close(ties, torch.full((4,), 0.25).double())


@pytest.mark.parametrize("bad", [torch.tensor([nan, 1.0]), torch.zeros(2, 0)])
def test_the_projection_refuses_what_is_no_vector_of_numbers(bad):
    with pytest.raises(ValueError, match="onto_simplex needs"):
        onto_simplex(bad)


@pytest.mark.parametrize("shift", [0.0, 1e8, -1e8, 1e20, -1e38])
def test_the_projection_depends_on_differences_alone_however_large_the_entries(shift):
    pair = torch.tensor([shift, shift, -3e38])
    assert torch.equal(onto_simplex(pair), torch.tensor([0.5, 0.5, 0.0]))
    assert torch.equal(onto_simplex(-pair), torch.tensor([0.0, 0.0, 1.0]))
    assert torch.equal(onto_simplex(torch.tensor([1e17, 0.0]).double()), torch.tensor([1.0, 0.0]).double())


def test_runs_may_come_in_any_order():
    ordered, turned = (Descent(bowl(CURVATURES), START, ARMIJO) for _ in range(2))
    for _ in range(20):
        ordered.trial(EVERY)
        turned.trial(torch.tensor([2, 0, 1]))
    for name, part in ordered.state_dict().items():
        assert_close(part, turned.state_dict()[name])


@pytest.mark.parametrize("runs", [[0, 0], [3], [0.0], [[0]], [-1]])
def test_runs_that_name_none_or_one_twice_are_refused(runs):
    with pytest.raises(ValueError, match="Name each run once"):
        unwrap(Descent.trial)(Descent(bowl(CURVATURES), START, ARMIJO), torch.tensor(runs))


@pytest.mark.parametrize("value", [-math.inf, nan])
def test_neither_a_value_nor_a_gradient_that_is_not_finite_is_taken(value):
    def hole(theta, runs):
        inside = theta[:, 0] < 0.5
        return torch.where(inside, value, theta[:, 0]), lambda chosen: torch.ones_like(theta)[chosen]

    def cliff(theta, runs):
        slope = torch.where(theta < 0.5, value, torch.ones_like(theta))
        return theta[:, 0], lambda chosen: slope[chosen]

    for objective in (hole, cliff):
        descent = Descent(objective, torch.ones(1, 1).double(), Rule(10.0, 1.0, 0.5, 0.4, 0.0))
        for _ in range(20):
            descent.trial(torch.tensor([0]))
        assert 0.5 <= float(descent.params) < 1
        assert bool(descent.gradients.isfinite().all())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": 0.0}, "first step"),
        ({"longer": nan}, "longer"),
        ({"longer": 0.5}, "longer"),
        ({"shorter": 0.0}, "shorter"),
        ({"shorter": 1.0}, "shorter"),
        ({"share": "a"}, "share"),
        ({"share": 1.5}, "share"),
        ({"curvature": -1.0}, "curvature"),
        ({"longest": 0.0}, "longest"),
        ({"longest": 0.05}, "first step of at most longest"),
    ],
)
def test_rules_by_which_no_descent_can_go_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"Descent needs {message}"):
        Descent(bowl(CURVATURES), START, ARMIJO._replace(**changes))


def test_what_is_no_rule_projection_or_objective_is_refused():
    own = Descent(bowl(CURVATURES), START, ARMIJO)
    with pytest.raises(ValueError, match="project as a function"):
        unwrap(Descent.__init__)(own, bowl(CURVATURES), START, ARMIJO, 3)
    for objective in (lambda theta, runs: theta.sum(1), lambda theta, runs: (theta.sum(1), None)):
        with pytest.raises(ValueError, match="a function that gives their gradients"):
            Descent(objective, START, ARMIJO)
    with pytest.raises(ValueError, match="as a dict"):
        unwrap(Descent.load_state_dict)(own, 3)
    with pytest.raises(ValueError, match="one value a run"):
        Descent(lambda theta, runs: (theta, lambda chosen: theta[chosen]), START, ARMIJO)
    with pytest.raises(ValueError, match="one value a run"):
        Descent(lambda theta, runs: (theta.sum(1), lambda chosen: theta[chosen, 0]), START, ARMIJO)
    with pytest.raises(ValueError, match="projected"):
        Descent(bowl(CURVATURES), START, ARMIJO, lambda theta, runs: theta[:, :1]).trial(EVERY)


def test_the_values_of_an_objective_are_its_own():
    kept = torch.ones(3).double()
    descent = Descent(lambda theta, runs: (kept[: len(runs)], lambda chosen: theta[chosen]), START, ARMIJO)
    descent.values[0] = 5.0
    assert kept[0] == 1


def test_the_state_of_another_descent_is_refused():
    descent = Descent(bowl(CURVATURES), START, ARMIJO)
    state = {name: part.clone() for name, part in descent.state_dict().items()}
    for bad in (
        {"params": state["params"]},
        state | {"other": state["params"]},
        state | {"values": state["values"][:1]},
        state | {"params": state["params"].float()},
        state | {"steps": 0.1},
    ):
        with pytest.raises(ValueError, match="Descent needs"):
            descent.load_state_dict(bad)
        for name, part in descent.state_dict().items():
            assert torch.equal(part, state[name])


def test_a_step_beyond_all_numbers_is_refused_and_not_projected():
    scales, start = torch.tensor([[1e306], [1.0]], dtype=torch.float64), torch.full((2, 2), 0.7, dtype=torch.float64)
    rule = ARMIJO._replace(first=1e4, longest=1e4)
    descent = Descent(bowl(scales), start, rule, lambda theta, runs: onto_simplex(theta))
    assert descent.trial(torch.tensor([0, 1])).tolist() == [1]
    assert descent.params[0].tolist() == [0.7, 0.7]
    assert_close(descent.params[1], torch.tensor([0.5, 0.5]).double())
