import math

import numpy as np
import pytest

from regimes.transport.regularity import regularity


def test_a_linear_map_stretches_by_its_singular_values():
    x = np.random.default_rng(0).normal(size=(800, 2))
    found = regularity(x, x @ np.diag([3.0, 0.5]))
    assert found.lipschitz == pytest.approx(3.0, rel=1e-3)  # the pair nearest to an axis, among 320,000
    assert found.inverse_lipschitz == pytest.approx(2.0, rel=1e-3)  # likewise
    assert found.holder.exponent == pytest.approx(1.0, abs=0.1)  # edge of the cloud
    assert found.points == 800


def test_a_root_is_holder_one_half_and_its_inverse_is_lipschitz():
    x = np.random.default_rng(1).uniform(-1, 1, (2000, 1))
    found = regularity(x, np.sign(x) * np.sqrt(np.abs(x)))
    assert found.holder.exponent == pytest.approx(0.5, abs=0.05)  # a fit to 16 radii
    # |T(x) − T(−x)| = 2 √(r/2)
    assert found.holder.constant == pytest.approx(math.sqrt(2), rel=0.1)
    assert found.lipschitz > 5
    assert found.inverse_lipschitz <= 2.0
    assert found.inverse_holder.exponent == pytest.approx(1.0, abs=0.15)  # as above


def test_maps_that_glue_or_tear_points_have_infinite_stretch():
    x = np.random.default_rng(2).normal(size=(50, 2))
    glued = x.copy()
    glued[0] = glued[1]
    assert math.isinf(regularity(x, glued).inverse_lipschitz)
    assert math.isinf(regularity(glued, x).lipschitz)
    assert math.isnan(regularity(x, np.zeros_like(x)).holder.exponent)


def test_large_clouds_are_thinned():
    x = np.random.default_rng(3).normal(size=(3000, 2))
    assert regularity(x, 2 * x, points=500).points == 500


def test_sizes_that_differ_are_named():
    with pytest.raises(ValueError, match="three pairs"):
        regularity(np.zeros((4, 2)), np.zeros((5, 2)))


@pytest.mark.parametrize("scale", [1e-170, 1e-30, 1e30, 1e160])
def test_units_of_the_points_change_nothing_but_the_units(scale):
    x = np.random.default_rng(0).normal(size=(400, 2))
    t = np.sign(x) * np.abs(x) ** 0.5
    plain, small = regularity(x, 2 * x), regularity(scale * x, 2 * scale * x)
    assert small.lipschitz == pytest.approx(2, rel=1e-12)
    assert small.inverse_lipschitz == pytest.approx(0.5, rel=1e-12)
    assert small.holder.exponent == pytest.approx(plain.holder.exponent, rel=1e-9)
    bent, far = regularity(x, t), regularity(scale * x, t)
    assert far.lipschitz * scale == pytest.approx(bent.lipschitz, rel=1e-12)
    assert far.holder.exponent == pytest.approx(bent.holder.exponent, rel=1e-9)
    expected = bent.holder.constant / scale**bent.holder.exponent
    assert far.holder.constant == pytest.approx(expected, rel=1e-6)
