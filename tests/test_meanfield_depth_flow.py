"""Gradient flows of deep measures: their law of the risk, of the masses, and plain gradient descent as their Euler."""

import pytest
import torch
from test_meanfield_depth import measure, risk
from torch.testing import assert_close

from regimes.meanfield.depth import DepthMeasure
from regimes.meanfield.depth_descent import frank_wolfe
from regimes.meanfield.depth_flow import depth_flow, velocity


def positive(rho):
    return rho._replace(mass=rho.mass.abs() / rho.mass.abs().sum(2, keepdim=True))


@pytest.mark.parametrize("growth", [0.0, 0.7])
def test_the_risk_falls_at_the_rate_of_the_squared_velocities(growth):
    e, rho = risk(), positive(measure())
    _, change = velocity(e, rho, growth=growth)
    _, (of_risk) = torch.func.jvp(lambda *parts: e.risk(DepthMeasure(*parts)), tuple(rho), tuple(change))
    moved = change.output.square().sum(3) + change.input.square().sum(3) + change.bias.square()
    grown = torch.zeros_like(rho.mass) if growth == 0 else (change.mass / rho.mass).square() / growth
    assert_close(of_risk, -(rho.mass * (moved + grown)).sum((1, 2)) / rho.depth)


@pytest.mark.parametrize("growth", [0.0, 1.0])
def test_the_flow_lowers_the_risk_and_keeps_the_mass_of_every_cell(growth):
    e, rho = risk(), positive(measure())
    risks = [e.risk(rho)]
    for moment in depth_flow(e, rho, [0.5, 1.0], growth=growth, rtol=1e-4, atol=1e-6):
        risks.append(e.risk(moment.measure))
        assert_close(moment.measure.mass.sum(2), rho.mass.sum(2), rtol=1e-12, atol=1e-13)
        assert (moment.measure.mass == rho.mass).all() == (growth == 0)
    assert (torch.stack(risks).diff(dim=0) < 0).all()


def test_plain_gradient_descent_on_equal_masses_is_an_euler_step_of_the_flow():
    e, rho = risk(), measure()
    rho = rho._replace(mass=torch.full_like(rho.mass, 1 / 3))
    output = rho.output.clone().requires_grad_()
    (plain,) = torch.autograd.grad(e.risk(rho._replace(output=output)).sum(), output)
    assert_close(velocity(e, rho)[1].output, -5 * 3 * plain)


def test_a_run_stops_at_its_threshold_and_does_not_depend_on_its_neighbours():
    e, rho = risk(), positive(measure())
    start = e.risk(rho)
    stop = torch.stack([start[0] * 0.9, start[1] * 0])
    *_, both = depth_flow(e, rho, [1.0], risk_below=stop, rtol=1e-4, atol=1e-6)
    assert both.stopped.tolist() == [True, False]
    assert both.time[0] < 1
    one = torch.tensor([1])
    *_, alone = depth_flow(e.select(one), DepthMeasure(*(part[one] for part in rho)), [1.0], rtol=1e-4, atol=1e-6)
    assert_close(alone.measure.output[0], both.measure.output[1], rtol=1e-12, atol=1e-13)


def test_the_flow_refuses_a_threshold_for_other_runs_and_a_negative_growth():
    with pytest.raises(ValueError, match="risk_below"):
        next(depth_flow(risk(), positive(measure()), [1.0], risk_below=torch.ones(3)))
    with pytest.raises(ValueError, match="growth"):
        next(depth_flow(risk(), positive(measure()), [1.0], growth=-1.0))


def descent(e, rho):
    candidates = torch.randn(2, 7, rho.output.shape[3] + 1, dtype=torch.float64)
    return frank_wolfe(e, rho, candidates, 1)


@pytest.mark.parametrize("way", [lambda e, rho: depth_flow(e, rho, [0.1]), descent])
def test_masses_that_a_descent_would_climb_with_are_refused(way):
    rho = positive(measure())
    next(way(risk(), rho))
    negative = rho.mass.clone()
    negative[1, 2, 0] = -0.1
    with pytest.raises(ValueError, match=r"masses of at least 0.*1 of"):
        next(way(risk(), rho._replace(mass=negative)))
    empty = rho.mass.clone()
    empty[1, 2] = 0
    with pytest.raises(ValueError, match="cell 2 of run 1 has 0"):
        next(way(risk(), rho._replace(mass=empty)))


def test_the_gap_of_a_descent_needs_cells_of_mass_one():
    rho = positive(measure())
    with pytest.raises(ValueError, match="cells of mass 1; cell 0 of run 0 has 3"):
        next(descent(risk(), rho._replace(mass=3 * rho.mass)))


def test_steps_of_frank_wolfe_may_be_written_into():
    e, rho = risk(), positive(measure())
    rho = rho._replace(mass=rho.mass / rho.mass.sum(2, keepdim=True))
    candidates = torch.randn(2, 7, rho.output.shape[3] + 1, dtype=torch.float64)
    *_, whole = frank_wolfe(e, rho, candidates, 2)
    for step in frank_wolfe(e, rho, candidates, 2):
        final = [part.clone() for part in (*step.measure, step.risk)]
        for part in (*step.measure, step.risk):
            part.mul_(-3.0)
    assert_close(final, [*whole.measure, whole.risk], rtol=0, atol=0)
