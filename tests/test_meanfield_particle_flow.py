"""The door for users: the same flow as by hand, defaults of the certificate, batches, other functionals."""

import pytest
import torch
from torch.testing import assert_close

from regimes import Measure, ParticleFlow
from regimes.activations import TANH
from regimes.conventions import generator
from regimes.meanfield.certificate import certify
from regimes.meanfield.functionals import FeatureRisk
from regimes.meanfield.measure_flow import measure_flow, measure_steps
from regimes.meanfield.measures import uniform
from regimes.meanfield.particles import gaussian
from regimes.meanfield.searches import candidates
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.meanfield.velocities import conic, fisher_rao, wasserstein

GRID = torch.linspace(0, 1, 9, dtype=torch.float64)
POINTS = torch.linspace(-3, 3, 41, dtype=torch.float64)[None, :, None]


def bumps(position):
    return torch.exp(-4 * (position - GRID).square())


def square(output):
    return (output - GRID.sin()).square().mean(1) / 2


START = torch.linspace(-1, 2, 6, dtype=torch.float64)[None, :, None]


def test_it_is_the_flow_of_the_functional():
    flow = ParticleFlow(bumps, square, penalty=0.1, velocity=conic())
    risk = FeatureRisk(bumps, square, penalty=0.1)
    (one,) = flow(START, [0.5], rtol=1e-4)
    (other,) = measure_flow(risk, uniform(START), [0.5], conic(), rtol=1e-4)
    assert_close(one.measure, other.measure, rtol=0, atol=0)
    assert_close(one.value, risk.value(one.measure))
    options = {"step": 0.1, "iterations": 3, "record": [3], "temperature": 0.2}
    (a,), (b,) = (
        list(flow.steps(START, **options, generator=generator(0))),
        list(measure_steps(risk, uniform(START), conic(), **options, generator=generator(0))),
    )
    assert_close(a[1], b[1], rtol=0, atol=0)


def test_batches_change_features_and_loss_with_the_iteration():
    flow = ParticleFlow(bumps, square, penalty=0.1, velocity=conic())
    ((_, same),) = flow.steps(START, step=0.1, iterations=3, record=[3], batches=lambda _: (bumps, square))
    ((_, full),) = flow.steps(START, step=0.1, iterations=3, record=[3])
    assert_close(same, full, rtol=0, atol=0)
    ((_, other),) = flow.steps(
        START, step=0.1, iterations=3, record=[3], batches=lambda _: (bumps, lambda f: 2 * square(f))
    )
    assert not torch.allclose(other.mass, full.mass)


@pytest.mark.parametrize(
    ("velocity", "penalty", "fixed"), [(wasserstein(), 0.1, True), (fisher_rao(), 0.0, True), (conic(), 0.1, False)]
)
def test_the_certificate_compares_with_what_the_velocity_can_reach(velocity, penalty, fixed):
    flow = ParticleFlow(bumps, square, penalty=penalty, velocity=velocity)
    (moment,) = flow(START, [0.5], rtol=1e-4)
    found = flow.certify(moment.measure, POINTS)
    risk = FeatureRisk(bumps, square, penalty=penalty)
    assert_close(found, certify(risk, moment.measure, candidates(POINTS), fixed_total=fixed))
    assert not found.proved


def test_a_signed_measure_is_compared_with_signed_ones():
    flow = ParticleFlow(bumps, lambda f: square(-f), penalty=0.01)
    found = flow.certify(Measure(START, -0.01 * torch.ones(1, 6).double()), POINTS)
    assert (found.sign.abs() == 1).all()
    assert (found.gap > 0).all()


def test_any_functional_flows():
    x = torch.randn(1, 8, 3, dtype=torch.float64)
    risk = TwoLayerRisk(x, x[..., :1], TANH)
    flow = ParticleFlow.of(risk)
    start = uniform(gaussian(4, 3, generators=[generator(0)]))
    (moment,) = flow(start, [0.5], rtol=1e-4)
    assert (moment.value < risk.value(start)).all()
    with pytest.raises(ValueError, match="features and a loss"):
        flow.steps(start, step=0.1, iterations=1, record=[1], batches=lambda _: (bumps, square))


def test_particles_of_pairs_flow():
    """A position of two parts: centre and width."""

    def features(position):
        return torch.exp(-position["width"].square() * (position["centre"] - GRID).square())

    flow = ParticleFlow(features, square)
    start = {"centre": START, "width": torch.ones_like(START)}
    (moment,) = flow(start, [1.0], rtol=1e-3)
    assert (moment.value < flow.functional.value(uniform(start))).all()
    assert set(moment.measure.position) == {"centre", "width"}
