"""What flows and nets of particles refuse in one line, where a mistake would end in torch or in a plausible answer."""

import math

import pytest
import torch
from torch.testing import assert_close

from regimes import Measure, ParticleFlow
from regimes.activations import RELU, TANH
from regimes.control.adaptive import integrate
from regimes.conventions import generator
from regimes.meanfield.displacement import displacement_flow, tangent_features
from regimes.meanfield.flow import descend, gradient_flow
from regimes.meanfield.functionals import FeatureRisk
from regimes.meanfield.kernel import tangent_kernel, tangent_kernel_trace
from regimes.meanfield.lifts import drawn, signed_square_relu
from regimes.meanfield.measure_flow import measure_flow
from regimes.meanfield.measures import uniform
from regimes.meanfield.overlaps import logistic, relu_gaussian
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk
from regimes.meanfield.searches import boxes
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.meanfield.velocities import fisher_rao


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def net(runs=2, m=5, k=1, d=3):
    return Particles(randn(runs, m, k), randn(runs, m, d))


X, Y = randn(1, 6, 3), randn(1, 6, 1)
RISK = TwoLayerRisk(X, Y, TANH)
FLOW = ParticleFlow(lambda p: p.cos(), lambda f: f.square().sum(1))
WHOLE = FeatureRisk(lambda p: p.cos(), lambda f: f.square().sum(1))
START = randn(1, 4, 1)


def infinite():
    found = net()
    found.input[0, 0, 0] = math.inf
    return found


def batched(batches):
    return next(FLOW.steps(START, step=0.1, iterations=1, record=[1], batches=batches))


def descended(risk=RISK, **given):
    return next(descend(risk, net(), **({"step": 0.1, "iterations": 1, "record": [1]} | given)))


def stopped(until):
    return next(integrate(lambda z: (-z[0],), (randn(2, 3),), [1.0], until=until))


def resumed(after, start=START):
    return next(measure_flow(WHOLE, uniform(start), [2.0], after=after))


def course(runs=1, velocity=None):
    return next(measure_flow(WHOLE, uniform(randn(runs, 4, 1)), [1.0], velocity, rtol=1e-3)).course


def weighed(mass):
    return RISK.value(Measure(net(), mass))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: batched(lambda _: torch.cos), "a pair .features, loss."),
        (lambda: batched(lambda _: None), "a pair .features, loss."),
        (lambda: batched(lambda _: (torch.cos, torch.cos, 1)), "a pair .features, loss.*got 3"),
        (lambda: descended(batches=lambda _: X), "a pair .x, y."),
        (lambda: descended(batches=lambda _: (X,)), "a pair .x, y."),
        (lambda: descended(step=(0.1, 0.2, 0.3)), "as a pair"),
        (lambda: descended(lambda now: (now.output,)), "shapes of the particles"),
        (lambda: descended(lambda now: (now.output, None)), "shapes of the particles"),
        (lambda: descended(lambda now: (now.output, now.input[:1])), "shapes of the particles"),
        (lambda: stopped(lambda _: True), "until"),
        (lambda: stopped(lambda z: z[0].sum(1)), "true or false"),
        (lambda: stopped(lambda z: z[0] > 0), "until"),
        (lambda: next(integrate(lambda z: z, (randn(2, 3),), "12")), "sequence of numbers"),
        (lambda: next(integrate(lambda z: z, (randn(2, 3),), ["1"])), "sequence of numbers"),
        (lambda: resumed(course(runs=2)), "the same start"),
        (lambda: resumed(course(velocity=fisher_rao())), "the same start"),
        (lambda: resumed(course(), START.float()), "the same start"),
        (lambda: resumed(next(measure_flow(WHOLE, uniform(START), [1.0], rtol=1e-3))), "the course of a solution"),
        (lambda: next(displacement_flow(RISK, infinite(), [1.0])), "finite input"),
        (lambda: tangent_kernel(infinite(), X, X, TANH), "finite input"),
        (lambda: tangent_kernel(net(), X, X / 0, TANH), "finite x2"),
        (lambda: tangent_kernel_trace(infinite(), X, X, TANH), "finite input"),
        (lambda: tangent_features(infinite(), X, TANH), "finite input"),
        (lambda: next(gradient_flow(TwoLayerRisk(X, Y, TANH, alpha=torch.ones(3)), net(), [1.0])), "for 2 runs"),
        (lambda: TwoLayerRisk(X, Y, TANH, members=2), "members"),
        (lambda: TwoLayerRisk(X, Y, TANH, scale=torch.tensor([1.0, 2.0])), "scale as one number"),
        (lambda: tangent_kernel(net(), X, X, TANH, scale=torch.tensor([1.0, 2.0])), "scale as one number"),
        (lambda: weighed(torch.ones(1, 5).double()), "in place of 2"),
        (lambda: weighed(torch.ones(2, 4).double()), "in place of 5"),
        (lambda: weighed(torch.ones(2, 5)), "one precision"),
        (lambda: drawn(1, 3, 2, 0), "a torch.Generator"),
        (lambda: drawn(1, 0, 2, generator(0)), "m as a whole number"),
        (lambda: gaussian(3, 2, generators=[generator(0)], dtype="float64"), "dtype as a dtype"),
        (lambda: signed_square_relu(X[0])(randn(1, 2, 3).float()), "one precision"),
        (lambda: PopulationRisk(net(1), logistic), "overlap as a function of two"),
        (lambda: PopulationRisk(net(1), lambda u, v: u @ v.mT), "overlap as a function of two"),
        (lambda: PopulationRisk(net(1), relu_gaussian, scale=torch.ones(2)), "scale as one number"),
        (lambda: boxes(-torch.ones(9), torch.ones(9), lipschitz=1.0), "cells to begin with; got 8..9"),
    ],
)
def test_a_mistake_is_named_in_one_line(call, said):
    with pytest.raises(ValueError, match=said) as error:
        call()
    assert "\n" not in str(error.value)


def test_what_is_right_is_taken():
    pair = (torch.cos, lambda f: f.square().sum(1))
    as_tuple, as_list = batched(lambda _: pair), batched(lambda _: list(pair))
    assert torch.equal(as_tuple[1].position, as_list[1].position)
    assert not torch.equal(as_tuple[1].position, START)
    start = net()
    how = {"step": 0.1, "iterations": 1, "record": [1]}
    given = ({}, {"batches": lambda _: (X, Y)}, {"step": (0.1, 0.0)})
    whole, batch, half = (next(descend(RISK, start.clone(), **(how | one)))[1] for one in given)
    assert torch.equal(whole.input, batch.input)
    assert torch.equal(half.input, start.input)
    assert torch.equal(half.output, whole.output)
    assert stopped(lambda z: z[0].sum(1) < 9).stopped.all()
    assert float(resumed(course()).time.max()) == 2.0
    equal = torch.full((2, 5), 1 / 5).double()
    assert_close(RISK.value(Measure(start, equal)), RISK.risk(start))
    assert PopulationRisk(one := net(1), logistic(3), scale=1.0).risk(one).abs().max() < 1e-12
    assert callable(boxes(-torch.ones(2), torch.ones(2), lipschitz=1.0))
    assert torch.equal(TwoLayerRisk(X, Y, RELU, members=(2,)).risk(start), TwoLayerRisk(X, Y, RELU).risk(start))
