import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from regimes.control.adaptive import integrate, measured_error
from regimes.control.state import IntegratorState

F64 = torch.float64


def linear(rates):
    """z' = −rate·z, one rate a run."""
    return lambda state: (-rates[:, None] * state[0],)


def logistic(state):
    return (state[0] * (1 - state[0]),)


def logistic_solution(start, t):
    return 1 / (1 + (1 / start - 1) * math.exp(-t))


STARTS = torch.linspace(0.05, 0.9, 5, dtype=F64)[:, None]


@pytest.mark.slow
def test_exponentials_are_exact_to_the_tolerance():
    rates = tensor([0.1, 1.0, 7.0], dtype=F64)
    for solution in integrate(linear(rates), (torch.ones(3, 2, dtype=F64),), [0.5, 2.0], rtol=1e-9, atol=1e-12):
        exact = (-rates * solution.time).exp()[:, None].expand(3, 2)
        assert_close(solution.state[0], exact, rtol=1e-7, atol=1e-10)  # a hundred steps of tolerance 1e-9


@pytest.mark.slow
def test_the_error_falls_with_the_third_power_of_the_step():
    def oscillator(state):
        return (torch.stack([state[0][:, 1], -state[0][:, 0]], dim=1),)

    errors, sizes = [], []
    exact = tensor([[math.cos(10), -math.sin(10)]], dtype=F64)
    for tolerance in (1e-5, 1e-6, 1e-7, 1e-8):
        (solution,) = integrate(oscillator, (tensor([[1.0, 0.0]], dtype=F64),), [10.0], rtol=0.0, atol=tolerance)
        errors.append((solution.state[0] - exact).norm().log())
        sizes.append((10.0 / solution.steps.double().mean()).log())
    errors, sizes = torch.stack(errors), torch.stack(sizes)
    slope = ((errors - errors.mean()) * (sizes - sizes.mean())).sum() / (sizes - sizes.mean()).square().sum()
    assert_close(slope.item(), 3.0, rtol=0, atol=0.1)  # a fit over steps that are not quite equal


def test_the_global_error_is_proportional_to_the_tolerance():
    errors = []
    for tolerance in (1e-6, 1e-8):
        (solution,) = integrate(logistic, (STARTS,), [6.0], rtol=tolerance, atol=tolerance)
        errors.append((solution.state[0] - logistic_solution(STARTS, 6.0)).abs().max().item())
    assert 30 < errors[0] / errors[1] < 300
    assert errors[0] < 20 * 1e-6


def test_requested_times_are_hit_exactly():
    times = [0.0, 0.1, 0.1 + 1e-9, 1 / 3, 10.0]
    solutions = list(integrate(logistic, (STARTS,), times))
    for time, solution in zip(times, solutions, strict=True):
        assert (solution.time == time).all()
    assert_close(solutions[0].state[0], STARTS)


def test_many_requested_times_do_not_change_the_accuracy():
    times = torch.linspace(0.01, 6, 600, dtype=F64)
    for time, dense in zip(times, integrate(logistic, (STARTS,), times, rtol=1e-8, atol=1e-8), strict=True):
        assert (dense.time == time).all()
    assert_close(dense.state[0], logistic_solution(STARTS, 6.0), rtol=0, atol=1e-7)  # ten times the tolerance


@pytest.mark.slow
def test_a_run_is_the_same_alone_as_in_an_ensemble():
    rates = torch.logspace(-1, 3, 6, dtype=F64)
    start = torch.randn(6, 3, dtype=F64)
    together = list(integrate(linear(rates), (start,), [0.3, 1.0]))
    for run in range(6):
        one = slice(run, run + 1)
        for whole, alone in zip(together, integrate(linear(rates[one]), (start[one],), [0.3, 1.0]), strict=True):
            assert_close(whole.state[0][one], alone.state[0], rtol=1e-12, atol=1e-300)  # rounding of powers
            assert torch.equal(whole.steps[one], alone.steps)


def test_each_run_takes_its_own_steps():
    rates = tensor([1.0, 1000.0], dtype=F64)
    (solution,) = integrate(linear(rates), (torch.ones(2, 1, dtype=F64),), [1.0])
    assert solution.steps[1] > 5 * solution.steps[0]


def test_a_stiff_problem_costs_steps_but_not_accuracy():
    # One slow and one fast mode in the same run: after the transient, stability binds the step at about 2.5/rate.
    stiff = tensor([[1.0, 1e3]], dtype=F64)
    start = (torch.ones(1, 2, dtype=F64),)
    (solution,) = integrate(lambda state: (-stiff * (state[0] - 1),), (2 * start[0],), [2.0], rtol=1e-6)
    assert_close(solution.state[0][0, 0].item(), 1 + math.exp(-2), rtol=1e-5, atol=0)  # ten times the tolerance
    assert_close(solution.state[0][0, 1].item(), 1.0, rtol=1e-5, atol=0)  # ten times the tolerance
    needed = 2.0 * 1e3 / 2.5
    assert needed < solution.steps.item() < 2 * needed
    assert solution.rejected.item() < 0.1 * solution.steps.item()


def test_several_tensors_share_one_step():
    def oscillator(state):
        position, speed = state
        return speed, -position

    start = (torch.ones(2, 1, dtype=F64), torch.zeros(2, 3, 1, dtype=F64)[:, 0])
    (solution,) = integrate(oscillator, start, [math.pi], rtol=1e-8, atol=1e-10)
    assert_close(solution.state[0], -start[0], rtol=0, atol=1e-6)  # error grows along half a turn
    assert_close(solution.state[1], start[1], rtol=0, atol=1e-6)  # likewise


def test_a_velocity_that_returns_its_argument_is_not_overwritten():
    start = torch.ones(2, 1, dtype=F64)
    (solution,) = integrate(lambda state: state, (start,), [1.0], rtol=1e-9)
    assert_close(solution.state[0], torch.full_like(start, math.e), rtol=1e-7, atol=0)  # a hundred tolerances
    assert (start == 1).all()


def test_a_run_stops_at_its_event_and_stays_frozen():
    levels = tensor([0.5, 0.9, 2.0], dtype=F64)[:, None]
    start = torch.full((3, 1), 0.1, dtype=F64)
    first, second = integrate(logistic, (start,), [3.0, 20.0], until=lambda s: (s[0] >= levels).any(1))
    assert first.stopped.tolist() == [True, False, False]
    assert second.stopped.tolist() == [True, True, False]
    assert torch.equal(first.state[0][0], second.state[0][0])
    assert first.time[0] == second.time[0] < 3.0
    assert second.time[2] == 20.0
    assert (second.state[0][:2] >= levels[:2]).all()
    exact = torch.stack([logistic_solution(start[r], second.time[r].item()) for r in range(3)])
    assert_close(second.state[0], exact, rtol=1e-4, atol=0)  # a hundred tolerances


def test_a_run_whose_event_holds_at_the_start_does_not_move():
    (solution,) = integrate(logistic, (STARTS,), [1.0], until=lambda s: s[0][:, 0] > 0.5)
    ahead = STARTS[:, 0] > 0.5
    assert solution.stopped[ahead].all()
    assert not solution.stopped[0]
    assert (solution.time[ahead] == 0).all()
    assert torch.equal(solution.state[0][ahead], STARTS[ahead])


def test_a_step_that_was_not_accepted_stops_no_run():
    latest = []

    def accelerate(state):
        latest[:] = [state[0]]
        return (torch.where(state[0] < 1, 1.0, 5000.0).to(F64),)

    # Attempts across the jump at x = 1 go beyond x = 2.2, which no accepted step reaches.
    start, beyond = torch.zeros(1, 1, dtype=F64), []

    def event(state):
        beyond.append(bool((latest[0] > 2.2).any()))
        return latest[0][:, 0] > 2.2

    (solution,) = integrate(accelerate, (start,), [1.0002], until=event)
    assert any(beyond)
    assert not solution.stopped.any()
    assert_close(solution.state[0].item(), 2.0, rtol=1e-3, atol=0)  # one step of error across the jump


@pytest.mark.slow
@pytest.mark.parametrize("with_event", [False, True])
def test_dropping_finished_runs_changes_nothing_but_the_work(with_event):
    rates = torch.logspace(0, 3, 8, dtype=F64)
    start = torch.rand(8, 2, dtype=F64) + 1
    evaluated = []

    def event(state):
        return state[0].amax(1) < 0.3

    def select(runs):
        def velocity(state):
            evaluated.append(len(state[0]))
            return linear(rates[runs])(state)

        return velocity, event if with_event else None

    until = event if with_event else None
    plain = list(integrate(linear(rates), (start,), [0.1, 1.0], until=until))
    compact = list(integrate(linear(rates), (start,), [0.1, 1.0], until=until, select=select))
    for one, other in zip(plain, compact, strict=True):
        for expected, found in zip(
            (*one.state, *one[2:6], one.time), (*other.state, *other[2:6], other.time), strict=True
        ):
            assert torch.equal(expected, found)
    assert 1 in evaluated
    assert max(evaluated) <= 8 * 0.75


def slide(state):
    """x' = ½ − sign(x), y' = sign(x): from x = 1 the run slides along x = 0, where sign(x) is ½ in the mean."""
    x = state[0][:, 0]
    return (torch.stack([0.5 - x.sign(), x.sign()], dim=1),)


@pytest.mark.parametrize("smallest", [0.1, 0.01])
def test_a_smallest_step_lets_a_run_slide_along_a_jump_at_first_order(smallest):
    start = tensor([[1.0, 0.0]], dtype=F64)
    (solution,) = integrate(slide, (start,), [10.0], smallest=smallest, max_steps=2000)
    # x reaches 0 at t = 2 with y = 2, then y' = ½: Filippov's solution.
    assert_close(solution.state[0], tensor([[0.0, 6.0]], dtype=F64), rtol=0, atol=2 * smallest)
    assert 0 < solution.forced.item() <= solution.steps.item() <= 20 / smallest


@pytest.mark.slow
def test_without_a_smallest_step_sliding_needs_too_many_steps():
    with pytest.raises(RuntimeError, match="has used all 2000 steps"):
        list(integrate(slide, (tensor([[1.0, 0.0]], dtype=F64),), [10.0], max_steps=2000))


def test_a_smooth_problem_is_not_forced():
    (solution,) = integrate(logistic, (STARTS,), [6.0], smallest=1e-3)
    (plain,) = integrate(logistic, (STARTS,), [6.0])
    assert (solution.forced == 0).all()
    assert_close(solution.state[0], plain.state[0], rtol=1e-4, atol=1e-6)  # the first steps may be longer


def test_each_run_may_have_its_own_tolerance():
    rtol = tensor([1e-3, 1e-9], dtype=F64)
    (both,) = integrate(logistic, (STARTS[:2],), [6.0], rtol=rtol, atol=rtol)
    for run in range(2):
        (alone,) = integrate(logistic, (STARTS[run : run + 1],), [6.0], rtol=float(rtol[run]), atol=float(rtol[run]))
        assert_close(both.state[0][run], alone.state[0][0], rtol=1e-12, atol=0)  # rounding of powers
        assert both.steps[run] == alone.steps[0]


def test_small_entries_need_not_be_more_accurate_than_large_ones_of_their_tensor():
    # A constant 1 beside a fast oscillation of size 1e-6.
    turn = 20 * tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64)

    def together(state):
        return (torch.cat([0 * state[0][:, :1], state[0][:, 1:] @ turn], dim=1),)

    def apart(state):
        return 0 * state[0], state[1] @ turn

    one, wave = tensor([[1.0]], dtype=F64), tensor([[1e-6, 0.0]], dtype=F64)
    (loose,) = integrate(together, (torch.cat([one, wave], dim=1),), [1.0], rtol=1e-4, atol=1e-12)
    (tight,) = integrate(apart, (one, wave), [1.0], rtol=1e-4, atol=1e-12)
    exact = 1e-6 * tensor([[math.cos(20), math.sin(20)]], dtype=F64)
    assert (tight.state[1] - exact).norm() < 1e-2 * exact.norm()
    assert (loose.state[0][:, 1:] - exact).norm() < 1e-3  # ten tolerances
    assert loose.steps.item() < tight.steps.item() / 4


@pytest.mark.parametrize("rtol", [1e-5, 1e-7])
def test_the_measured_error_brackets_the_true_error(rtol):
    def solve(rtol, atol):
        return integrate(logistic, (STARTS,), [2.0, 8.0], rtol=rtol, atol=atol)

    for solution, error in measured_error(solve, lambda s: s.state[0], rtol=rtol, atol=rtol):
        exact = torch.stack([logistic_solution(z, solution.time[0].item()) for z in STARTS])
        true = (solution.state[0] - exact).abs().amax(1)
        assert (error >= true).all()  # on the safe side
        assert (error <= 40 * true.max()).all()  # by about 10, the ratio of the tolerances
        assert error.shape == (5,)


@pytest.mark.slow
def test_the_measured_error_catches_a_tolerance_that_is_too_loose():
    def solve(rtol, atol):
        return integrate(lambda s: (torch.cos(20 * s[0]) + 1.1,), (STARTS,), [3.0], rtol=rtol, atol=atol)

    ((_, loose),) = measured_error(solve, lambda s: s.state[0], rtol=1e-2, atol=1e-2)
    ((_, tight),) = measured_error(solve, lambda s: s.state[0], rtol=1e-8, atol=1e-8)
    assert loose.max() > 1e-3
    assert tight.max() < 1e-5


def test_float32_states_stay_float32():
    (solution,) = integrate(logistic, (STARTS.float(),), [6.0], rtol=1e-5, atol=1e-6)
    assert solution.state[0].dtype == torch.float32
    assert_close(solution.state[0], logistic_solution(STARTS, 6.0).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_solution_that_blows_up_names_its_run_and_time():
    rates = tensor([0.1, 1.0], dtype=F64)[:, None]
    with pytest.raises(RuntimeError, match=r"run 1 at time 1 .*blows up"):
        list(integrate(lambda s: (rates * s[0].square(),), (torch.ones(2, 1, dtype=F64),), [5.0]))


def test_too_many_steps_name_the_run_the_time_and_the_cure():
    rates = tensor([1.0, 1e5], dtype=F64)
    with pytest.raises(RuntimeError, match=r"run 1 at time \S+ has used all 50 steps; loosen rtol.*raise max_steps"):
        list(integrate(linear(rates), (torch.ones(2, 1, dtype=F64),), [1.0], max_steps=50))


def test_a_failure_among_dropped_runs_names_the_right_run():
    rates = tensor([1.0, 1.0, 1.0, 1e5], dtype=F64)

    def select(runs):
        return linear(rates[runs]), None

    with pytest.raises(RuntimeError, match="run 3 "):
        list(integrate(linear(rates), (torch.ones(4, 1, dtype=F64),), [1.0], max_steps=200, select=select))


def test_a_velocity_that_is_not_finite_is_refused_at_once():
    with pytest.raises(RuntimeError, match="run 0 at time 0 has a velocity that is not finite"):
        list(integrate(lambda s: (s[0] / 0,), (STARTS,), [1.0]))


def test_an_integration_goes_on_from_any_moment_with_the_same_bits():
    rates = tensor([1.0, 3.0, 10.0, 0.1], dtype=F64)
    start, moments = (torch.ones(4, 2, dtype=F64),), [0.5, 1.0, 2.0, 3.0]

    def event(state):
        return state[0][:, 0] < 0.01

    def select(runs):
        return linear(rates[runs]), event

    options = {"rtol": 1e-5, "atol": 1e-8, "until": event, "select": select}
    whole = list(integrate(linear(rates), start, moments, **options))
    assert whole[-1].stopped.tolist() == [False, True, True, False]
    for done, at in enumerate(whole[:-1], 1):
        kept = IntegratorState.of([one.clone() for one in at.course.tensors()])  # as after a stay on a disk
        rest = integrate(linear(rates), start, moments[done:], after=kept, **options)
        for pair in zip(whole[done:], rest, strict=True):
            for one, other in zip(*(each.course.tensors() for each in pair), strict=True):
                assert torch.equal(one, other)


def test_an_integration_does_not_go_back():
    (solution,) = integrate(logistic, (STARTS,), [2.0])
    with pytest.raises(ValueError, match="goes on after time 2; got 1 as"):
        list(integrate(logistic, (STARTS,), [1.0], after=solution.course))


@pytest.mark.parametrize("times", [[], [1.0, 1.0], [2.0, 1.0], [-1.0, 1.0], [float("nan")], [1.0, float("inf")]])
def test_times_must_ascend(times):
    with pytest.raises(ValueError, match="ascending"):
        list(integrate(logistic, (STARTS,), times))


@pytest.mark.parametrize(
    "tolerances", [{"rtol": -1.0}, {"atol": 0.0}, {"atol": -1.0}, {"rtol": float("nan")}, {"rtol": tensor([1.0, -1.0])}]
)
def test_tolerances_must_be_positive(tolerances):
    with pytest.raises(ValueError, match="tolerances"):
        list(integrate(logistic, (STARTS,), [1.0], **tolerances))


def test_the_coarser_tolerance_must_be_coarser():
    with pytest.raises(ValueError, match="factor above 1"):
        list(measured_error(lambda r, a: iter(()), lambda s: s, coarser=1.0))


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_the_first_step_is_of_the_size_that_the_tolerance_allows(scale):
    """A first step far too long is refused again and again, one far too short is made up for by growing steps."""
    rates, end = scale * tensor([1.0, 0.3], dtype=F64), 1.0 / scale
    (whole,) = integrate(linear(rates), (torch.ones(2, 1, dtype=F64),), [end])
    assert whole.rejected.tolist() == [0, 0]
    # The error of a step h is of order (h·rate)³ / 24: at this time it is a thousandth of the tolerance 1e-6.
    (some,) = integrate(linear(rates), (torch.ones(2, 1, dtype=F64),), [end / 1000])
    assert some.steps.max() <= 2


def test_a_state_may_be_one_number_a_run():
    (alone,) = integrate(lambda s: (-s[0],), (tensor([1.0, 2.0], dtype=torch.float64),), [1.0])
    (column,) = integrate(lambda s: (-s[0],), (tensor([[1.0], [2.0]], dtype=torch.float64),), [1.0])
    assert torch.equal(alone.state[0], column.state[0][:, 0])
    assert_close(alone.state[0], tensor([1.0, 2.0], dtype=torch.float64) * math.exp(-1), atol=1e-4, rtol=0)
