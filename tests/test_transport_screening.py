"""The filter before exact prices: bounds that hold in either precision, and single precision only where it is one."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from regimes.transport import screening as module
from regimes.transport.cost import cost_matrix
from regimes.transport.pricing import Pricer
from regimes.transport.screening import Cloud, keeps_single, screen, single_screen


def clouds(n, d, scale=1.0, outlier=1.0):
    rng = np.random.default_rng(d)
    x, y = scale * rng.normal(size=(n, d)), scale * rng.normal(size=(n + 5, d))
    x[0] *= outlier
    return x, y, *(Cloud(torch.from_numpy(z), torch.from_numpy((z**2).sum(1))) for z in (x, y))


def filled(found, n, m):
    out = torch.empty(n, m, dtype=found.left.dtype)
    return found.fill(torch.arange(n), slice(0, m), out).double() * found.unit


@pytest.mark.parametrize(("scale", "outlier"), [(1.0, 1.0), (1e-30, 1.0), (1e30, 1.0), (1.0, 1e5)])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("d", [1, 8, 300])
@pytest.mark.parametrize("single", [False, True])
def test_no_pair_exceeds_its_bound(single, d, p, scale, outlier):
    x, y, left, right = clouds(60, d, scale, outlier)
    cost = cost_matrix(x, y, p)
    v = 0.1 * np.median(cost) * np.random.default_rng(1).normal(size=65)
    u = (cost - v).min(1)  # one pair of every row binds: its excess is 0, where rounding alone decides
    found = (single_screen if single else screen)(left, right, torch.from_numpy(u), torch.from_numpy(v), p)
    bound, excess = filled(found, 60, 65), torch.from_numpy(u[:, None] + v - cost)
    assert found.left.dtype == (torch.float32 if single else torch.float64)
    assert (bound >= excess).all()
    assert (bound > found.level(0.0) * found.unit).sum() >= 60
    # And it is not far above either: ten times the rounding of d + 10 operations on numbers of that size.
    size = np.median(cost) * (d + 10) * (2.0**-24 if single else 8 * 2.0**-53)
    assert (bound - excess).median() <= 10 * size


def test_costs_that_float32_cannot_hold_are_left_to_double_precision():
    _, _, left, right = clouds(60, 2, outlier=1e12)
    zero_x, zero_y = torch.zeros(60, dtype=torch.float64), torch.zeros(65, dtype=torch.float64)
    assert single_screen(left, right, zero_x, zero_y, 1.0) is not None
    assert single_screen(left, right, zero_x, zero_y, 3.0) is None
    nothing = Cloud(torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    assert single_screen(nothing, nothing, zero_x[:3], zero_x[:3], 2.0) is None


def test_products_of_shorter_numbers_are_noticed(monkeypatch):
    assert keeps_single(20, torch.device("cpu"))
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: product(a.bfloat16(), b.bfloat16()).float())
    assert not keeps_single(20, torch.device("cpu"))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("allowed", [True, False])
def test_prices_do_not_depend_on_the_precision_of_the_filter(p, allowed, monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(700, 12)), rng.normal(size=(900, 12))
    cost, v = cost_matrix(x, y, p), 0.2 * rng.normal(size=900)
    u = (cost - v).min(1) + 0.3 * rng.random(700)
    if not allowed:
        monkeypatch.setattr(module, "keeps_single", lambda inner, device: False)
    pricer = Pricer(x, y, p)
    assert pricer._filter(u, v, 0.0).left.dtype == (torch.float32 if allowed else torch.float64)
    priced, reduced = pricer.price(u, v, most=900), cost - u[:, None] - v
    # The pairs themselves are computed from differences either way.
    np.testing.assert_array_equal(np.sort(priced.rows * 900 + priced.columns), np.flatnonzero(reduced < 0))
    assert_close(priced.row_least, np.minimum(reduced.min(1), 0))


def test_a_cluster_finer_than_single_precision_is_looked_at_in_double():
    rng = np.random.default_rng(4)
    x, y = 1 + 1e-3 * rng.normal(size=(800, 12)), 1 + 1e-3 * rng.normal(size=(800, 12))
    x[:300], y[:300] = x[:300] + 100, y[:300] + 100  # the median point lies in the other cluster
    cost = cost_matrix(x, y, 2.0)
    priced = Pricer(x, y, 2.0)
    assert priced._filter(cost.min(1), np.zeros(800), 0.0).left.dtype == torch.float64
    least = priced.price(cost.min(1) + 1e-9, np.zeros(800), most=3).row_least
    np.testing.assert_allclose(least, -1e-9, rtol=1e-4)
