"""What the transport package refuses, as a user calls it; arrays of numpy and torch alike."""

import math

import numpy as np
import pytest
import torch
from doors import Door, cases, loses, not_taken
from torch import nn

import regimes
from regimes.transport import energy
from regimes.transport.brenier import brenier_test
from regimes.transport.discrete import exact_transport
from regimes.transport.duality import c_transform, certify, feasible
from regimes.transport.gaussian import AffineMap, bures_cost, bures_map
from regimes.transport.monotone import cycle_gain, shortest_gaining_cycle, worst_swap, worst_walks
from regimes.transport.pairing import exact_gap
from regimes.transport.power import power
from regimes.transport.pricing import Pricer
from regimes.transport.regularity import regularity


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tripled(z):
    return 3 * z


def pair():
    return {"x": draw(8, 3), "t_of_x": draw(8, 3, seed=1)}


def laws():
    eye = torch.eye(3, dtype=torch.float64)
    return {"mean_x": draw(3), "cov_x": eye, "mean_y": draw(3, seed=1), "cov_y": 2 * eye}


def stream():
    return torch.Generator().manual_seed(0)


# Clouds are arrays or lists of points with any axes behind the first, in half precision too: the arithmetic is float64.
CLOUDS = {f"{name}: {how}" for name in ("x", "y", "t_of_x", "target") for how in ("half", "an axis more", "a list")}
SIZES = dict.fromkeys(("x", "t_of_x", "target"), (0, 1))
WALKED = CLOUDS | {"state: half", "step: half", "seconds: inf"}
DOORS = {
    "exact_transport": Door(
        exact_transport,
        lambda: {
            **{"x": draw(8, 3), "y": draw(6, 3), "x_weights": draw(8).abs(), "y_weights": draw(6).abs(), "p": 2.0},
            **{"tolerance": 1e-10, "rounds": 100, "seconds": 9.0},
        },
        sized={"x": (1,), "y": (1,), "x_weights": (0,), "y_weights": (0,)},
        free=WALKED | {f"{side}_weights: {how}" for side in "xy" for how in ("half", "a list")},
    ),
    "ot_gap": Door(regimes.ot_gap, lambda: {"x": draw(8, 3), "target": draw(8, 3), "p": 2.0}, SIZES, CLOUDS),
    "ot_gap of a map": Door(
        regimes.ot_gap,
        lambda: {"x": draw(8, 3), "target": tripled, "p": 2.0},
        {},
        {"x: an axis more", "x: an axis less", "x: a list", "x: half"},
    ),
    "exact_gap": Door(exact_gap, lambda: {**pair(), "p": 2.0}, SIZES, CLOUDS),
    "brenier_test": Door(
        brenier_test,
        lambda: {
            **{"transport_map": tripled, "x": draw(8, 3), "generator": stream(), "p": 2.0},
            **{"probes": 8, "eigen_points": 4},
        },
        {},
        {"x: an axis more", "x: an axis less", "x: half", "eigen_points: 0"},
    ),
    "power": Door(power, lambda: {**pair(), "generator": stream(), "p": 2.0, "seconds": 9.0}, SIZES, WALKED),
    "regularity": Door(
        regularity,
        lambda: {"x": draw(300, 1), "t_of_x": 2 * draw(300, 1), "points": 300},  # a range of distances for the fits
        {"t_of_x": (0,)},
        CLOUDS | {"x: an axis less", "t_of_x: an axis less"},
    ),
    "cycle_gain": Door(cycle_gain, lambda: {**pair(), "members": (0, 2), "p": 2.0}, SIZES, CLOUDS),
    "worst_swap": Door(worst_swap, lambda: {**pair(), "p": 2.0}, SIZES, CLOUDS),
    "worst_walks": Door(worst_walks, lambda: {**pair(), "longest": 3, "p": 2.0}, SIZES, CLOUDS),
    "shortest_gaining_cycle": Door(shortest_gaining_cycle, lambda: {**pair(), "longest": 3, "p": 2.0}, SIZES, CLOUDS),
    "bures_map": Door(bures_map, laws, dict.fromkeys(laws(), (0,))),
    "bures_cost": Door(bures_cost, laws, dict.fromkeys(laws(), (0,))),
    "AffineMap": Door(
        AffineMap(2 * torch.eye(3, dtype=torch.float64), draw(3), draw(3)).__call__,
        lambda: {"x": draw(8, 3)},
        {"x": (1,)},
        {"x: an axis less", "x: half", "x: integer", "x: complex"},  # refused by the product, or right
        name="AffineMap",
    ),
    "sum_over_features": Door(
        energy.sum_over_features,
        lambda: {"step": draw(8, 3), "p": 3.0},
        free={"step: half", "step: an axis less", "step: an axis more"},
    ),
    "mean_over_features": Door(
        energy.mean_over_features,
        lambda: {"step": draw(8, 3), "p": 3.0},
        free={"step: half", "step: an axis less", "step: an axis more"},
    ),
    "straight_share": Door(
        energy.straight_share,
        lambda: {"distance": draw(1)[0].abs(), "length": draw(1)[0].abs() + 9},
        free={f"{name}: an axis less" for name in ("distance", "length")} | {"distance: empty", "length: empty"},
    ),
}


def listed():
    """All cases but those that cannot be made of a number without axes."""
    return cases({name: door for name, door in DOORS.items() if name != "straight_share"})


def test_the_right_input_is_taken():
    assert not_taken(DOORS) == []


@pytest.mark.parametrize(("door", "argument", "how"), listed())
def test_wrong_input_is_refused_or_stays_in_sight(door, argument, how):
    assert loses(DOORS[door], argument, how) is None


PATHS = (
    energy.steps_of,
    energy.action,
    energy.map_cost,
    energy.length,
    energy.straightness,
    lambda z: energy.measure([z]),
)


@pytest.mark.parametrize("walk", [*PATHS, lambda path: energy.measure([path])])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_state_that_is_nan_misshapen_or_complex_makes_no_number_of_a_path(walk, number):
    for spoil in (
        lambda z: z / 0,
        lambda z: z.to(torch.complex128),
        lambda z: z.long(),
        lambda z: z[:4],
        lambda z: z[:0],
        lambda z: z.tolist(),
    ):
        path = [draw(8, 3, seed=k) for k in range(3)]
        path[number] = spoil(path[number])
        with pytest.raises(ValueError, match=r"steps_of|action|map_cost|length|straightness|measure"):
            walk(path)


def test_numpy_arrays_are_held_to_the_same():
    x = np.random.default_rng(0).normal(size=(8, 3))
    kinds = (x + 1j, x.astype(int), x.astype(np.longdouble), np.where(x > 0, np.nan, x))
    for bad in (*kinds, x[:0], x[:, :2], x[:4], x[:4].tolist(), "points"):
        with pytest.raises(ValueError, match="exact_gap needs"):
            exact_gap(x, bad)
    u, v = np.zeros(8), np.zeros(8)
    solved = exact_transport(x, 2 * x)
    for bad in (np.zeros(7), np.zeros((8, 1)), np.full(8, np.nan), np.zeros(8, int)):
        for call in (
            lambda bad=bad: c_transform(x, 2 * x, bad),
            lambda bad=bad: feasible(x, 2 * x, bad),
            lambda bad=bad: certify(x, 2 * x, bad, v, solved.plan),
            lambda bad=bad: certify(x, 2 * x, u, bad, solved.plan),
        ):
            with pytest.raises(ValueError, match=r"c_transform|feasible|certify"):
                call()
    for bad in (np.zeros(7), np.full(8, np.nan)):
        with pytest.raises(ValueError, match="Pricer"):
            Pricer(x, 2 * x, 2.0).price(bad, v)
    with pytest.raises(ValueError, match="coo_matrix"):
        certify(x, 2 * x, u, v, solved.plan.toarray())
    with pytest.raises(ValueError, match="finite plan"):
        certify(x, 2 * x, u, v, solved.plan * math.nan)


def test_one_covariance_that_is_not_symmetric_is_seen_before_it_is_averaged():
    given = laws()
    given["cov_y"][0, 1] = 0.5  # its symmetric part is a covariance
    for door in (bures_map, bures_cost):
        with pytest.raises(ValueError, match="cov_y symmetric"):
            door(**given)


def test_a_map_and_a_path_that_belong_to_other_clouds_are_refused():
    x = draw(8, 3)
    with pytest.raises(ValueError, match=r"transport_map\(x\) to be the images"):
        regimes.ot_gap(x, 2 * x, transport_map=tripled)
    with pytest.raises(ValueError, match="first state of the path to be x"):
        regimes.ot_gap(x, 2 * x, path=[x + 1, 2 * x])
    with pytest.raises(ValueError, match=r"last state of the path to be T\(x\)"):
        regimes.ot_gap(x, 2 * x, path=[x, 3 * x])
    with pytest.raises(ValueError, match=r"last state of the path to be T\(x\)"):
        regimes.ot_gap(x, tripled, path=[x, 2 * x])
    with pytest.raises(ValueError, match="got it twice"):
        regimes.ot_gap(x, tripled, transport_map=tripled)
    with pytest.raises(ValueError, match="maps each sample by itself"):
        regimes.ot_gap(x, lambda z: z - z.mean(0))
    found = regimes.ot_gap(x, (3 * x).float(), transport_map=tripled, path=[x, 2 * x, 3 * x])
    assert found.path.straightness == pytest.approx(1.0)


def test_a_module_sees_points_of_numpy_in_its_own_precision():
    found = regimes.ot_gap(np.random.default_rng(0).normal(size=(20, 3)), nn.Linear(3, 3))
    assert found.map.points == 20
    with pytest.raises(ValueError, match="keeps the shape"):
        regimes.ot_gap(draw(20, 3), nn.Linear(3, 2).double())


def test_points_that_are_all_one_have_a_gap():
    x, y = torch.ones(6, 3), torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    found = regimes.ot_gap(x, y)
    assert found.relative_gap == 0
    assert found.power is None
