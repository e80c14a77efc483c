import math

import pytest
import torch
from torch.testing import assert_close

from regimes.tangent.lanczos import DOUBT, ceiling, lanczos


def operator(values):
    vectors = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64)).Q
    return vectors @ torch.diag(values) @ vectors.mT


def steps(matrix, number):
    start = torch.randn(len(matrix), dtype=torch.float64)
    return list(lanczos(lambda v: matrix @ v, start, number))


SPECTRA = {
    "flat": torch.linspace(0, 1, 300, dtype=torch.float64),
    "decaying": torch.arange(1, 301, dtype=torch.float64) ** -2,
    "one far above": torch.cat([torch.ones(299), torch.tensor([50.0])]).double(),
    "top of two nearly equal": torch.cat([torch.zeros(298), torch.tensor([1.0, 1.0001])]).double(),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_largest_eigenvalue_lies_between_the_bounds_at_every_step(name):
    top = float(SPECTRA[name].max())
    for _ in range(5):
        for step in steps(operator(SPECTRA[name]), 30):
            assert step.value <= top * (1 + 1e-12)  # rounding
            assert ceiling(step, 300) >= top * (1 - 1e-12)  # rounding
    assert ceiling(step, 300) <= 1.2 * step.value


def test_the_residual_is_that_of_the_vector():
    matrix = operator(SPECTRA["flat"])
    for step in steps(matrix, 12):
        v = step.vector()
        assert_close(float((matrix @ v - step.value * v).norm()), step.residual)
        assert_close(float(v.norm()), 1.0)


def test_as_many_steps_as_dimensions_or_distinct_eigenvalues_give_it_exactly():
    values = torch.tensor([3.0, 1.0, 2.0]).double()
    for matrix in (operator(values), operator(values.repeat(20))):
        *_, last = steps(matrix, 50)
        assert last.whole
        assert last.steps == 3
        assert_close(ceiling(last, len(matrix)), 3.0)


def test_of_an_indefinite_operator_it_finds_the_eigenvalue_of_largest_modulus():
    *_, last = steps(operator(torch.linspace(-4, 3, 40, dtype=torch.float64)), 40)
    assert_close(last.value, -4.0)


def test_an_operator_that_is_zero_has_the_top_zero():
    (only,) = steps(torch.zeros(5, 5, dtype=torch.float64), 10)
    assert only.value == ceiling(only, 5) == 0


def test_a_stop_that_the_bound_decides_pays_for_every_look():
    """As many looks as steps, each with its share of the doubt: the bound of one look at a smaller doubt."""
    matrix = torch.diag(torch.linspace(0.0, 1.0, 300, dtype=torch.float64))
    *_, step = lanczos(lambda v: matrix @ v, torch.randn(300, dtype=torch.float64), 30)
    one, many = ceiling(step, 300), ceiling(step, 300, 30)
    missed = (math.log(1.648 * 300**0.5 * 30 / DOUBT) / (2 * 30 - 1)) ** 2
    assert_close(many, step.value / (1 - missed))
    assert one < many
