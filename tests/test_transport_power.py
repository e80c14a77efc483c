import math

import numpy as np
import pytest
import torch

from regimes.transport.brenier import brenier_test
from regimes.transport.pairing import exact_gap
from regimes.transport.power import DEPARTURES, Departed, _stands_out, displacement_size, power, rotation


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
    # Where nothing is seen at the displacement's own size, smaller departures need no solve.
    assert [(d.name, d.amplitude, d.relative_gap) for d in found.departed] == [
        ("rotation", 1.0, 0.0),
        ("rotation", 0.02, None),
        ("shuffled displacements", 1.0, 0.0),
        ("noise", 1.0, 0.0),
    ]
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


def test_a_rotation_field_is_skew_and_of_size_one():
    x = cloud(50, 5) + 3
    field = rotation(x, torch.Generator().manual_seed(0))
    matrix = field.turn(torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(matrix, -matrix.T)
    torch.testing.assert_close(field.field(x), (x - x.mean(0)) @ matrix)
    torch.testing.assert_close(displacement_size(0 * x, field.field(x)), 1.0)


@pytest.mark.parametrize("p", [1.5, 2.0])
def test_the_asymmetry_of_a_turned_map_is_what_the_brenier_test_says_of_it(p):
    x, t = cloud(60, 3), convex_gradient(3)
    found = power(x, t(x), generator=torch.Generator().manual_seed(0), transport_map=t, amplitudes=(0.5,), p=p)
    turn, scale = rotation(x, torch.Generator().manual_seed(0)), displacement_size(x, t(x))
    again = brenier_test(
        lambda z: t(z) + 0.5 * scale * turn.field(z), x, generator=torch.Generator().manual_seed(5), p=p
    )
    turned = found.departed[0]
    assert turned.name == "rotation"
    assert abs(turned.asymmetry - again.asymmetry) < 5 * math.hypot(turned.asymmetry_se, again.asymmetry_se)
    assert turned.asymmetry > 0.001


def test_the_maps_own_gap_is_not_measured_again_and_is_taken_off():
    x = cloud(100, 2)
    t = x.flip(1) + 0.01 * x  # a reflection: far from optimal
    own = exact_gap(x, t)
    arguments = {"generator": torch.Generator().manual_seed(0), "amplitudes": (0.02,)}
    found = power(x, t, own=own._replace(gap_low=own.cost_network), **arguments)  # as if nothing could be worse
    assert set(found.gap_sees.values()) == {None}


def test_more_features_than_points_give_the_same_power():
    narrow, rng = cloud(40, 3), torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(200, 3, generator=rng, dtype=torch.float64))[0]
    x, t = narrow @ basis.T, convex_gradient(3)(narrow) @ basis.T
    kinds = {"shuffled displacements": DEPARTURES["shuffled displacements"]}  # these stay in the plane of the points
    found, same = (
        power(*clouds, generator=torch.Generator().manual_seed(0), departures=kinds)
        for clouds in ((x, t), (narrow, convex_gradient(3)(narrow)))
    )
    assert found.gap_sees == same.gap_sees
    assert found.gap_sees["shuffled displacements"] is not None
    assert found.dim == 200


def test_an_asymmetry_within_five_errors_or_within_rounding_is_not_seen():
    def entry(asymmetry, error):
        return Departed("rotation", 0.1, 0.1, None, False, asymmetry, error)

    own = (0.1, 0.003)
    assert not _stands_out(entry(0.12, 0.004), own)  # four joint errors of 0.005
    assert _stands_out(entry(0.13, 0.004), own)
    assert not _stands_out(entry(1e-13, 0.0), (0.0, 0.0))
    assert _stands_out(entry(1e-11, 0.0), (0.0, 0.0))
    assert not _stands_out(entry(None, None), own)
