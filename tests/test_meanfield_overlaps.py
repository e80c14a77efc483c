import math

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch.testing import assert_close

from regimes.meanfield.overlaps import (
    LOGISTIC_ERROR,
    erf_gaussian,
    logistic,
    logistic_gaussian,
    relu_gaussian,
    relu_sphere,
)
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk

F64 = torch.float64
OVERLAPS = pytest.mark.parametrize(
    "overlap", [relu_gaussian, relu_sphere, erf_gaussian, logistic_gaussian], ids=lambda overlap: overlap.__name__
)
TERMS = pytest.mark.parametrize("terms", LOGISTIC_ERROR)


def net(m, d=3, k=1, first=0, runs=2):
    return gaussian(m, d, k, generators=[torch.Generator().manual_seed(first + run) for run in range(runs)])


def by_quadrature(long, other, cosine, step=0.025):
    """E σ(long X) σ(other Y), X and Y normal with that correlation, by the trapezoidal rule: exact to rounding.

    The poles of σ(10 s) are 0.31 from the real line, so the rule is off by exp(−2π 0.31/step), below 1e-33.
    """
    x = np.arange(-9, 9, step)
    density = np.exp(-(x**2) / 2) * step / math.sqrt(2 * math.pi)
    inner = expit(other * (cosine * x[:, None] + math.sqrt(1 - cosine**2) * x[None])) @ density
    return float((expit(long * x) * inner) @ density)


@TERMS
def test_the_sum_of_error_functions_is_the_logistic_function_to_its_stated_error(terms):
    s = torch.linspace(-60, 60, 60_001, dtype=F64)
    error = float((logistic(terms).value(s) - s.sigmoid()).abs().max())
    assert 0.9 * LOGISTIC_ERROR[terms] < error < LOGISTIC_ERROR[terms]


@pytest.mark.parametrize("lengths", [(0.1, 1.0), (3.0, 3.0), (10.0, 10.0), (10.0, 0.5)])
@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.3, 0.999])
def test_the_logistic_overlap_is_that_of_quadrature_to_its_stated_error(lengths, cosine):
    u = torch.tensor([[[lengths[0], 0.0]]], dtype=F64)
    v = lengths[1] * torch.tensor([[[cosine, math.sqrt(1 - cosine**2)]]], dtype=F64)
    exact = by_quadrature(*lengths, cosine)
    for terms, error in LOGISTIC_ERROR.items():
        assert abs(float(logistic(terms)(u, v)[0]) - exact) < 2 * error


def test_a_logistic_overlap_needs_terms_that_are_known():
    with pytest.raises(ValueError, match="terms as one of 3, 4, 6, 8, 10; got 5"):
        logistic(5)


@OVERLAPS
def test_sums_over_the_second_net_are_those_of_the_pairs(overlap):
    (u, v), charges = (net(m, first=first).input for m, first in ((4, 0), (6, 9))), net(6, first=20).output[..., 0]
    value, pull = overlap(u, v)
    sums, slopes = overlap.field(u, v, charges)
    assert_close(sums, (value @ charges.unsqueeze(2)).squeeze(2), rtol=1e-12, atol=1e-14)
    assert_close(slopes, pull(charges.unsqueeze(1).expand(-1, 4, -1)), rtol=1e-12, atol=1e-14)


@OVERLAPS
def test_risk_and_gradient_are_finite_with_weights_of_1e8(overlap):
    lengths = torch.tensor([1e8, 1e8, 1.0, 0.0, 1e-8], dtype=F64).reshape(1, 5, 1)
    u = lengths * torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [1.0, 0.0], [-0.6, -0.8]]], dtype=F64)
    student = Particles(torch.ones(1, 5, 1, dtype=F64), u)
    for teacher in (student, Particles(-student.output, -student.input), net(2, d=2, runs=1)):
        risk, gradient = PopulationRisk(teacher, overlap).risk_and_gradient(student)
        assert all(part.isfinite().all() for part in (risk, *gradient))
        value, pull = overlap(student.input, teacher.input)
        assert value.isfinite().all()
        assert pull(torch.ones_like(value)).isfinite().all()


@pytest.mark.parametrize("overlap", [erf_gaussian, logistic_gaussian], ids=["erf", "logistic"])
def test_at_weights_of_1e8_it_is_the_overlap_of_signs(overlap):
    u = 1e8 * torch.tensor([[[1.0, 0.0], [0.6, 0.8], [-0.6, 0.8]]], dtype=F64)
    value, pull = overlap(u, u[:, :1])
    angle = torch.atan2(u[0, :, 1], u[0, :, 0])
    sizes = (1.0, 0.0) if overlap is erf_gaussian else (0.25, 0.25)  # σ(±∞) = ±1, or 0 and 1
    assert_close(value[0, :, 0], sizes[0] * (1 - 2 * angle / math.pi) + sizes[1], rtol=0, atol=1e-7)
    # the sign overlap falls by 2/π with the angle: −2/π (sin, −cos)-wards, over the length
    expected = sizes[0] * 2 / math.pi / 1e8 * torch.tensor([[0.8, -0.6], [0.8, 0.6]], dtype=F64)
    assert_close(pull(torch.ones_like(value))[0, 1:], expected, rtol=1e-7, atol=1e-20)


def parallel_student():
    """Neurons in general position, an equal and an opposite one, and a longer copy of one of the teacher's."""
    teacher, (output, some) = net(2, first=9, runs=1), net(2)
    input = torch.cat([some, some[:, :1], -some[:, 1:], 2 * teacher.input[:, :1].expand(len(some), -1, -1)], 1)
    return Particles(torch.cat([output, output, output[:, :1]], 1), input), teacher


@OVERLAPS
def test_autograd_gives_the_gradient_of_the_risk(overlap):
    student, teacher = parallel_student()
    risk = PopulationRisk(teacher, overlap)
    variables = [part.clone().requires_grad_() for part in student]
    gradient = torch.autograd.grad(risk.risk(Particles(*variables)).sum(), variables)
    of_functions = torch.func.grad(lambda *parts: risk.risk(Particles(*parts)).sum(), (0, 1))(*student)
    for found, again, expected in zip(gradient, of_functions, risk.gradient(student), strict=True):
        assert_close(found, expected, rtol=1e-9, atol=1e-11)
        assert_close(again, expected, rtol=1e-9, atol=1e-11)


@OVERLAPS
def test_autograd_gives_the_derivative_of_the_gradient(overlap):
    student, teacher = parallel_student()
    risk, way = PopulationRisk(teacher, overlap), net(5, first=30)
    variables = [part.clone().requires_grad_() for part in student]
    slopes = torch.autograd.grad(risk.risk(Particles(*variables)).sum(), variables, create_graph=True)
    along = sum((slope * part).sum() for slope, part in zip(slopes, way, strict=True))
    found = torch.autograd.grad(along, variables)
    h = 1e-5
    moved = lambda size: Particles(student.output + size * way.output, student.input + size * way.input)  # noqa: E731
    ahead, behind = risk.gradient(moved(h)), risk.gradient(moved(-h))
    for one, plus, minus in zip(found, ahead, behind, strict=True):
        assert_close(one, (plus - minus) / (2 * h), rtol=1e-4, atol=1e-4)


def test_the_teacher_is_kept_by_its_runs_and_its_scale():
    teacher, centre = net(2, first=9, runs=1), net(3, first=20)
    risk = PopulationRisk(teacher, erf_gaussian)
    for m, runs in ((4, 2), (4, 1), (7, 2), (4, 2)):
        student = net(m, runs=runs)
        assert_close(risk.risk(student), PopulationRisk(teacher, erf_gaussian).risk(student))
    centred = PopulationRisk(teacher, erf_gaussian, centre=centre)
    for m in (4, 7):
        assert_close(centred.risk(net(m)), PopulationRisk(teacher, erf_gaussian, centre=centre).risk(net(m)))
