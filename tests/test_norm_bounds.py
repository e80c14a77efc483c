from fractions import Fraction

import pytest
import torch
from torch.nn.functional import conv2d
from torch.testing import assert_close

from regimes.models import norm_bounds
from regimes.models.norm_bounds import (
    gram_norm,
    gram_norm_of_convolution,
    norm_bound,
    norm_bound_of_convolution,
    power_norm,
)


def true_norm(matrix):
    return torch.linalg.matrix_norm(matrix.double(), 2)


def orthogonal(rows, columns):
    return torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), dtype=torch.float64)).Q


def near_ties(n):
    """All singular values within 1e-12: the worst case of power iteration and of the Frobenius norm."""
    spectrum = 1 + 1e-12 * torch.rand(n, dtype=torch.float64)
    return orthogonal(n, n) * spectrum @ orthogonal(n, n)


ADVERSARIAL = {
    "orthogonal": lambda: orthogonal(40, 40),
    "tall": lambda: torch.randn(200, 3, dtype=torch.float64),
    "wide": lambda: torch.randn(2, 150, dtype=torch.float64),
    "rank one": lambda: torch.randn(30, 1, dtype=torch.float64) @ torch.randn(1, 30, dtype=torch.float64),
    "near ties": lambda: near_ties(30),
    "Hilbert": lambda: 1 / (1 + torch.arange(20)[:, None] + torch.arange(20)).double(),
    "Jordan": lambda: torch.eye(25, dtype=torch.float64) + torch.diag(torch.ones(24), 1).double(),
    "huge": lambda: 1e300 * torch.randn(6, 6, dtype=torch.float64),
    "tiny": lambda: 1e-300 * torch.randn(6, 6, dtype=torch.float64),
    "of all sizes": lambda: torch.randn(9, 9, dtype=torch.float64) * 10.0 ** torch.arange(-160, 20, 20),
    "single": lambda: torch.tensor([[-0.3]], dtype=torch.float64),
    "float32": lambda: torch.randn(20, 30),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("iterations", [0, 6, 12, pytest.param(40, marks=pytest.mark.slow)])
def test_the_bound_is_never_below_the_norm(name, iterations):
    for _ in range(5):
        matrix = ADVERSARIAL[name]()
        found, exact = float(norm_bound(matrix, iterations)), float(true_norm(matrix))
        assert found >= exact * (1 - 1e-13)  # the rounding of the decomposition that it is compared with


def test_the_bound_is_above_the_norm_where_that_is_known_without_rounding():
    """Powers of 2 on the diagonal: every product is exact, and what the bound adds is for rounding alone."""
    for scale in (2.0**-1000, 0.5, 1.0, 2.0**60, 2.0**900):
        assert float(norm_bound(scale * torch.eye(7, dtype=torch.float64))) > scale
    assert float(norm_bound(torch.tensor([[3.0, 4.0]]), 0)) > 5
    assert float(norm_bound(torch.ones(8, 8))) > 8


def test_the_bound_comes_as_near_as_the_rank_allows():
    for n in (3, 50):
        for iterations in (3, 12):
            assert float(norm_bound(orthogonal(n, n), iterations)) == pytest.approx(
                n ** (0.5 / 2**iterations), rel=1e-9
            )
    matrix = torch.randn(60, 40)
    assert float(norm_bound(matrix)) < 1.001 * float(true_norm(matrix))


def too_small(matrix, bound):
    """Whether B² − AᵀA has a negative eigenvalue, for two columns at most, in fractions: no rounding at all."""
    columns = [[Fraction(float(entry)) for entry in column] for column in matrix.mT]
    gram = [[sum(x * y for x, y in zip(one, other, strict=True)) for other in columns] for one in columns]
    square = Fraction(float(bound)) ** 2
    if len(columns) == 1:
        return square < gram[0][0]
    first, last = square - gram[0][0], square - gram[1][1]
    return first < 0 or last < 0 or first * last < gram[0][1] ** 2


@pytest.mark.parametrize("iterations", [0, 3, pytest.param(30, marks=pytest.mark.slow)])
def test_in_exact_arithmetic_no_bound_is_too_small_and_without_the_allowance_for_rounding_some_are(
    iterations, monkeypatch
):
    matrices = [torch.randn(rows, 1 + rows % 2, dtype=torch.float64) for rows in range(2, 60)]
    matrices += [torch.ones(rows, 1) * torch.rand(1) for rows in range(1, 30)]
    assert not any(too_small(matrix, norm_bound(matrix, iterations)) for matrix in matrices)
    monkeypatch.setattr(norm_bounds, "_up", lambda value: value)
    monkeypatch.setattr(norm_bounds, "gamma", lambda terms: 0.0)
    assert any(too_small(matrix, norm_bound(matrix, iterations)) for matrix in matrices if matrix.shape[1] == 1)


def test_zeros_have_norm_zero_and_no_matrix_in_a_batch_spoils_another():
    batch = torch.stack([torch.zeros(3, 4), torch.ones(3, 4), 1e-20 * torch.ones(3, 4)])
    assert norm_bound(batch)[0] == 0
    assert_close(norm_bound(batch)[1:], torch.tensor([12**0.5, 12**0.5 * 1e-20]).double(), rtol=1e-6, atol=0.0)
    assert_close(gram_norm(batch), torch.tensor([0, 12**0.5, 12**0.5 * 1e-20]), rtol=1e-5, atol=0.0)
    batch.requires_grad_()
    gram_norm(batch).sum().backward()
    assert bool(batch.grad.isfinite().all())


@pytest.mark.slow
def test_gram_iteration_is_a_schatten_norm_with_its_gradient():
    matrix = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    for iterations in (0, 2, 3):
        singular = torch.linalg.svdvals(matrix)
        power = 2 ** (iterations + 1)
        assert_close(gram_norm(matrix, iterations), (singular**power).sum() ** (1 / power))
    assert torch.autograd.gradcheck(lambda a: gram_norm(a, 3), matrix)
    assert torch.autograd.gradgradcheck(lambda a: gram_norm(a, 2), matrix)
    kernel = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: gram_norm_of_convolution(k, (4, 3), 3), kernel)


def operator(kernel, size):
    """The convolution with zero padding as a matrix, column by column."""
    inputs = kernel.shape[1] * size[0] * size[1]
    images = torch.eye(inputs, dtype=torch.float64).reshape(inputs, kernel.shape[1], *size)
    sides = (kernel.shape[2] // 2, kernel.shape[3] // 2)
    return conv2d(images, kernel.double(), padding=sides).flatten(1).mT


KERNELS = {
    "random": lambda: torch.randn(3, 2, 3, 3),
    "wide": lambda: torch.randn(2, 3, 1, 5),
    "one tap": lambda: torch.nn.functional.pad(torch.randn(3, 3, 1, 1), (0, 2, 2, 0)),
    "mean": lambda: torch.full((1, 1, 3, 3), 1 / 9),
    "difference": lambda: torch.tensor([[[[0.0, 0, 0], [0, 1, -1], [0, 0, 0]]]]),
    "checkers": lambda: torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])[None, None],
    "large": lambda: torch.randn(2, 2, 7, 7),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6)])
def test_the_bound_of_a_convolution_is_never_below_the_norm_of_its_matrix(name, size):
    for _ in range(3):
        kernel = KERNELS[name]()
        exact = float(true_norm(operator(kernel, size)))
        assert float(norm_bound_of_convolution(kernel, size)) >= exact * (1 - 1e-13)
        assert float(gram_norm_of_convolution(kernel, size)) >= exact * (1 - 1e-6)


def test_it_is_the_norm_on_the_torus_and_near_the_exact_one_on_large_images():
    kernel = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    torus = torch.nn.functional.pad(torch.eye(98, dtype=torch.float64).reshape(98, 2, 7, 7), (1, 1, 1, 1), "circular")
    around = float(true_norm(conv2d(torus, kernel).flatten(1)))
    assert float(norm_bound_of_convolution(kernel, (6, 6))) == pytest.approx(around, rel=1e-3)
    kernel = torch.rand(1, 1, 3, 3, dtype=torch.float64)
    assert float(norm_bound_of_convolution(kernel, (16, 16))) < 1.03 * float(true_norm(operator(kernel, (16, 16))))


def test_the_torus_of_the_image_itself_would_not_be_enough():
    """Without the zeros around it the frequencies of a small torus can miss the largest response."""
    kernel = torch.tensor([[[[0.0, 0, 0], [1, 0, -1], [0, 0, 0]]]])
    exact = float(true_norm(operator(kernel, (2, 2))))
    blocks = norm_bounds.symbols(kernel.double(), (2, 1))  # a torus of 3 × 2 in place of 3 × 3
    assert float(true_norm(blocks).amax()) < exact <= float(norm_bound_of_convolution(kernel, (2, 2)))


def test_power_iteration_is_an_estimate_from_below():
    draw = torch.Generator().manual_seed(0)
    estimates = []
    for _ in range(20):
        matrix = near_ties(30) + 0.01 * torch.randn(30, 30, dtype=torch.float64)
        estimate, exact = float(power_norm(matrix, 10, generator=draw)), float(true_norm(matrix))
        assert estimate <= exact * (1 + 1e-13) <= float(norm_bound(matrix)) * (1 + 1e-13)
        estimates.append(estimate / exact)
    assert max(estimates) < 0.999  # ten steps: none is near enough to stand for the norm


@pytest.mark.parametrize("size", [1e-40, 1e-25, 1e25, 1e37])
def test_norms_of_all_sizes_are_found(size):
    draw = torch.Generator().manual_seed(0)
    matrix = size * torch.eye(4)
    exact = float(matrix[0, 0])
    assert float(gram_norm(matrix)) == pytest.approx(4**0.5**7 * exact, rel=1e-4)
    assert float(power_norm(matrix, generator=draw)) == pytest.approx(exact, rel=1e-12)


def test_power_iteration_stays_below_the_norm_of_matrices_in_float32():
    matrix = torch.eye(50) * 0.1
    for seed in range(20):
        found = power_norm(matrix, 3, generator=torch.Generator().manual_seed(seed))
        assert found.dtype == torch.float64
        assert float(found) <= float(true_norm(matrix)) * (1 + 1e-13)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="finite"):
        norm_bound(torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match="odd"):
        norm_bound_of_convolution(torch.ones(1, 1, 2, 2), (3, 3))
    with pytest.raises(ValueError, match="iterations"):
        norm_bound(torch.ones(2, 2), -1)
