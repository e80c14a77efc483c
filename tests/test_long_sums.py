"""Sums of millions of float32 entries, against float64."""

import pytest
import torch
from torch.testing import assert_close

from regimes.long_sums import norm, products
from regimes.tangent.gram.footprint import most_bytes
from regimes.tangent.gram.forms import APPLIED, PAIRS, ROWS
from regimes.tangent.lanczos import lanczos
from regimes.tangent.laziness import alignment

LENGTH = 3_000_000


@pytest.mark.parametrize("rows", [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_products_of_long_rows_keep_six_digits(rows):
    torch.manual_seed(0)
    one, other = (torch.rand(count, LENGTH) for count in rows)
    assert_close(products(one, other).double(), one.double() @ other.double().mT, rtol=1e-6, atol=0)


def test_the_norm_of_many_entries_keeps_six_digits():
    torch.manual_seed(0)
    values = torch.randn(LENGTH)
    exact = values.double().square().sum().sqrt().float()
    assert_close(norm(values), exact, rtol=1e-6, atol=0)
    assert_close(norm(torch.complex(values, -values)), 2**0.5 * exact, rtol=1e-6, atol=0)
    assert_close(norm(values.view(3, 1000, -1), 2).square().sum().sqrt(), exact, rtol=1e-6, atol=0)


def test_the_norm_makes_no_copy_of_all_entries():
    values = torch.ones(2, 5_000_000)
    for axes in (None, 1, 2):
        most, found = most_bytes(lambda axes=axes: norm(values, axes), [values])
        assert_close(found.square().sum(), torch.tensor(1e7))
        assert most < values.nbytes / 2


def test_rows_of_many_parameters_multiply_to_six_digits():
    torch.manual_seed(0)
    piece = (torch.rand(1, 2, 1, LENGTH),)
    tile = torch.zeros(1, 2, 1, 2, 1)
    ROWS.add(tile, piece, piece)
    rows = piece[0].view(2, -1).double()
    assert_close(tile.view(2, 2).double(), rows @ rows.mT, rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", [PAIRS, APPLIED])
def test_factors_of_many_entries_multiply_to_six_digits(form):
    torch.manual_seed(0)
    deltas, inputs = torch.rand(1, 1, 2, 1, 2, 10), torch.rand(1, 2, 2, LENGTH // 2)
    tile = torch.zeros(1, 2, 1, 2, 1)
    form.add(tile, (deltas, inputs), (deltas, inputs))
    rows = torch.einsum("nso,nsi->noi", deltas[0, 0, :, 0].double(), inputs[0].double()).flatten(1)
    assert_close(tile.view(2, 2).double(), rows @ rows.mT, rtol=1e-6, atol=0)


def test_lanczos_finds_the_one_eigenvalue_in_many_dimensions():
    torch.manual_seed(0)
    start = torch.randn(LENGTH)
    (step,) = lanczos(lambda v: 2 * v, start, 1)
    assert step.value == pytest.approx(2.0, rel=1e-6)


def test_a_large_kernel_is_aligned_with_its_target_by_one_at_most():
    torch.manual_seed(0)
    y = torch.rand(1800, 1)
    assert float(alignment(y @ y.mT, y)) == pytest.approx(1.0, abs=1e-6)
