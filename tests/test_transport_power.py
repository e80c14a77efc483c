import math

import numpy as np
import pytest
import torch

from regimes.transport.power import DEPARTURES, displacement_size, power


def cloud(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convex_gradient(d):
    w = cloud(d, d, seed=1) / math.sqrt(d)
    return lambda x: x / 2 + torch.sigmoid(x @ w) @ w.T


@pytest.mark.parametrize("name", list(DEPARTURES))
def test_departures_have_the_size_asked_for_and_vanish_with_it(name):
    x = cloud(2000, 3)
    t = convex_gradient(3)(x)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(DEPARTURES[name](x, t, 0.0, generator), t)
    moved = displacement_size(t, DEPARTURES[name](x, t, 0.5, generator)) / displacement_size(x, t)
    # A shuffle exchanges displacements; the spread between them, not their size, is what is added.
    assert 0.05 < moved < 0.75 if name.startswith("shuffled") else abs(moved - 0.5) < 0.05


def test_on_the_plane_the_gap_sees_small_departures():
    x = cloud(300, 2)
    found = power(x, convex_gradient(2)(x), generator=torch.Generator().manual_seed(0), amplitudes=(1.0, 0.25))
    assert found.gap_sees == {"rotation": 0.25, "shuffled displacements": 0.25, "noise": 0.25}
    assert found.brenier_sees == {}
    assert all(entry.gap_certified for entry in found.departed)
    assert "with 300 points in d = 2 the gap sees rotation from 0.25" in found.line()


def test_in_256_dimensions_the_gap_is_blind_and_the_brenier_test_is_not():
    x = cloud(150, 256)
    near_identity = convex_gradient(256)

    def gentle(z):  # displacements of half the typical gap between points
        return z + 0.3 * (near_identity(z) - z)

    found = power(
        x, gentle(x), generator=torch.Generator().manual_seed(0), transport_map=gentle, amplitudes=(1.0, 0.02)
    )
    assert found.gap_sees == {"rotation": None, "shuffled displacements": None, "noise": None}
    assert [d.relative_gap for d in found.departed] == [0.0] * len(found.departed)
    assert found.brenier_sees == {"rotation": 0.02}
    assert "no rotation" in found.line()
    assert "the Brenier test sees rotation from 0.02" in found.line()


def test_the_brenier_test_takes_the_users_type_and_shape():
    x = torch.randn(40, 2, 3)
    found = power(
        x, 2 * x, generator=torch.Generator().manual_seed(0), transport_map=lambda z: 2 * z, amplitudes=(0.5,)
    )
    assert found.brenier_sees == {"rotation": 0.5}
    assert found.dim == 6


def test_on_a_line_there_is_no_rotation():
    x = np.random.default_rng(0).normal(size=(100, 1))
    found = power(x, 2 * x, generator=torch.Generator().manual_seed(0), amplitudes=(0.5,))
    assert set(found.gap_sees) == {"shuffled displacements", "noise"}


def test_a_map_that_moves_nothing_has_no_displacement_to_compare_with():
    x = cloud(10, 2)
    with pytest.raises(ValueError, match="moves points"):
        power(x, x, generator=torch.Generator().manual_seed(0))
