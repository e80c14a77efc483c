"""Two-layer nets as functionals of measures: closed forms against autograd, and the flows that they share."""

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF, RELU, TANH
from regimes.conventions import generator
from regimes.meanfield.certificate import certify
from regimes.meanfield.displacement import displacement_flow
from regimes.meanfield.flow import descend, gradient_flow
from regimes.meanfield.functionals import FeatureRisk, Functional, general
from regimes.meanfield.measure_flow import measure_flow, measure_steps
from regimes.meanfield.measures import Measure, uniform
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk, erf_gaussian, relu_gaussian
from regimes.meanfield.searches import multistart
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.meanfield.velocities import conic, wasserstein_fisher_rao

SOURCE = generator(0)  # the seeds of tests do not reach what stands outside of them
ALPHA = torch.tensor([1.0, 3.0, 0.5, 2.0], dtype=torch.float64)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def net(runs=4, m=5, k=2, d=3):
    return Particles(randn(runs, m, k), randn(runs, m, d))


def masses(zero=False):
    mass = randn(4, 5)
    if zero:
        mass[:, 2] = 0
    return mass


X, Y, OFFSET = (torch.randn(*s, dtype=torch.float64, generator=SOURCE) for s in ((2, 8, 3), (2, 8, 2), (4, 8, 2)))
TEACHER = gaussian(5, 3, 2, generators=[SOURCE])
CENTRE = gaussian(5, 3, 2, generators=[SOURCE] * 4)


def samples(activation, measure, *, alpha=1.0, offset=0.0):
    """½ mean |α(Σ_j mass_j a_j σ(b_j·x) − f_0) − y|² / α², written out."""
    a, b = measure.position
    values = activation.value(b @ X.repeat_interleave(2, 0).mT)
    outputs = torch.einsum("rm,rmk,rmn->rnk", measure.mass, a, values) - offset
    column = torch.as_tensor(alpha).reshape(-1, 1, 1)
    residual = column * outputs - Y.repeat_interleave(2, 0)
    return residual.square().sum(2).mean(1) / 2 / torch.as_tensor(alpha).square()


def population(overlap, measure, *, alpha=1.0, centre=None):
    a, b = measure.position
    column = torch.as_tensor(alpha).reshape(-1, 1, 1)
    nets = [
        (column * measure.mass[..., None] * a, b),
        (-TEACHER.output.expand(4, -1, -1), TEACHER.input.expand(4, -1, -1)),
    ]
    if centre is not None:
        nets.append((-column * centre.output / 5, centre.input))
    weights, inputs = (torch.cat(part, 1) for part in zip(*nets, strict=True))
    value, _ = overlap(inputs, inputs)
    return (weights * (value @ weights)).sum((1, 2)) / 2 / torch.as_tensor(alpha).square()


CASES = {
    "relu": (TwoLayerRisk(X, Y, RELU), lambda mu: samples(RELU, mu)),
    "erf": (TwoLayerRisk(X, Y, ERF, alpha=2.0), lambda mu: samples(ERF, mu, alpha=2.0)),
    "tanh, α, f_0": (
        TwoLayerRisk(X, Y, TANH, alpha=ALPHA, offset=OFFSET),
        lambda mu: samples(TANH, mu, alpha=ALPHA, offset=OFFSET),
    ),
    "erf population": (PopulationRisk(TEACHER, erf_gaussian), lambda mu: population(erf_gaussian, mu)),
    "centred population": (
        PopulationRisk(TEACHER, erf_gaussian, alpha=ALPHA, centre=CENTRE),
        lambda mu: population(erf_gaussian, mu, alpha=ALPHA, centre=CENTRE),
    ),
}


@pytest.mark.parametrize("zero", [False, True], ids=["", "a mass of zero"])
@pytest.mark.parametrize("case", CASES)
def test_closed_forces_are_those_of_autograd(case, zero):
    risk, value = CASES[case]
    assert isinstance(risk, Functional)
    measure, at, slow = Measure(net(), masses(zero)), net(m=3), general(value)
    for fast, exact in zip(risk.value_and_forces(measure), slow.value_and_forces(measure), strict=True):
        assert_close(fast, exact, rtol=1e-9, atol=1e-10)
    assert_close(risk.value(measure), slow.value(measure))
    assert_close(risk.variation(measure, at), slow.variation(measure, at))
    parts = Particles(*(part.clone().requires_grad_() for part in at))
    slopes = torch.autograd.grad(slow.variation(measure, parts).sum(), parts)
    assert_close(risk.forces_at(measure, at)[1], Particles(*slopes), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["erf population", "centred population"])
def test_a_particle_in_two_halves_is_the_same_measure(name):
    risk, _ = CASES[name]
    measure = Measure(net(), masses())
    halves = measure._replace(mass=measure.mass / 2)
    both = halves.join(halves)
    assert_close(risk.value(both), risk.value(measure))
    assert_close(risk.variation(both)[:, :5], risk.variation(measure))
    for one, other in zip(risk.value_and_forces(both)[2], risk.value_and_forces(measure)[2], strict=True):
        assert_close(one[:, :5], other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["erf", "erf population", "in general"])
def test_a_mass_that_nearly_vanishes_has_the_slope_of_one_that_does(case, dtype):
    net = Particles(*(part.to(dtype) for part in gaussian(5, 3, generators=[generator(1)])))
    teacher = Particles(*(part.to(dtype) for part in gaussian(4, 3, generators=[generator(2)])))
    risk = {
        "erf": lambda: TwoLayerRisk(X[:1].to(dtype), Y[:1, :, :1].to(dtype), ERF),
        "erf population": lambda: PopulationRisk(teacher, erf_gaussian),
        "in general": lambda: general(
            lambda mu: mu.integral(mu.position.output * torch.tanh(mu.position.input)).square().sum(1)
        ),
    }[case]()
    mass = torch.full((1, 5), 0.2, dtype=dtype)
    slopes = []
    for small in (0.0, 20 * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps):
        mass[0, 1] = small
        slopes.append(risk.value_and_forces(Measure(net, mass.clone()))[2])
    assert_close(tuple(slopes[1]), tuple(slopes[0]))


def test_closed_forces_of_relu_over_gaussian_inputs_are_those_of_differences():
    """Autograd knows no slope of the arccosine of 1, so differences of the risk itself."""
    risk, measure, step = PopulationRisk(TEACHER, relu_gaussian), Measure(net(), masses()), 1e-6
    value, variation, slopes = risk.value_and_forces(measure)
    assert_close(value, population(relu_gaussian, measure))
    for entry in range(3):
        changed = [measure.position.input.clone() for _ in range(2)]
        changed[0][:, 1, entry] += step
        changed[1][:, 1, entry] -= step
        more, less = (risk.value(Measure(measure.position._replace(input=each), measure.mass)) for each in changed)
        assert_close(measure.mass[:, 1] * slopes.input[:, 1, entry], (more - less) / (2 * step), rtol=1e-7, atol=1e-8)
    more, less = (measure.mass.clone() for _ in range(2))
    more[:, 1] += step
    less[:, 1] -= step
    difference = risk.value(measure._replace(mass=more)) - risk.value(measure._replace(mass=less))
    assert_close(variation[:, 1], difference / (2 * step), rtol=1e-7, atol=1e-8)


def test_forces_of_huge_weights_are_finite():
    huge = Measure(Particles(1e8 * randn(4, 5, 2), 1e8 * randn(4, 5, 3)), masses())
    for risk, _ in CASES.values():
        value, variation, slopes = risk.value_and_forces(huge)
        for part in (value, variation, *slopes):
            assert part.isfinite().all()


def test_the_wasserstein_flow_of_equal_masses_is_the_particle_flow():
    risk, start = TwoLayerRisk(X, Y, TANH), net()
    (one,) = gradient_flow(risk, start, [0.7], rtol=1e-6, atol=1e-9)
    (other,) = measure_flow(risk, uniform(start), [0.7], rtol=1e-6, atol=1e-9)
    assert_close(other.measure.position, one.particles, rtol=1e-12, atol=1e-12)
    assert (one.steps == other.steps).all()
    (far,) = displacement_flow(risk, start, [0.7], rtol=1e-9, atol=1e-9)
    moved = Particles(*(end - begin for end, begin in zip(one.particles, start, strict=True)))
    assert_close(far.moved, moved, rtol=1e-4, atol=1e-5)  # α = 1; the tolerance of the coarser flow


def test_steps_of_the_measure_are_gradient_descent_on_the_net():
    """w ← w − h m ∇F on the net is h of flow time, to rounding."""
    risk, start = TwoLayerRisk(X, Y, RELU), net()
    *_, (_, one) = descend(risk, start, step=0.05 * start.width, iterations=20, record=[20])
    *_, (_, other) = measure_steps(risk, uniform(start), step=0.05, iterations=20, record=[20])
    assert_close(other.position, one, rtol=1e-12, atol=1e-12)


def test_stochastic_steps_of_the_measure_are_stochastic_descent_on_the_net():
    risk, start = TwoLayerRisk(X, Y, RELU), net()
    batches = [(randn(2, 4, 3), randn(2, 4, 2)) for _ in range(6)]
    options = {"iterations": 6, "record": [6]}
    *_, (_, one) = descend(risk, start, step=0.25, batches=lambda i: batches[i - 1], **options)
    *_, (_, other) = measure_steps(lambda i: risk.replace(*batches[i - 1]), uniform(start), step=0.05, **options)
    assert_close(other.position, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("velocity", [wasserstein_fisher_rao(), conic()], ids=str)
def test_nets_flow_with_masses_too(velocity):
    risk, start = TwoLayerRisk(X, Y, TANH), uniform(net())
    (end,) = measure_flow(risk, start, [1.0], velocity, rtol=1e-3)
    assert (end.value < risk.value(start)).all()
    assert (end.measure.mass > 0).all()
    assert (end.measure.mass.std(1) > 0).all()


def test_features_of_the_same_net_give_the_same_functional():
    def features(position):
        return position.output * TANH.value(position.input @ X[0].T)

    risk = TwoLayerRisk(X[:1], Y[:1, :, :1], TANH)
    other = FeatureRisk(features, lambda f: (f - Y[0, :, 0]).square().mean(1) / 2)
    measure = Measure(net(k=1), masses())
    for one, two in zip(risk.value_and_forces(measure), other.value_and_forces(measure), strict=True):
        assert_close(one, two)


@pytest.mark.slow
def test_the_certificate_of_a_net_tells_the_teacher_from_a_poor_fit():
    """The teacher itself has risk 0 and no gap; a net of one neuron has a gap over all nets of the teacher's norm."""
    risk = PopulationRisk(TEACHER, relu_gaussian)
    width = TEACHER.width
    teacher = Measure(TEACHER, torch.ones(1, width).double())
    norm = (TEACHER.output.square().sum(2) + TEACHER.input.square().sum(2)).sum(1)
    search = multistart(net(1, 8), iterations=20, sphere=True)
    found = certify(risk, teacher, search, mass_bound=norm)
    assert_close(found.gap, torch.zeros(1).double(), rtol=0, atol=1e-12)
    poor = certify(risk, Measure(net(1, 1), torch.ones(1, 1).double()), search, mass_bound=norm)
    assert (poor.lowest < 0).all()
    assert (poor.gap >= poor.value - 1e-12).all()  # as the teacher is compared with
    assert not poor.proved


@pytest.mark.parametrize(
    ("risk", "measure", "said"),
    [
        (TwoLayerRisk(X, Y, RELU, scale=0.1), uniform(net()), "Leave it out"),
        (TwoLayerRisk(X, Y, RELU), uniform(randn(4, 5, 3)), "as Particles"),
        (TwoLayerRisk(X, Y, RELU), uniform(net(k=3)), "TwoLayerRisk"),
    ],
)
def test_measures_of_other_things_are_refused(risk, measure, said):
    with pytest.raises(ValueError, match=said):
        risk.value_and_forces(measure)
