import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch.testing import assert_close

from regimes.transport.cost import cost_matrix
from regimes.transport.gap import ot_gap
from regimes.transport.pairing import exact_gap
from regimes.transport.span import span


def test_distances_to_the_cloud_are_kept():
    rng = default_rng(0)
    x, y = 5 + rng.normal(size=(2, 7, 40))
    found = span(x)
    assert found.x_short.shape == (7, 8)
    assert_close(cost_matrix(found.x_short, found.images(y), 2.0), cost_matrix(x, y, 2.0))
    assert_close(cost_matrix(found.x_short, found.x_short, 2.0), cost_matrix(x, x, 2.0))


@pytest.mark.parametrize("size", [0.0, 1e-3, 1e-9, 1e-14])
def test_a_small_displacement_keeps_its_length_and_none_is_none(size):
    x = default_rng(3).normal(size=(30, 256))
    t = x + size * default_rng(4).normal(size=x.shape)
    found, exact = exact_gap(x, t), float(np.square(t - x).sum(1).mean())
    rounding = 1e-16 * np.abs(x).max() / max(size, 1e-16)  # of a displacement that is added to a coordinate
    assert_close(found.cost_network, exact, rtol=10 * rounding if size else 0.0, atol=0.0)
    assert found.gap == 0


def test_a_map_that_moves_nothing_is_optimal_in_many_dimensions_too():
    found = ot_gap(torch.randn(30, 256), lambda z: z.clone())
    assert (found.exact.cost_network, found.exact.relative_gap) == (0.0, 0.0)
    assert "moves none of these points" in str(found)


def test_points_off_the_subspace_are_as_far_from_each_point_as_they_are():
    x = np.zeros((2, 9))
    x[0, 0] = 1.0
    y = np.zeros((2, 9))
    y[:, 5] = 3.0
    found = span(x)
    assert_close(cost_matrix(found.x_short, found.images(y), 2.0), np.array([[10.0, 10.0], [9.0, 9.0]]))


def test_clouds_of_many_points_keep_their_coordinates():
    assert span(default_rng(0).normal(size=(10, 20))) is None
    assert span(default_rng(0).normal(size=(10, 21))) is not None


def test_the_gap_is_that_of_the_full_cost_matrix():
    from scipy.optimize import linear_sum_assignment

    rng = default_rng(1)
    x, t = rng.normal(size=(30, 100)) + 50, rng.normal(size=(30, 100))
    found = exact_gap(x, t, 1.5)
    cost = cost_matrix(x, t, 1.5)
    assert_close(found.cost_network, float(np.diagonal(cost).mean()), rtol=1e-12, atol=0)
    assert_close(found.cost_ot, float(cost[linear_sum_assignment(cost)].mean()), rtol=1e-9, atol=0)
    assert (found.certified, found.dim, found.points) == (True, 100, 30)
    assert found.gap > 0
    assert exact_gap(x, 2 * x).gap == 0


def test_far_from_zero_the_distances_keep_their_digits():
    rng = default_rng(2)
    x, y = rng.normal(size=(6, 30)) + 1e8, rng.normal(size=(6, 30)) + 1e8
    found = span(x)
    # Coordinates of 1e8 hold 1e-8: what is lost is theirs, not that of squares of 1e16.
    assert_close(cost_matrix(found.x_short, found.images(y), 2.0), cost_matrix(x, y, 2.0), rtol=1e-6, atol=0)


def test_displacements_that_a_change_of_coordinates_would_round_are_kept():
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 200))
    for size in (1e-11, 1e-7, 1e-3):
        t = x + size * random.normal(size=x.shape)
        assert exact_gap(x, t).cost_network == pytest.approx(((x - t) ** 2).sum(1).mean(), rel=1e-9)
    x = random.normal(size=(10, 40))
    x[:2] = 0
    x[0, 0] = 1e-13
    t = x.copy()
    t[0, 0], t[1, 0] = 0.49e-13, 0.5e-13
    assert exact_gap(x, t).relative_gap == pytest.approx(0.0392, rel=1e-2)
