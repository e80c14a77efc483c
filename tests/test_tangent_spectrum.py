from itertools import product

import pytest
import torch
from torch.testing import assert_close

from regimes.tangent.spectrum import merge_outputs, spectrum


def with_eigenvalues(values):
    basis = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))[0]
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def test_eigenvalues_and_vectors_give_the_matrix_back():
    kernel = with_eigenvalues([1.0, 2.0, 5.0])
    parts = spectrum(kernel)
    assert_close(parts.values, torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
    assert_close(parts.vectors @ torch.diag(parts.values) @ parts.vectors.mT, kernel)
    assert parts.rank == 3


def test_zero_eigenvalues_are_exactly_zero_and_counted():
    parts = spectrum(with_eigenvalues([0.0, 0.0, 1.0, 3.0]))
    assert parts.rank == 2
    assert torch.equal(parts.values[:2], torch.zeros(2, dtype=torch.float64))
    assert_close(parts.cutoff, torch.tensor(4 * 2.0**-52 * 3, dtype=torch.float64))


def test_the_cutoff_follows_the_dtype_of_the_input():
    kernel = with_eigenvalues([1e-9, 1.0, 1.0])
    assert spectrum(kernel).rank == 3
    single = spectrum(kernel.float())
    assert single.rank == 2
    assert single.values.dtype == torch.float64
    assert spectrum(kernel, cutoff=1e-6).rank == 2


def test_a_batch_is_its_members():
    kernels = torch.stack([with_eigenvalues([0.0, 1.0, 2.0]), with_eigenvalues([1.0, 2.0, 3.0])])
    parts = spectrum(kernels)
    assert parts.rank.tolist() == [2, 3]
    for member, kernel in enumerate(kernels):
        assert_close(parts.values[member], spectrum(kernel).values)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (torch.zeros(2, 3), r"kernel \(\*runs, n, n\); got kernel \(2, 3\)"),
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), "finite entries"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "least eigenvalue is -1"),
    ],
)
def test_matrices_that_are_no_kernels_are_refused(kernel, message):
    with pytest.raises(ValueError, match=message):
        spectrum(kernel)


def test_rounding_below_zero_is_no_error_but_a_negative_eigenvalue_is():
    assert spectrum(with_eigenvalues([-1e-17, 1.0])).rank == 1
    with pytest.raises(ValueError, match="positive semidefinite"):
        spectrum(with_eigenvalues([-1e-10, 1.0]))


def test_merged_outputs_are_sample_major():
    kernel = torch.randn(3, 4, 2, 2)
    merged = merge_outputs(kernel)
    assert merged.shape == (6, 8)
    for i, j, a, b in product(range(3), range(4), range(2), range(2)):
        assert merged[2 * i + a, 2 * j + b] == kernel[i, j, a, b]
    assert_close(merge_outputs(kernel[None])[0], merged)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("share", "kept"), [(0.9, False), (1.1, True)])
def test_what_is_zero_is_told_by_n_rounding_units_of_the_largest_eigenvalue(dtype, share, kept):
    n = 10
    values = 5.0 * torch.ones(n, dtype=dtype)
    values[3] = 5.0 * share * n * torch.finfo(dtype).eps
    parts = spectrum(torch.diag(values))
    assert int(parts.rank) == n - (not kept)
    assert bool(parts.values[0] > 0) == kept
