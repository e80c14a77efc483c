import math

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF, RELU, Activation
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk, erf_gaussian, logistic_gaussian, relu_gaussian, relu_sphere
from regimes.meanfield.two_layer import TwoLayerRisk

F64 = torch.float64


def slope(s):
    return s.sigmoid() * (1 - s.sigmoid())


LOGISTIC = Activation("logistic", torch.sigmoid, slope, 0.25, 0.1, False)


def normal(samples, d, source):
    return torch.randn(samples, d, generator=source, dtype=F64)


def on_sphere(samples, d, source):
    x = normal(samples, d, source)
    return x / x.norm(dim=1, keepdim=True)


CASES = pytest.mark.parametrize(
    ("overlap", "unit", "draw"),
    [
        (relu_gaussian, RELU, normal),
        (relu_sphere, RELU, on_sphere),
        (erf_gaussian, ERF, normal),
        (logistic_gaussian, LOGISTIC, normal),
    ],
    ids=["relu-gaussian", "relu-sphere", "erf-gaussian", "logistic-gaussian"],
)
OVERLAPS = pytest.mark.parametrize(
    "overlap", [relu_gaussian, relu_sphere, erf_gaussian, logistic_gaussian], ids=lambda overlap: overlap.__name__
)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def net(runs, m=4, d=3, k=1, first=0):
    return gaussian(m, d, k, generators=[stream(first + run) for run in range(runs)])


@CASES
def test_the_overlap_is_the_mean_over_inputs(overlap, unit, draw):
    u, v = net(1, m=3, d=4).input, net(1, m=2, d=4, first=9).input
    value, _ = overlap(u, v)
    x = draw(200_000, 4, stream(1))
    products = unit.value(x @ u[0].T)[:, :, None] * unit.value(x @ v[0].T)[:, None, :]
    error = products.std(0) / math.sqrt(len(x))
    assert ((products.mean(0) - value[0]).abs() < 5 * error).all()


def test_parallel_and_opposite_relus_have_the_known_overlap():
    u = torch.tensor([[[2.0, 0.0], [-3.0, 0.0], [0.0, 1.0]]], dtype=F64)
    value, _ = relu_gaussian(u, u)
    # E relu(2x)² = 2, E relu(3x)² = 9/2, opposite directions never meet, orthogonal ones: |u||v|/(2π).
    known = torch.tensor(
        [[2.0, 0.0, 1 / math.pi], [0.0, 4.5, 3 / (2 * math.pi)], [1 / math.pi, 3 / (2 * math.pi), 0.5]]
    )
    assert_close(value[0], known.double(), rtol=1e-7, atol=1e-15)


def test_a_steep_erf_is_a_sign():
    u = 1e6 * torch.tensor([[[1.0, 0.0], [1.0, 1.0]]], dtype=F64)
    value, _ = erf_gaussian(u, u)
    # E sign(u·x) sign(v·x) = 1 − 2φ/π with φ = π/4
    assert_close(value[0, 0], torch.tensor([1.0, 0.5], dtype=F64), rtol=0, atol=1e-5)  # 1/slope


@OVERLAPS
def test_the_pull_back_is_that_of_autograd(overlap):
    u, v, weights = net(2, m=3).input, net(2, m=5, first=9).input, torch.randn(2, 3, 5, dtype=F64)
    variable = u.clone().requires_grad_()
    (overlap(variable, v)[0] * weights).sum().backward()
    assert_close(overlap(u, v)[1](weights), variable.grad, rtol=1e-9, atol=1e-11)  # arccos near the ends


@OVERLAPS
@pytest.mark.parametrize("k", [1, 3])
def test_the_gradient_is_that_of_central_differences(overlap, k):
    particles, centre = net(2, k=k), net(2, m=3, k=k, first=20)
    alpha = torch.tensor([0.7, 3.0], dtype=F64)
    risk = PopulationRisk(net(1, m=2, k=k, first=9), overlap, alpha=alpha, centre=centre, scale=0.4)
    gradient = risk.gradient(particles)
    direction = Particles(*(torch.randn(part.shape, generator=stream(3), dtype=F64) for part in particles))
    eps = 1e-5
    ends = [Particles(*(w + s * eps * v for w, v in zip(particles, direction, strict=True))) for s in (1, -1)]
    slope = (risk.risk(ends[0]) - risk.risk(ends[1])) / (2 * eps) / alpha.square()
    expected = sum((g * v).sum((1, 2)) for g, v in zip(gradient, direction, strict=True))
    assert_close(expected, slope, rtol=1e-7, atol=1e-8)  # central differences of step 1e-5
    velocity = risk.velocity(particles)
    assert_close(velocity.input, -4 * gradient.input)
    assert_close(velocity.output, -4 * gradient.output)


@CASES
@pytest.mark.parametrize("k", [1, 2])
def test_risk_and_gradient_are_the_means_over_fresh_samples(overlap, unit, draw, k):
    d, batches, n = 3, 50, 4000
    particles, teacher, centre = net(1, k=k), net(1, m=2, k=k, first=9), net(1, m=3, k=k, first=20)
    population = PopulationRisk(teacher, overlap, alpha=2.0, centre=centre, scale=0.5)
    value, gradient = population.risk_and_gradient(particles)
    source, values, gradients = stream(4), [], []
    for _ in range(batches):
        x = draw(n, d, source)[None]
        y = unit.value(x @ teacher.input.mT) @ teacher.output
        offset = 0.5 * unit.value(x @ centre.input.mT) @ centre.output
        sampled, slopes = TwoLayerRisk(x, y, unit, alpha=2.0, offset=offset, scale=0.5).risk_and_gradient(particles)
        values.append(sampled)
        gradients.append(torch.cat([slopes.output.flatten(), slopes.input.flatten()]))
    for samples, exact in (
        (torch.stack(values), value),
        (torch.stack(gradients), torch.cat([gradient.output.flatten(), gradient.input.flatten()])),
    ):
        error = samples.std(0) / math.sqrt(batches)
        assert ((samples.mean(0) - exact).abs() < 5 * error).all()


@OVERLAPS
def test_a_student_that_is_the_teacher_has_no_risk_up_to_the_rounding_floor(overlap):
    teacher = net(2, m=4, k=2)
    student = Particles(4 * teacher.output, teacher.input)  # the student has the factor 1/m
    risk = PopulationRisk(teacher, overlap)
    zero = PopulationRisk(teacher, overlap).risk(Particles(0 * teacher.output, teacher.input))
    value, gradient = risk.risk_and_gradient(student)
    assert (value.abs() < 1e-14 * zero).all()  # a few dozen roundings of R(0)
    assert gradient.output.abs().max() < 1e-14
    assert gradient.input.abs().max() < 1e-7  # arccos(1 − 1e-16) is 1e-8, times a direction that differs by as much


@OVERLAPS
def test_the_gradient_is_exact_to_rounding_where_student_and_teacher_meet(overlap):
    teacher = net(1, m=3)
    student = Particles(3 * teacher.output, teacher.input)
    assert PopulationRisk(teacher, overlap).gradient(student).input.abs().max() < 1e-14


@OVERLAPS
def test_runs_are_the_same_alone_and_in_any_selection(overlap):
    particles, teacher, centre = net(6), net(2, m=2, first=9), net(6, m=3, first=20)
    alpha = torch.linspace(1, 3, 6, dtype=F64)
    risk = PopulationRisk(teacher, overlap, alpha=alpha, centre=centre)
    value, gradient = risk.risk_and_gradient(particles)
    assert_close(value, risk.risk(particles))
    for chosen in ([0, 4, 5], [3]):
        part = risk.select(torch.tensor(chosen), of=6)
        value_part, gradient_part = part.risk_and_gradient(particles.select(chosen))
        assert_close(value_part, value[chosen])
        assert_close(gradient_part.input, gradient.input[chosen])
    alone = PopulationRisk(teacher.select([1]), overlap, alpha=alpha[3:4], centre=centre.select([3]))
    assert_close(alone.risk(particles.select([3])), value[3:4])


def test_a_neuron_at_the_origin_has_overlap_and_derivative_zero():
    u = torch.zeros(1, 1, 3, dtype=F64)
    value, pull = relu_gaussian(u, net(1).input)
    assert (value == 0).all()
    assert (pull(torch.ones(1, 1, 4, dtype=F64)) == 0).all()


def test_the_gradient_is_written_where_asked():
    particles, risk = net(2), PopulationRisk(net(1, m=2, first=9), relu_sphere)
    memory = Particles(*map(torch.empty_like, particles))
    risk.gradient(particles, memory)
    assert_close(memory.input, risk.gradient(particles).input)


def test_alpha_must_be_positive_and_runs_a_multiple_of_the_teachers():
    with pytest.raises(ValueError, match="alpha as a finite number above 0"):
        PopulationRisk(net(1), relu_gaussian, alpha=0.0)
    with pytest.raises(ValueError, match="3 runs for 2 groups"):
        PopulationRisk(net(2), relu_gaussian).risk(net(3))
