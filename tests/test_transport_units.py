"""Costs that float64 cannot hold: the relative gap does not depend on the unit of length, nor on the origin."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from torch.testing import assert_close

from regimes.transport import energy
from regimes.transport.brenier import brenier_test
from regimes.transport.cost import cost_matrix, extent
from regimes.transport.discrete import exact_transport
from regimes.transport.duality import certify
from regimes.transport.gap import ot_gap
from regimes.transport.monotone import worst_swap
from regimes.transport.pairing import exact_gap
from regimes.transport.power import power

pytestmark = pytest.mark.slow

SCALES = (1e-300, 1e-165, 1e-5, 1e30, 1e300)


def clouds(n=12, d=2, seed=0):
    """A pairing whose first points have each other's targets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = x + 0.3 * rng.normal(size=(n, d))
    y[:3] = y[[1, 2, 0]]
    return x, y


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, 50.0])
def test_the_relative_gap_does_not_depend_on_the_unit_of_length(p):
    x, y = clouds()
    truth = exact_gap(x, y, p)
    assert truth.certified
    assert truth.relative_gap > 0.1
    for scale in SCALES:
        found = exact_gap(scale * x, scale * y, p)
        assert found.certified
        assert found.relative_gap == pytest.approx(truth.relative_gap, rel=1e-9)
        assert found.worst_cycle.members == truth.worst_cycle.members
        assert 0 < found.cost_ot <= found.cost_network < math.inf
        solved = exact_transport(scale * x, scale * y, p=p)
        decimal = math.log10(solved.cost) + p * math.log10(solved.unit)
        assert decimal == pytest.approx(math.log10(truth.cost_ot) + p * math.log10(scale), abs=1e-9)


@pytest.mark.parametrize("p", [1.0, 2.0, 5.0])
def test_the_relative_gap_does_not_depend_on_the_origin(p):
    x, y = (np.round(2.0**20 * cloud) / 2.0**20 for cloud in clouds())  # so that a shift changes no digit
    truth = exact_gap(x, y, p).relative_gap
    for shift in (2.0**10, -(2.0**30)):
        for scale in (2.0**-540, 1.0, 2.0**100):
            assert exact_gap(scale * (x + shift), scale * (y + shift), p).relative_gap == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-165, 1e160])
def test_potentials_in_another_unit_are_a_certificate_of_clouds_in_that_unit(scale):
    x, y = (scale * cloud for cloud in clouds())
    solved = exact_transport(x, y)
    assert solved.unit != 1
    assert certify(x / solved.unit, y / solved.unit, solved.u, solved.v, solved.plan, tolerance=2e-9).optimal


def test_costs_that_fit_are_in_the_unit_of_the_points_whatever_the_way_there():
    x, y = clouds()
    truth = exact_gap(x, y, 50.0)
    found = exact_gap(2.0**-17 * x, 2.0**-17 * y, 50.0)  # costs of 1e-250
    assert found.unit == 1
    assert math.log2(found.cost_ot) == pytest.approx(math.log2(truth.cost_ot) - 17 * 50, abs=1e-9)


@pytest.mark.parametrize("reach", [1e6, 1e12])
def test_short_steps_between_points_far_apart_do_not_vanish(reach):
    x = np.array([[0.0], [1.0], [reach], [reach * (1 + 1e-9)]])
    found = exact_gap(x, x[[1, 0, 2, 3]], 20.0)  # two points change places, at the scale of 1
    assert (found.relative_low, found.relative_high) == (1, 1)


def test_costs_that_no_unit_can_hold_together_are_refused():
    x = np.array([[0.0], [1.0], [1e100], [2e100]])
    with pytest.raises(ValueError, match="hold together"):
        exact_gap(x, x[[1, 0, 2, 3]], 20.0)


@pytest.mark.parametrize(
    "door", [worst_swap, lambda x, y: certify(x, y, np.zeros(12), np.zeros(12), coo_matrix(np.eye(12)))]
)
@pytest.mark.parametrize("scale", [1e-160, 1e160])
def test_doors_that_choose_no_unit_refuse_costs_that_do_not_fit(door, scale):
    x, y = clouds()
    with pytest.raises(ValueError, match="rescale both clouds"):
        door(scale * x, scale * y)


@pytest.mark.parametrize(("p", "scale"), [(1.5, 1e-165), (2.0, 1e-165), (50.0, 1e30)])
def test_all_parts_of_an_assessment_are_the_same_in_every_unit(p, scale):
    x, turn = torch.from_numpy(clouds(6, 3)[0]), torch.linalg.qr(torch.from_numpy(clouds(3, 3, seed=1)[0]))[0]

    def turned(z):
        return z @ turn

    def assessed(s):
        states = [s * x, s * (x + 0.2), s * x @ turn]
        return ot_gap(s * x, turned, p=p, path=states, with_power=True)

    small, truth = assessed(scale), assessed(1.0)
    assert small.exact.relative_low == pytest.approx(truth.exact.relative_low, rel=1e-9)
    assert small.map.asymmetry == pytest.approx(truth.map.asymmetry, rel=1e-6)
    assert small.map.min_eigenvalue / small.map.size == pytest.approx(truth.map.min_eigenvalue / truth.map.size)
    assert small.path.straightness == pytest.approx(float(truth.path.straightness))
    assert small.power.gap_sees == truth.power.gap_sees
    assert small.verdict == truth.verdict


def test_the_extent_of_clouds_is_a_number_at_every_scale():
    for scale in (5e-324, 1e-300, 1.0, 1e300, 1.7e308):
        x = np.array([[scale], [-scale]])
        assert extent(x, x) == pytest.approx(math.log10(scale) + math.log10(2), abs=1e-9)
    assert extent(np.ones((3, 2)), np.ones((1, 2))) == -math.inf


def test_points_below_the_precision_of_a_module_are_refused():
    with pytest.raises(ValueError, match="can hold"):
        ot_gap(1e-165 * clouds()[0], torch.nn.Linear(2, 2, bias=False))


def test_the_power_is_measured_in_a_unit_too():
    x = 1e-165 * clouds(20, 3)[0]
    found = power(x, 2 * x, generator=torch.Generator().manual_seed(0), amplitudes=[1.0])
    assert [one.size for one in found.departed] == pytest.approx([1.0, found.departed[1].size, found.departed[2].size])
    assert brenier_test(lambda z: 2 * z, torch.from_numpy(x), generator=torch.Generator(), p=50.0).asymmetry < 1e-20
    assert energy.straightness([torch.zeros(2, 1), torch.ones(2, 1)]) == 1


@pytest.mark.parametrize("place", [0.0, 1.0, -1e200, 1e-300])
@pytest.mark.parametrize("p", [1.0, 2.0, 50.0])
def test_points_that_are_all_one_cost_nothing(place, p):
    cloud = np.full((6, 3), place)
    assert exact_transport(cloud, cloud, p=p).cost == 0
    assert ot_gap(cloud, cloud, p=p).gap == 0


@pytest.mark.parametrize("share", [1, 2])  # an assignment, and a problem for the simplex
@pytest.mark.parametrize("small", [1e-150, 1e-160, 1e-200])
def test_costs_that_float64_cannot_hold_beside_those_of_a_far_pair_are_held_in_another_unit(small, share):
    rng = np.random.default_rng(0)
    far = np.ones((1, 2))
    x = np.concatenate([small * rng.normal(size=(60, 2)), *[far] * share])
    y = np.concatenate([small * rng.normal(size=(60 // share, 2)), far])
    solved = exact_transport(x, y)
    cost = cost_matrix(x / solved.unit, np.repeat(y, share, axis=0) / solved.unit, 2.0)
    assert solved.certified
    assert_close(solved.cost, float(cost[linear_sum_assignment(cost)].mean()), rtol=1e-9, atol=0.0)
