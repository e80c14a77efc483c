from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from regimes.transport.cost import cost_matrix
from regimes.transport.partition import kd_blocks, lower_bound, thin
from regimes.transport.pricing import Pricer


def problem(n, m, d, p, outliers):
    rng = np.random.default_rng(d)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 0.5
    if outliers:
        x[:30], y[:40] = x[:30] + 1e6, y[:40] - 1e6
    v = rng.normal(size=m) * 0.2
    u = (cost_matrix(x, y, p) - v).min(1) + rng.normal(size=n) * 0.05
    return x, y, u, v, cost_matrix(x, y, p) - u[:, None] - v


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("d", [1, 2, 20])
def test_all_pairs_are_priced_and_the_least_of_every_row_is_found(d, p, outliers):
    x, y, u, v, reduced = problem(800, 700, d, p, outliers)
    priced = Pricer(x, y, p).price(u, v, level=0.01, most=5)
    least = np.minimum(reduced.min(1), 0.01)
    # Costs of 1e12 at p = 2, 1e18 at p = 3, beside potentials of 1: only rounding of the large ones differs.
    np.testing.assert_allclose(priced.row_least, least, atol=1e-12 * np.abs(u).max() + 1e-12)
    np.testing.assert_allclose(
        priced.reduced, reduced[priced.rows, priced.columns], atol=1e-12 * np.abs(u).max() + 1e-12
    )
    assert np.bincount(priced.rows, minlength=800).max() <= 5


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("d", [2, 20])
def test_pairs_computed_anew_where_they_were_found_are_those_of_the_host(d, p):
    # What a card does, on a CPU: larger blocks, and exact reduced costs by torch; the level parts pairs in both alike.
    x, y, u, v, _ = problem(900, 800, d, p, True)
    host, card = Pricer(x, y, p), Pricer(x, y, p)
    card.on_card, card.points = True, (torch.from_numpy(x), torch.from_numpy(y))
    card.row_blocks, card.column_blocks = card._blocks(card.centred[0], 800), card._blocks(card.centred[1], 900)
    for one, other, first, second in ((host, card, u, v), (host.transposed(), card.transposed(), v, u)):
        a, b = (side.price(first, second, level=0.01, most=5) for side in (one, other))
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_allclose(a.reduced, b.reduced, atol=1e-12 * np.abs(u).max() + 1e-12)
        np.testing.assert_allclose(a.row_least, b.row_least, atol=1e-12 * np.abs(u).max() + 1e-12)
    assert card.transposed().points[0] is card.points[1]


@pytest.mark.parametrize("most", [3, 50])
def test_the_pairs_of_a_row_are_its_smallest(most):
    x, y, u, v, reduced = problem(900, 800, 2, 2.0, False)
    priced = Pricer(x, y, 2.0).price(u, v, level=0.3, most=most)
    for row in range(0, 900, 97):
        truth = np.sort(reduced[row][reduced[row] < 0.3])[:most]
        np.testing.assert_allclose(priced.reduced[priced.rows == row], truth, atol=1e-12)


def test_chosen_rows_only_and_columns_by_the_transpose():
    x, y, u, v, reduced = problem(900, 800, 2, 2.0, False)
    pricer, chosen = Pricer(x, y, 2.0), np.array([3, 500])
    priced = pricer.price(u, v, level=1.0, chosen=chosen)
    np.testing.assert_array_equal(np.unique(priced.rows), chosen)
    across = pricer.transposed().price(v, u, level=0.01, most=900)
    assert len(across.rows) == (reduced < 0.01).sum()
    np.testing.assert_allclose(across.row_least, np.minimum(reduced.min(0), 0.01), atol=1e-12)


def test_the_quick_minimum_is_the_minimum():
    x, y, _, v, _ = problem(300, 200, 5, 1.5, False)
    assert_close(Pricer(x, y, 1.5).least(v), (cost_matrix(x, y, 1.5) - v).min(1))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("d", [1, 2, 8])
def test_no_reduced_cost_lies_below_the_bound_of_its_blocks(d, p):
    x, y, u, v, reduced = problem(600, 500, d, p, False)
    rows, columns = kd_blocks(x, 32), kd_blocks(y, 32)
    bound = lower_bound(rows, columns, x, y, u, v, p)
    for b, block in enumerate(rows.members):
        for c, other in enumerate(columns.members):
            assert bound[b, c] <= reduced[np.ix_(block, other)].min()


def exactly(point, other, p):
    """‖point − other‖^p of the numbers that floats stand for, to 60 digits."""
    with localcontext(prec=60):
        squared = sum((Decimal(float(a)) - Decimal(float(b))) ** 2 for a, b in zip(point, other, strict=True))
        return squared ** (Decimal(p) / 2)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_rounding_does_not_lift_the_bound_above_the_exact_reduced_cost(p):
    # Blocks of one point: without rounding the bound would be the reduced cost itself, and binding pairs have 0.
    rng = np.random.default_rng(0)
    x, y = 10 + rng.normal(size=(20, 3)), 10 + rng.normal(size=(20, 3))
    u, v = np.diagonal(cost_matrix(x, y, p)).copy(), np.zeros(20)
    rows, columns = kd_blocks(x, 1), kd_blocks(y, 1)
    bound = lower_bound(rows, columns, x, y, u, v, p)
    for b, (i,) in enumerate(rows.members):
        for c, (j,) in enumerate(columns.members):
            with localcontext(prec=60):
                assert Decimal(float(bound[b, c])) <= exactly(x[i], y[j], p) - Decimal(float(u[i]))


def test_the_bound_passes_over_most_blocks_of_smooth_potentials_on_the_plane():
    x = np.random.default_rng(0).normal(size=(4000, 2))
    blocks = kd_blocks(x, 64)
    bound = lower_bound(blocks, blocks, x, x + 3, -6 * x.sum(1), 6 * (x + 3).sum(1) - 18, 2.0)
    # x ↦ x + (3, 3) is optimal: only neighbouring blocks can hold pairs that bind.
    shifted = kd_blocks(x + 3, 64)
    bound = lower_bound(blocks, shifted, x, x + 3, -6 * x.sum(1), 6 * (x + 3).sum(1) - 18, 2.0)
    assert (bound <= 0).mean() < 0.15


def test_blocks_hold_every_point_once_and_their_boxes_hold_them():
    x = np.random.default_rng(0).normal(size=(1000, 3))
    blocks = kd_blocks(x, 50)
    np.testing.assert_array_equal(np.sort(np.concatenate(blocks.members)), np.arange(1000))
    assert max(len(block) for block in blocks.members) <= 50
    for block, low, high in zip(*blocks, strict=True):
        assert (x[block] >= low).all()
        assert (x[block] <= high).all()


def test_thinning_keeps_the_shape_of_the_cloud():
    x = np.random.default_rng(0).normal(size=(4000, 2))
    some = thin(x, 400)
    assert len(np.unique(some)) == 400
    quarters = [(x[some] > 0).all(1).mean(), (x > 0).all(1).mean()]
    assert abs(quarters[0] - quarters[1]) < 0.02  # a random draw of 400 would miss by as much in one try of three


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_where_rounding_of_the_filter_hides_the_least_all_pairs_are_computed_anew(p):
    # Far from the centre the matrix product knows ‖x − y‖² to about 1e-2 only, and all 40 columns look alike.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(900, 2)), rng.normal(size=(700, 2))
    x[:30], y[:40] = 1e6 + 1e-2 * x[:30], 1e6 + 1e-2 * y[:40]
    cost = cost_matrix(x, y, p)
    v = 1e-3 * rng.normal(size=700)
    u = (cost - v).min(1) + 1e-4
    reduced = cost - u[:, None] - v
    priced = Pricer(x, y, p).price(u, v, most=3)
    np.testing.assert_allclose(priced.row_least, np.minimum(reduced.min(1), 0), atol=1e-14)
