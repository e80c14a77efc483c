"""Particles (θ, τ): the trainer's timed blocks, automatic differentiation, and plain descent as special cases."""

import pytest
import torch
from test_meanfield_depth import measure, risk
from test_meanfield_depth_flow import positive
from torch import nn
from torch.testing import assert_close

from regimes.control.times import gap_weights, pull_back_gaps, uniform_times
from regimes.meanfield.depth_times import TimedMeasure, descend, risk_and_gradient, timed_measure
from regimes.models.residual import Block, ResidualNet, Segment
from regimes.models.timed import timed, timed_segments


def particles(runs=2, depth=5, width=3):
    rho = measure(runs=runs, depth=depth, width=width)
    made = timed_measure(rho._replace(mass=torch.full_like(rho.mass, 1 / width)))
    stream = torch.Generator().manual_seed(4)
    return made._replace(time=torch.rand(runs, depth, generator=stream, dtype=torch.float64))


def block(one, run, layer):
    width, d = one.output.shape[2:]
    inner, outer = nn.Linear(d, width, dtype=torch.float64), nn.Linear(width, d, bias=False, dtype=torch.float64)
    with torch.no_grad():
        inner.weight.copy_(one.input[run, layer])
        inner.bias.copy_(one.bias[run, layer])
        outer.weight.copy_(one.output[run, layer].T)
    return Block(nn.Sequential(inner, nn.Tanh(), outer), scale=1 / (width * one.output.shape[1]))


def test_sorted_particles_are_the_timed_residual_net_with_its_gradients():
    e, one = risk(), particles()
    value, gradient = risk_and_gradient(e, one)
    for run in range(2):
        net = timed(
            ResidualNet(nn.Identity(), [Segment([block(one, run, layer) for layer in range(5)])], nn.Identity())
        )
        (segment,) = timed_segments(net)
        with torch.no_grad():
            segment.times.data = one.time[run].clone()
        output = net(e.x[run]) @ e.readout[run]
        expected = (output - e.y[run]).square().mean() / 2
        expected.backward()
        assert segment.exchanges() > 0
        assert_close(value[run], expected.detach())
        assert_close(gradient.time[run], segment.times.grad)
        for layer in range(5):
            inner, _, outer = segment.block(layer).residual
            assert_close(gradient.input[run, layer], inner.weight.grad)
            assert_close(gradient.bias[run, layer], inner.bias.grad)
            assert_close(gradient.output[run, layer], outer.weight.grad.T)


def test_on_the_uniform_grid_the_particles_are_the_measure_that_they_were_made_of():
    e, rho = risk(), measure()
    rho = rho._replace(mass=torch.full_like(rho.mass, 1 / 3))
    assert_close(timed_measure(rho).in_depth(), rho)
    assert_close(risk_and_gradient(e, timed_measure(rho))[0], e.risk(rho))


def test_masses_that_differ_have_no_times():
    with pytest.raises(ValueError, match="equal masses"):
        timed_measure(positive(measure()))


def test_equal_masses_of_another_sum_than_one_have_no_times():
    """The gaps of the times sum to 1, so another sum would be lost in silence."""
    rho = measure()
    with pytest.raises(ValueError, match="cells of mass 1; cell 0 of run 0 has 3"):
        timed_measure(rho._replace(mass=torch.ones_like(rho.mass)))


@pytest.mark.parametrize("name", ["output", "bias", "time"])
def test_particles_that_do_not_fit_the_data_are_refused(name):
    made = particles()
    wrong = made._replace(**{name: getattr(made, name)[:1]})
    with pytest.raises(ValueError, match=name):
        risk_and_gradient(risk(), wrong)
    with pytest.raises(ValueError, match=name):
        next(descend(risk(), wrong, step=0.1, steps=1))


def test_weights_of_gaps_and_their_gradient():
    assert_close(gap_weights(uniform_times(4)), torch.ones(4, dtype=torch.float64))
    times = torch.tensor([[0.1, 0.4, 0.5]], dtype=torch.float64, requires_grad=True)
    weights = gap_weights(times)
    assert_close(weights.detach(), torch.tensor([[0.3, 0.9, 0.3]], dtype=torch.float64))
    assert_close(gap_weights(times.detach(), first_gap=False)[0, 0], torch.tensor(1.0, dtype=torch.float64))
    given = torch.tensor([[1.0, 2.0, -3.0]], dtype=torch.float64)
    (of_times,) = torch.autograd.grad(weights, times, given)
    assert_close(pull_back_gaps(given), of_times)


def test_a_step_of_descent_is_the_gradient_times_its_factors_and_fixed_times_stay():
    e, one = risk(), particles()
    _, gradient = risk_and_gradient(e, one)
    *_, (_, after) = descend(e, one, step=1e-3, steps=1, relative=0.5)
    assert_close(after.output, one.output - 1e-3 * 5 * 3 * gradient.output)
    assert_close(after.time, one.time - 0.5e-3 * 5 * gradient.time)
    *_, (_, still) = descend(e, one, step=1e-3, steps=2, coordinate="fixed")
    assert torch.equal(still.time, one.time)


def test_a_step_of_python_keeps_its_digits():
    e, start = risk(), particles()
    number = torch.full((2,), 0.1, dtype=torch.float64)
    *_, (_, one) = descend(e, start, step=0.1, relative=0.3, steps=1)
    *_, (_, other) = descend(e, start, step=number, relative=3 * number, steps=1)
    assert_close(one, other, rtol=1e-14, atol=1e-15)


def test_trained_weights_follow_their_own_gradient_in_the_order_of_construction():
    e, one = risk(), particles()
    weights = one.time.clone().requires_grad_()
    rho = TimedMeasure(*one[:3], uniform_times(5).expand(2, 5)).in_depth()
    value = e.risk(rho._replace(mass=(weights / 3)[..., None].expand_as(rho.mass)))
    (plain,) = torch.autograd.grad(value.sum(), weights)
    (risk_0, _), (_, after) = descend(e, one, step=1e-2, steps=1, coordinate="weights")
    assert_close(risk_0, value.detach())
    assert_close(after.time, one.time - 1e-2 * 5 * plain)


def test_descent_lowers_the_risk_and_a_run_that_diverges_stops_alone():
    e, one = risk(), particles()
    steps = torch.tensor([0.01, 50.0], dtype=torch.float64)
    course = list(descend(e, one, step=steps, steps=20, coordinate="fixed"))
    risks = torch.stack([value for value, _ in course])
    assert (risks[:, 0].diff() < 0).all()
    assert risks[-1, 1] == torch.inf
    assert all(bool(part.isfinite().all()) for part in course[-1][1])


def test_where_two_particles_change_places_the_gap_passes_from_one_to_the_other_and_the_risk_jumps():
    e, one = risk(), particles(depth=2)
    before, after = (
        one._replace(time=torch.tensor([[0.5, 0.5 + apart]], dtype=torch.float64).expand(2, 2))
        for apart in (1e-9, -1e-9)
    )
    alone = [
        TimedMeasure(*(part[:, [which]] for part in one[:3]), torch.full((2, 1), 0.5, dtype=torch.float64))
        for which in (0, 1)
    ]
    for pair, single in zip((before, after), alone, strict=True):
        assert_close(risk_and_gradient(e, pair)[0], risk_and_gradient(e, single)[0], rtol=1e-6, atol=1e-6)
    assert ((risk_and_gradient(e, before)[0] - risk_and_gradient(e, after)[0]).abs() > 1e-2).all()


def test_what_descent_yields_may_be_written_into():
    e, start = risk(), particles()
    *_, (_, whole) = descend(e, start, step=1e-3, steps=2)
    for _, after in descend(e, start, step=1e-3, steps=2):
        final = [part.clone() for part in after]
        for part in after:
            part.mul_(3.0)
    assert_close(final, list(whole), rtol=0, atol=0)
