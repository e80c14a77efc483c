"""Flows of measures: laws of mass, equal flows in other coordinates, stationary laws, batches."""

import math

import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.errors import RunFailed
from regimes.meanfield.functionals import FeatureRisk, general
from regimes.meanfield.measure_flow import measure_flow, measure_steps
from regimes.meanfield.measures import Measure, uniform
from regimes.meanfield.velocities import conic, fisher_rao, wasserstein, wasserstein_fisher_rao

GRID = torch.linspace(0, 1, 9, dtype=torch.float64)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def bumps(position):
    return torch.exp(-4 * (position[..., None] - GRID).square())


def square(output):
    return (output - GRID.sin()).square().mean(1) / 2


RISK = FeatureRisk(bumps, square, penalty=0.1)
SOURCE = generator(0)  # the seeds of tests do not reach what stands outside of them
PLACES = torch.randn(3, 5, dtype=torch.float64, generator=SOURCE)
POSITIVE = Measure(PLACES, 0.2 + torch.rand(3, 5, dtype=torch.float64, generator=SOURCE))
SIGNED = Measure(PLACES, torch.tensor([1.0, -0.5, 0.3, 0.0, -1.0], dtype=torch.float64).expand(3, 5))
ALL = [wasserstein(), fisher_rao(), fisher_rao(balanced=False), wasserstein_fisher_rao(), conic()]


@pytest.mark.parametrize("velocity", ALL, ids=str)
@pytest.mark.parametrize("measure", [POSITIVE, SIGNED], ids=["positive", "signed"])
def test_every_flow_descends_and_keeps_the_signs(velocity, measure):
    values = [RISK.value(measure)]
    for moment in measure_flow(RISK, measure, [0.1, 1.0], velocity, rtol=1e-4, atol=1e-6):
        values.append(moment.value)
        assert (moment.measure.mass.sign() == measure.mass.sign()).all()
    assert (torch.stack(values).diff(dim=0) < 0).all()


@pytest.mark.parametrize("velocity", [wasserstein(), fisher_rao()], ids=str)
@pytest.mark.parametrize("measure", [POSITIVE, SIGNED], ids=["positive", "signed"])
def test_balanced_flows_keep_the_mass(velocity, measure):
    (moment,) = measure_flow(RISK, measure, [1.0], velocity, rtol=1e-4)
    assert_close(moment.measure.total_variation(), measure.total_variation(), rtol=1e-12, atol=0)
    *_, (_, last) = measure_steps(RISK, measure, velocity, step=0.1, iterations=20, record=[20])
    assert_close(last.total_variation(), measure.total_variation(), rtol=1e-12, atol=0)


def test_balanced_flow_with_transport_keeps_the_mass():
    (moment,) = measure_flow(RISK, POSITIVE, [1.0], wasserstein_fisher_rao(balanced=True), rtol=1e-4)
    assert_close(moment.measure.total(), POSITIVE.total(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("velocity", [wasserstein_fisher_rao(0.5, 2.0), conic(), fisher_rao(balanced=False)], ids=str)
def test_mass_changes_by_the_integral_of_the_first_variation(velocity):
    """d/dt |μ| = −growth ∫F'dμ, integrated by Gauss' rule over the flow itself: exact to 1e-12."""
    span = 0.0005
    nodes = torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64)
    weights = torch.tensor([5 / 9, 8 / 9, 5 / 9], dtype=torch.float64)
    times = [*(span * (1 + nodes) / 2).tolist(), span]
    *inner, last = measure_flow(RISK, SIGNED, times, velocity, rtol=1e-14, atol=1e-14)
    rates = [-velocity.growth * (m.measure.mass * RISK.variation(m.measure)).sum(1) for m in inner]
    change = sum(weight * rate for weight, rate in zip(weights, rates, strict=True)) * span / 2
    assert_close(last.measure.total_variation() - SIGNED.total_variation(), change, rtol=0, atol=1e-12)


def test_each_mass_is_multiplied_in_steps_of_fisher_rao():
    """One mirror step: mass e^{−step·growth·sF'}, to rounding."""
    *_, (_, after) = measure_steps(RISK, SIGNED, fisher_rao(2.0, balanced=False), step=0.3, iterations=1, record=[1])
    along = SIGNED.mass.sign() * RISK.variation(SIGNED)
    assert_close(after.mass, SIGNED.mass * (-0.6 * along).exp(), rtol=1e-12, atol=0)


@pytest.mark.slow
def test_the_cone_is_wasserstein_fisher_rao_in_other_coordinates():
    (one,) = measure_flow(RISK, SIGNED, [0.5], conic(1.0, 4.0), rtol=1e-7, atol=1e-9)
    (other,) = measure_flow(RISK, SIGNED, [0.5], wasserstein_fisher_rao(1.0, 4.0), rtol=1e-7, atol=1e-9)
    assert_close(one.measure, other.measure, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_two_homogeneous_particles_under_wasserstein_are_the_cone_over_the_sphere():
    """u = rθ with |θ| = 1 carries the mass r² mass of the direction θ."""
    x = randn(20, 3)
    y = torch.relu(x[:, 0]) - torch.relu(x[:, 1] - x[:, 2])

    def loss(output):
        return (output - y).square().mean(1) / 2

    def rays(u):  # |u| relu(u·x): homogeneous of degree 2
        return u.norm(dim=2, keepdim=True) * torch.relu(u @ x.T)

    def directions(u):  # homogeneous of degree 0, so that its slope is tangent to the sphere
        return torch.relu((u / u.norm(dim=2, keepdim=True)) @ x.T)

    u = randn(2, 6, 3)
    lengths = u.norm(dim=2)
    flat = uniform(u)
    (one,) = measure_flow(FeatureRisk(rays, loss), flat, [0.3], wasserstein(), rtol=1e-6, atol=1e-8)
    sphere = Measure(u / lengths[..., None], flat.mass * lengths.square())
    (other,) = measure_flow(FeatureRisk(directions, loss), sphere, [0.3], conic(), rtol=1e-6, atol=1e-8)
    ended = one.measure.position
    assert_close(ended / ended.norm(dim=2, keepdim=True), other.measure.position, rtol=1e-4, atol=1e-4)
    assert_close(flat.mass * ended.square().sum(2), other.measure.mass, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("velocity", ALL, ids=str)
def test_small_steps_follow_the_flow_at_first_order(velocity):
    (flow,) = measure_flow(RISK, POSITIVE, [0.2], velocity, rtol=1e-6, atol=1e-8)
    errors = []
    for count in (8, 16):
        *_, (_, last) = measure_steps(RISK, POSITIVE, velocity, step=0.2 / count, iterations=count, record=[count])
        errors.append((last.mass - flow.measure.mass).norm() + (last.position - flow.measure.position).norm())
    assert 1.7 < errors[0] / errors[1] < 2.3  # order 1


@pytest.mark.parametrize("velocity", ALL, ids=str)
def test_a_resumed_flow_is_the_whole_one_bit_for_bit(velocity):
    _, whole = measure_flow(RISK, POSITIVE, [0.1, 0.3], velocity, rtol=1e-4)
    (half,) = measure_flow(RISK, POSITIVE, [0.1], velocity, rtol=1e-4)
    (rest,) = measure_flow(RISK, POSITIVE, [0.3], velocity, rtol=1e-4, after=half.course)
    assert (rest.measure.mass == whole.measure.mass).all()
    assert (rest.measure.position == whole.measure.position).all()


def test_runs_stop_at_their_value_alone_and_together():
    risk = FeatureRisk(bumps, square, penalty=0.1, shared=True)
    below = 0.9 * risk.value(POSITIVE)
    (together,) = measure_flow(risk, POSITIVE, [50.0], value_below=below, rtol=1e-3)
    (masked,) = measure_flow(RISK, POSITIVE, [50.0], value_below=below, rtol=1e-3)
    assert (together.value <= below).all()
    assert together.stopped.all()
    assert_close(together, masked, rtol=1e-9, atol=1e-12)


def test_noise_comes_to_the_gibbs_law():
    """Harmonic potential: θ ← (1 − h)θ + √(2hT)ξ has the stationary variance T/(1 − h/2), that of Gibbs up to O(h)."""
    energy = general(lambda measure: (measure.mass * measure.position.square()).sum(1) / 2)
    m, step, heat = 2000, 0.1, torch.tensor([0.5, 2.0], dtype=torch.float64)
    *_, (_, last) = measure_steps(
        energy, uniform(randn(2, m)), step=step, iterations=150, record=[150], temperature=heat, generator=generator(1)
    )
    variance = heat / (1 - step / 2)
    found = last.position.square().mean(1)
    assert ((found - variance).abs() < 5 * variance * math.sqrt(2 / m)).all()
    fourth = last.position.pow(4).mean(1)  # of a Gaussian 3v², with standard error v²√(96/m)
    assert ((fourth - 3 * variance**2).abs() < 5 * variance**2 * math.sqrt(96 / m)).all()


def test_batches_are_functionals_of_the_iteration():
    targets = randn(10, 9)

    def batch(iteration):
        return FeatureRisk(bumps, lambda output: (output - targets[iteration - 1]).square().sum(1) / 2)

    *_, (_, last) = measure_steps(batch, POSITIVE, wasserstein(), step=0.1, iterations=10, record=[10])
    position = POSITIVE.position.clone()
    for iteration in range(1, 11):
        position -= 0.1 * batch(iteration).value_and_forces(POSITIVE._replace(position=position)).gradient
    assert_close(last.position, position)


def test_steps_leave_the_start_and_autograd_alone():
    start = POSITIVE.clone()
    for iteration, _ in measure_steps(RISK, start, step=0.1, iterations=2, record=[0, 1, 2]):
        assert torch.is_grad_enabled()
        assert iteration in (0, 1, 2)
    assert_close(start, POSITIVE, rtol=0, atol=0)


def test_a_step_that_is_too_large_ends_in_words():
    energy = general(lambda measure: (measure.mass * measure.position.square().square()).sum(1))
    start = uniform(torch.tensor([[0.1], [9.0]], dtype=torch.float64))
    with pytest.raises(RunFailed, match="run 1 is not finite at iteration 9"):
        list(measure_steps(energy, start, step=1.0, iterations=9, record=[9]))


@pytest.mark.slow
def test_noise_in_a_double_well_comes_to_the_gibbs_law():
    """exp(−V/T), V = (θ² − 1)², by the trapezoidal rule; m independent particles; steps so small that their bias is."""
    energy = general(lambda measure: (measure.mass * (measure.position.square() - 1).square()).sum(1))
    m, heat = 4000, 0.5
    *_, (_, last) = measure_steps(
        energy, uniform(randn(1, m)), step=0.005, iterations=1500, record=[1500], temperature=heat,
        generator=generator(2),
    )  # fmt: skip
    grid = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    density = torch.exp(-(grid.square() - 1).square() / heat)
    density /= density.sum()
    for power in (1, 2, 4):
        mean, second = ((density * grid.pow(power * each)).sum() for each in (1, 2))
        error = ((second - mean.square()) / m).sqrt()
        assert (last.position.pow(power).mean() - mean).abs() < 5 * error
    outside = last.position.abs() > 1.5  # a rare part of the law, by its share
    share = density[grid.abs() > 1.5].sum()
    assert (outside.double().mean() - share).abs() < 5 * (share * (1 - share) / m).sqrt()


@pytest.mark.parametrize("velocity", [fisher_rao(), fisher_rao(balanced=False), conic(0.0)], ids=str)
def test_masses_keep_their_signs_in_steps_that_are_far_too_large(velocity):
    """The explicit step of the mass itself, mass·(1 − step·growth·F'), changes signs here."""
    step = 5.0
    assert (1 - step * velocity.growth * SIGNED.mass.sign() * RISK.variation(SIGNED) < 0).any()
    ((_, after),) = measure_steps(RISK, SIGNED, velocity, step=step, iterations=1, record=[1])
    assert (after.mass.sign() == SIGNED.mass.sign()).all()


@pytest.mark.parametrize("velocity", [fisher_rao(), wasserstein_fisher_rao(balanced=True)], ids=str)
def test_a_run_without_mass_stays_without_and_lets_the_others_flow(velocity):
    mass = POSITIVE.mass.clone()
    mass[1] = 0
    (end,) = measure_flow(RISK, POSITIVE._replace(mass=mass), [0.05], velocity)
    assert (end.measure.mass[1] == 0).all()
    others = POSITIVE.select([0, 2])
    (alone,) = measure_flow(RISK, others, [0.05], velocity)
    assert_close(end.measure.mass[[0, 2]], alone.measure.mass)
    assert_close(end.value[[0, 2]], alone.value)


def test_a_loss_with_an_infinite_slope_in_another_run_is_not_one_of_several_runs():
    risk = FeatureRisk(bumps, lambda output: output.square().sum(1).sqrt())
    mass = POSITIVE.mass.clone()
    mass[1] = 0
    measure = POSITIVE._replace(mass=mass)
    assert_close(risk.value(measure), risk.output(measure).norm(dim=1))
    with pytest.raises(ValueError, match="a loss of each run for itself"):
        FeatureRisk(bumps, lambda output: output.square().sum(1).sqrt() + output.mean()).value(POSITIVE)
