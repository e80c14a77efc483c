"""Lifts: degrees of homogeneity, projections that keep the net, slopes at 0."""

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF, RELU, Activation
from regimes.conventions import generator
from regimes.meanfield.functionals import FeatureRisk
from regimes.meanfield.lifts import Neuron, at_unit_weight, drawn, neurons, on_sphere, signed_square_relu
from regimes.meanfield.measure_flow import measure_flow
from regimes.meanfield.measures import Measure, uniform
from regimes.meanfield.positions import square_norms
from regimes.meanfield.velocities import conic, wasserstein

SIGMOID = Activation("sigmoid", torch.sigmoid, lambda s: torch.sigmoid(s) * torch.sigmoid(-s), 0.25, 0.1, False)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


X = torch.randn(12, 3, dtype=torch.float64, generator=generator(0))


def loss(output):
    return (output - X[:, 0].abs()).square().mean(1) / 2


@pytest.mark.parametrize("activation", [RELU, ERF, SIGMOID], ids=lambda each: each.name)
def test_the_projection_at_unit_weight_is_the_same_net(activation):
    risk = FeatureRisk(neurons(X, activation), loss)
    measure = Measure(Neuron(randn(2, 5), randn(2, 5, 3)), randn(2, 5))
    assert_close(risk.output(at_unit_weight(measure)), risk.output(measure))


def test_the_projection_on_the_sphere_is_the_same_net_where_features_are_of_degree_two():
    measure = Measure(Neuron(randn(2, 5), randn(2, 5, 3)), randn(2, 5))
    flat = Measure(randn(2, 5, 3), randn(2, 5))
    measure.position.weight[0, 0] = 0
    measure.position.direction[0, 0] = 0
    for risk, each in (
        (FeatureRisk(neurons(X, RELU), loss), measure),
        (FeatureRisk(signed_square_relu(X), loss), flat),
    ):
        projected = on_sphere(each)
        assert_close(risk.output(projected), risk.output(each))
        lengths = square_norms(projected.position)
        assert_close(lengths[projected.mass != 0], torch.ones_like(lengths[projected.mass != 0]))
        assert projected.mass.isfinite().all()
    assert (on_sphere(measure).mass[0, 0] == 0).all()
    erf = FeatureRisk(neurons(X, ERF), loss)
    assert not torch.allclose(erf.output(on_sphere(measure)), erf.output(measure))  # of no degree


def test_signed_squares_have_a_slope_at_zero():
    risk = FeatureRisk(signed_square_relu(X), loss)
    _, _, gradient = risk.value_and_forces(uniform(torch.zeros(1, 2, 3).double()))
    assert (gradient == 0).all()
    step = 1e-5
    small = uniform(step * randn(1, 2, 3))
    assert (risk.variation(small).abs() < 1e2 * step**2).all()  # of degree 2, so flat


def test_the_sum_of_signed_squares_is_the_net_of_their_squares():
    u, signs = randn(2, 4, 3), torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).expand(2, 4) / 4
    one = FeatureRisk(signed_square_relu(X), loss).output(Measure(u, signs))
    position = Neuron(torch.ones(2, 4).double(), u * u.abs())
    assert_close(one, FeatureRisk(neurons(X, RELU), loss).output(Measure(position, signs)))


def test_the_flow_of_signed_squares_is_that_of_the_cone_over_the_sphere():
    plain = signed_square_relu(X)

    def of_direction(u):  # of degree 0, so that the slope is tangent to the sphere
        return plain(u / u.norm(dim=2, keepdim=True))

    start = Measure(randn(2, 4, 3), torch.tensor([0.25, -0.25, 0.25, -0.25], dtype=torch.float64).expand(2, 4))
    (flat,) = measure_flow(FeatureRisk(plain, loss), start, [0.05], wasserstein(), rtol=1e-4, atol=1e-6, smallest=0.002)
    (cone,) = measure_flow(
        FeatureRisk(of_direction, loss), on_sphere(start), [0.05], conic(), rtol=1e-4, atol=1e-6, smallest=0.002
    )
    ended = on_sphere(flat.measure)
    assert_close(ended.position, cone.measure.position, rtol=1e-3, atol=1e-3)
    assert_close(ended.mass, cone.measure.mass, rtol=1e-3, atol=1e-4)


def test_neurons_are_drawn_with_one_output_weight():
    position = drawn(2, 50, 3, generator(0))
    assert (position.weight == 0).all()
    assert position.direction.shape == (2, 50, 3)
