import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.tangent.iterative import iterative_ridge, predict_iterative
from regimes.tangent.kernel import ntk
from regimes.tangent.operator import tangent_operator
from regimes.tangent.regression import kernel_ridge, predict


def decaying(n, power=3.0):
    """A kernel with eigenvalues n·i^−power, and targets."""
    vectors = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q
    values = n * torch.arange(1, n + 1, dtype=torch.float64) ** -power
    return vectors @ torch.diag(values) @ vectors.mT, torch.randn(n, 2, dtype=torch.float64)


@pytest.mark.parametrize("rank", [0, 20])
def test_it_solves_what_the_eigenvalues_solve(rank):
    kernel, y = decaying(120)
    exact = kernel_ridge(kernel, y, ridge=1e-3)
    fit = iterative_ridge(kernel, y, ridge=1e-3, generator=generator(0), rank=rank, tolerance=1e-9)
    assert fit.residual <= 1e-9
    left = y - (kernel + fit.shift * torch.eye(120, dtype=torch.float64)) @ fit.coefficients
    assert_close(fit.residual, float(left.norm() / y.norm()), rtol=0.1, atol=0)  # of a residual at rounding
    assert_close(fit.coefficients, exact.coefficients, rtol=0, atol=1e-6)  # condition times tolerance
    assert fit.shift == exact.shift == 0.12
    assert 0.5 * float(exact.condition) < fit.condition < 2 * float(exact.condition)
    across = torch.randn(3, 120, dtype=torch.float64)
    assert_close(predict_iterative(fit, across), predict(exact, across), rtol=0, atol=1e-5)  # the same


def test_the_preconditioner_saves_iterations():
    kernel, y = decaying(200)
    plain, helped = (
        iterative_ridge(kernel, y, ridge=1e-5, generator=generator(0), rank=rank, tolerance=1e-8) for rank in (0, 60)
    )
    assert helped.iterations < plain.iterations / 3
    assert helped.preconditioned < plain.preconditioned / 10


@pytest.mark.slow
def test_products_with_a_network_need_no_kernel():
    net = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 2)).double()
    x, y = torch.randn(15, 3, dtype=torch.float64), torch.randn(15, 2, dtype=torch.float64)
    operator, full = tangent_operator(net, x), ntk(net, x)
    exact = kernel_ridge(full, y, ridge=1e-2)
    given = {"operator": operator, "function": operator.matvec, "kernel": full, "array": full.numpy()}
    for kernel in given.values():
        fit = iterative_ridge(kernel, y, ridge=1e-2, generator=generator(0), rank=5, tolerance=1e-9)
        assert_close(fit.coefficients, exact.coefficients, rtol=0, atol=1e-6)  # condition times tolerance
    x_test = torch.randn(4, 3, dtype=torch.float64)
    across = ntk(net, x_test, x)
    assert_close(predict_iterative(fit, across), operator.jvp(operator.vjp(fit.coefficients), x_test))


def test_a_kernel_in_a_file_is_read_in_blocks(tmp_path, monkeypatch):
    kernel, y = decaying(50)
    np.save(tmp_path / "kernel.npy", kernel.numpy())
    monkeypatch.setattr("regimes.tangent.iterative._BLOCK", 700)
    mapped = np.load(tmp_path / "kernel.npy", mmap_mode="r")
    fit = iterative_ridge(mapped, y, ridge=1e-2, generator=generator(0), rank=10)
    assert_close(fit.coefficients, kernel_ridge(kernel, y, ridge=1e-2).coefficients, rtol=0, atol=1e-4)  # tolerance


def test_an_answer_that_has_not_converged_is_refused_with_its_residual():
    kernel, y = decaying(120, power=1.0)
    with pytest.raises(ValueError, match=r"more than 3 iterations: the residual is \d\.\d+e[-+]\d+ of ‖y‖, not 1e-12"):
        iterative_ridge(kernel, y, ridge=1e-7, generator=generator(0), rank=0, tolerance=1e-12, iterations=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": torch.eye(5).double()}, r"a kernel \(6, 6\) or \(6, 6, 2, 2\) .*; got \(5, 5\)"),
        ({"kernel": torch.diag(torch.tensor([1.0, 1, 1, 1, 1, float("nan")])).double()}, "finite kernel"),
        ({"kernel": -torch.eye(6).double()}, "positive"),
        ({"y": torch.full((6, 2), float("nan"))}, "finite y"),
        ({"ridge": 0.0}, "ridge as a finite number above 0"),
        ({"rank": -1}, "rank"),
        ({"kernel": 3}, "kernel as a tensor"),
    ],
)
def test_what_cannot_be_solved_is_refused(change, message):
    given = {"kernel": torch.eye(6).double(), "y": torch.ones(6, 2), "ridge": 0.1, "generator": generator(0)}
    with pytest.raises(ValueError, match=message):
        iterative_ridge(**given | change)


def test_singular_kernels_duplicate_points_one_sample_and_zero_targets_have_their_answers():
    ones = torch.ones(4, 4, dtype=torch.float64)
    y = torch.arange(4.0, dtype=torch.float64)[:, None]
    for kernel, targets in ((ones, y), (torch.eye(1).double(), y[1:2]), (ones, 0 * y), (0 * ones, y)):
        fit = iterative_ridge(kernel, targets, ridge=0.1, generator=generator(0), rank=2)
        assert_close(fit.coefficients, kernel_ridge(kernel, targets, ridge=0.1).coefficients, rtol=0, atol=1e-4)  # tol


def test_the_condition_is_told_where_the_first_targets_are_zero():
    factor, y = torch.randn(30, 40, dtype=torch.float64, generator=generator(3)), torch.randn(30, 2).double()
    kernel, how = factor @ factor.T, {"generator": generator(1), "rank": 0}
    whole = iterative_ridge(kernel, y, ridge=1e-3, **how).condition
    y[:, 0] = 0
    assert float(iterative_ridge(kernel, y, ridge=1e-3, **how).condition) > 0.5 * float(whole) > 1


@pytest.mark.slow
def test_a_kernel_of_another_kind_than_the_fitted_one_is_refused():
    net = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 2)).double()
    x, x_test, y = (torch.randn(n, d, dtype=torch.float64) for n, d in ((8, 3), (4, 3), (8, 2)))
    operator, full, trace = tangent_operator(net, x), ntk(net, x), ntk(net, x, outputs="trace")
    across = {True: ntk(net, x_test, x), False: ntk(net, x_test, x, outputs="trace")}
    for kernel, pairs in ((full, True), (full.numpy(), True), (operator, True), (trace, False)):
        fit = iterative_ridge(kernel, y, ridge=1e-2, generator=generator(0), rank=5)
        assert predict_iterative(fit, across[pairs]).shape == (4, 2)
        with pytest.raises(ValueError, match="predict_iterative needs k_test_train"):
            predict_iterative(fit, across[not pairs])
    for kernel in (operator.matvec, lambda v: trace @ v):  # of which no kind is known
        fit = iterative_ridge(kernel, y, ridge=1e-2, generator=generator(0), rank=5)
        assert all(predict_iterative(fit, each).shape == (4, 2) for each in across.values())


def test_with_one_output_both_kinds_of_kernels_are_one():
    net = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 1)).double()
    x, y = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)
    fit = iterative_ridge(tangent_operator(net, x), y, ridge=1e-2, generator=generator(0), rank=5)
    assert_close(predict_iterative(fit, ntk(net, x)), predict_iterative(fit, ntk(net, x, outputs="trace")))
