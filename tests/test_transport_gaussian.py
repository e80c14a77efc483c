import pytest
import torch
from torch.testing import assert_close

from regimes.transport.gaussian import bures_cost, bures_map


def covariance(seed, d):
    a = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T + 0.1 * torch.eye(d, dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 2, 16])
def test_the_map_carries_one_gaussian_to_the_other_and_costs_the_distance(d):
    cov_x, cov_y = covariance(1, d), covariance(2, d)
    mean_x, mean_y = torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64)
    optimal = bures_map(mean_x, cov_x, mean_y, cov_y)
    assert_close(optimal.matrix @ cov_x @ optimal.matrix, cov_y)
    assert_close(optimal(mean_x), mean_y)
    assert_close(optimal.matrix, optimal.matrix.T)
    assert torch.linalg.eigvalsh(optimal.matrix)[0] > 0
    # E‖x − T(x)‖² = ‖means‖² + tr((I − A) cov_x (I − A))
    rest = torch.eye(d, dtype=torch.float64) - optimal.matrix
    assert_close(bures_cost(mean_x, cov_x, mean_y, cov_y), d + torch.trace(rest @ cov_x @ rest))


def test_on_a_line_the_distance_is_that_of_means_and_deviations():
    one = torch.ones(1, dtype=torch.float64)
    cost = bures_cost(0 * one, torch.diag(4 * one), 3 * one, torch.diag(25 * one))
    assert_close(cost, torch.tensor(9.0 + 9.0, dtype=torch.float64))


def test_a_singular_source_determines_no_map():
    eye = torch.eye(2, dtype=torch.float64)
    flat = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    zero = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="regular cov_x"):
        bures_map(zero, flat, zero, eye)
    assert_close(bures_cost(zero, flat, zero, eye), torch.tensor(1.0, dtype=torch.float64))


def test_matrices_that_are_no_covariance_are_refused():
    zero, eye = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="symmetric"):
        bures_cost(zero, -eye, zero, eye)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-24, 1e-12, 1.0, 1e15, 1e30])
def test_units_change_neither_map_nor_relative_cost(scale, dtype):
    zero, one = torch.zeros(2, dtype=dtype), torch.eye(2, dtype=dtype)
    assert_close(bures_map(zero, scale * one, zero, 4 * scale * one).matrix, 2 * one)
    cost = bures_cost(zero, scale * one, zero, 4 * scale * one)
    assert_close(cost / scale, torch.tensor(2.0, dtype=dtype), rtol=1e-5, atol=0)


def test_a_singular_covariance_of_float32_is_refused():
    for seed in range(100):
        factor = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
        with pytest.raises(ValueError, match="regular cov_x"):
            bures_map(torch.zeros(6), factor @ factor.T, torch.zeros(6), torch.eye(6))
