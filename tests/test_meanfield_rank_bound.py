import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from regimes.meanfield.overlaps import erf_gaussian, logistic_gaussian, relu_gaussian, relu_sphere
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk
from regimes.meanfield.rank_bound import rank_bound

F64 = torch.float64
OVERLAPS = pytest.mark.parametrize(
    "overlap", [relu_gaussian, erf_gaussian, logistic_gaussian], ids=lambda overlap: overlap.__name__
)


def net(m, d=3, first=0, runs=2):
    return gaussian(m, d, generators=[torch.Generator().manual_seed(first + run) for run in range(runs)])


@OVERLAPS
@pytest.mark.parametrize("degree", range(6))
def test_coefficients_are_those_of_quadrature(overlap, degree):
    t = torch.arange(-10, 10, 1e-3, dtype=F64)
    density = torch.exp(-t.square() / 2) * 1e-3 / math.sqrt(2 * math.pi)
    polynomials = [torch.ones_like(t), t]
    for n in range(1, degree):
        polynomials.append((t * polynomials[n] - math.sqrt(n) * polynomials[n - 1]) / math.sqrt(n + 1))
    value = (lambda s: s.clamp_min(0)) if overlap is relu_gaussian else overlap.value
    for length in (0.3, 2.0):
        exact = (value(length * t) * polynomials[degree] * density).sum()
        found = overlap.coefficient(torch.tensor(length, dtype=F64), degree)
        assert_close(found.abs(), exact.abs(), rtol=1e-6, atol=1e-7)  # the kink, at a step of 1e-3
        if overlap is relu_gaussian:
            assert_close(found, exact, rtol=1e-6, atol=1e-7)


@OVERLAPS
def test_with_no_neurons_it_is_the_loss_of_zero(overlap):
    teacher = net(4, d=5)
    zero = PopulationRisk(teacher, overlap).risk(Particles(0 * teacher.output, teacher.input))
    bound = rank_bound(teacher, overlap, 0, degrees=100)
    assert (bound <= zero).all()
    assert_close(bound, zero, rtol=2e-3, atol=0)  # degrees above 100


@OVERLAPS
def test_no_trained_net_is_below_it_and_it_ends_with_the_teacher(overlap):
    teacher = net(4, d=5, first=3)
    risk = PopulationRisk(teacher, overlap)
    student = net(3, d=5, first=20)
    for _ in range(300):
        student = Particles(*(w - 0.5 * g for w, g in zip(student, risk.gradient(student), strict=True)))
    bounds = [rank_bound(teacher, overlap, m) for m in range(6)]
    assert (bounds[3] < risk.risk(student)).all()
    assert all((low > high).all() for low, high in pairwise(bounds[:5]))
    assert bounds[4].abs().max() < 1e-14
    assert bounds[5].abs().max() == 0


def test_the_bound_of_two_orthogonal_relus_by_one_is_known():
    teacher = Particles(torch.ones(1, 2, 1, dtype=F64), torch.eye(2, dtype=F64)[None])
    # each of the degrees n = 2, 4, ... keeps one of two equal singular values |c_n|; degree 1 has rank one
    even = sum(float(relu_gaussian.coefficient(torch.ones((), dtype=F64), n)) ** 2 for n in range(2, 41, 2))
    assert_close(rank_bound(teacher, relu_gaussian, 1), torch.tensor([even / 2], dtype=F64))


def test_the_sphere_has_no_hermite_coefficients():
    with pytest.raises(ValueError, match="Gaussian inputs"):
        rank_bound(net(2), relu_sphere, 1)
