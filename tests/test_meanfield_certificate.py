"""Certificates: exact where the minimum is known, positive gaps at spurious limits, never above the true minimum."""

import math

import pytest
import torch
from torch.testing import assert_close

from regimes.meanfield.certificate import certify
from regimes.meanfield.functionals import FeatureRisk, general
from regimes.meanfield.measures import Measure, uniform
from regimes.meanfield.searches import Field, Found, boxes, candidates, multistart

PENALTY = 0.3


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def waves(position):
    """cos and sin of θ, 2θ, 3θ: an orthonormal feature for each frequency on the circle of one period."""
    angle = position[..., 0:1] * torch.arange(1, 4, dtype=position.dtype)
    return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(3)


def single_spike(place=1.0, height=2.0, *, penalty=PENALTY, **options):
    """½|∫φdμ − height·φ(place)|² + penalty·|μ|, |φ| = 1: the minimum is δ_place with mass height − penalty."""
    target = height * waves(torch.tensor([place], dtype=torch.float64))
    loss = lambda output: (output - target).square().sum(1) / 2  # noqa: E731
    minimum = penalty * height - penalty**2 / 2
    return FeatureRisk(waves, loss, penalty=penalty, **options), minimum


def circle(**given):
    """|∂²_θ F'| ≤ |R'| max_θ|φ''|, and |φ''|² = (1 + 16 + 81)/3."""

    def curvature(field):
        residual = (field.functional.output(field.measure) - 2 * waves(torch.ones(1).double())).norm(dim=1)
        return residual * math.sqrt(98 / 3)

    corners = torch.tensor([-math.pi]).double(), torch.tensor([math.pi]).double()
    return boxes(*corners, curvature=curvature, **given)


def spike(place, mass):
    place, mass = (torch.tensor(number, dtype=torch.float64) for number in (place, mass))
    return Measure(place.reshape(1, 1, 1), mass.reshape(1, 1))


@pytest.mark.parametrize(
    "search", [circle(), multistart(torch.linspace(-3, 3, 9).double()[None, :, None], iterations=40, step=0.3)]
)
def test_the_minimum_in_closed_form_has_no_gap(search):
    risk, minimum = single_spike()
    found = certify(risk, spike(1.0, 2 - PENALTY), search)
    assert_close(found.value, torch.tensor([minimum]).double())
    assert (found.gap >= 0).all()
    assert (found.gap < 1e-8).all()
    assert (found.lower <= minimum + 1e-14).all()


def test_only_a_search_with_a_bound_proves():
    risk, _ = single_spike()
    at = spike(1.0, 2 - PENALTY)
    assert certify(risk, at, circle()).proved
    points = torch.linspace(-3, 3, 9).double()[None, :, None]
    assert not certify(risk, at, multistart(points, iterations=2)).proved
    assert not certify(risk, at, candidates(points)).proved


def test_at_a_spurious_limit_the_gap_stays_and_the_worst_point_leads_out():
    """Particles without a way to the spike: one of mass zero far off, where the flow stands still."""
    risk, minimum = single_spike()
    found = certify(risk, spike(-1.5, 0.0), circle())
    assert (found.lower <= minimum).all()
    assert (found.value > minimum + 1).all()
    assert (found.gap > 1).all()
    assert (found.lowest < 0).all()
    assert_close(found.worst, torch.ones(1, 1, 1).double(), rtol=0, atol=1e-4)


def test_boxes_come_within_their_tolerance_of_the_lowest_point():
    risk, _ = single_spike()
    measure = Measure(randn(5, 3, 1), randn(5, 3).abs())
    found = certify(risk, measure, circle(tolerance=1e-9))
    fine = torch.linspace(-math.pi, math.pi, 20001).double()[None, :, None].expand(5, -1, -1)
    lowest = risk.variation(measure, fine).amin(1)
    assert (found.lowest <= lowest + 1e-9).all()
    proved = circle(tolerance=1e-9)(Field(risk, measure)).bound
    assert proved is not None
    assert (proved <= lowest).all()
    assert (lowest - proved < 1e-6).all()  # the fine grid is that far from the lowest point


@pytest.mark.parametrize("dimension", [1, 2])
def test_both_kinds_of_bound_hold_in_every_dimension(dimension):
    centre = torch.full((dimension,), 0.3).double()

    def value(measure):
        return (measure.mass * (measure.position - centre).square().sum(2)).sum(1)

    corners = -torch.ones(dimension).double(), torch.ones(dimension).double()
    measure = uniform(randn(2, 3, dimension).clamp(-1, 1))
    for search in (boxes(*corners, curvature=2.0), boxes(*corners, lipschitz=4.0, tolerance=1e-2)):
        found = certify(general(value), measure, search, fixed_total=True)
        assert found.proved
        assert (found.lower <= 1e-15).all()  # the minimum over probability measures is δ at the centre: 0
        assert (found.lower > -0.011).all()


@pytest.mark.slow
@pytest.mark.parametrize("signed", [False, True])
def test_the_lower_bound_is_never_above_the_minimum(signed):
    """Random Lasso problems on 40 points: the minimum by many steps of coordinate descent."""
    runs, points, n = 6, 40, 8
    table = randn(points, n)
    target = randn(runs, n)

    def features(position):
        return table[position[..., 0].round().long()] + 0 * position

    risk = FeatureRisk(features, lambda f: (f - target).square().sum(1) / 2, penalty=0.5)
    weights = torch.zeros(runs, points).double()
    for _ in range(60):
        for j in range(points):
            others = target - weights @ table + weights[:, j : j + 1] * table[j]
            raw = others @ table[j]
            size = (raw.abs() - 0.5).clamp_min(0) if signed else (raw - 0.5).clamp_min(0)
            weights[:, j] = size * raw.sign() / table[j].square().sum()
    every = torch.arange(points).double()[None, :, None]
    places = every.expand(runs, -1, -1)
    best = certify(risk, Measure(places, weights), candidates(every), signed=signed)
    assert (best.gap < 0.05 * best.value).all()
    minimum = best.value  # or less
    for scale in (0.0, 0.1, 1.0, 3.0):
        mass = scale * (randn(runs, 5) if signed else randn(runs, 5).abs())
        some = torch.randint(points, (runs, 5, 1)).double()
        found = certify(risk, Measure(some, mass), candidates(every), signed=signed)
        assert (found.lower <= minimum + 1e-12).all()


def test_a_measure_of_signs_is_compared_with_both():
    risk, _ = single_spike(height=-2.0)
    at = spike(1.0, 0.0)
    assert (certify(risk, at, candidates(at.position)).gap == 0).all()  # no positive mass helps
    found = certify(risk, at, candidates(at.position), signed=True)
    assert (found.sign == -1).all()
    assert (found.gap > 1).all()
    best = certify(risk, spike(1.0, -2 + PENALTY), candidates(at.position), signed=True)
    assert (best.gap < 1e-12).all()


def test_probability_measures_are_compared_with_their_like():
    """MMD with a Gaussian kernel to a measure of the class: the minimum is 0."""
    grid = torch.linspace(-4, 4, 60).double()

    def kernel(position):
        return torch.exp(-(position - grid).square())

    truth = Measure(torch.tensor([[[-1.0], [0.5]]]).double(), torch.tensor([[0.25, 0.75]]).double())
    target = truth.integral(kernel(truth.position))
    risk = FeatureRisk(kernel, lambda f: (f - target).square().mean(1))
    points = torch.linspace(-3, 3, 301).double()[None, :, None]
    assert (certify(risk, truth, candidates(points), fixed_total=True).gap < 1e-12).all()
    other = certify(risk, uniform(truth.position), candidates(points), fixed_total=True)
    assert (other.gap >= other.value).all()
    assert (other.value > 1e-4).all()


@pytest.mark.slow
def test_spheres_are_searched_on_the_sphere():
    """F'(u) = −a·u|u|: on the unit sphere least at a/|a|."""
    a = torch.tensor([3.0, 4.0]).double()

    def value(measure):
        u = measure.position
        return -(measure.mass * (u @ a) * u.norm(dim=2)).sum(1)

    found = certify(
        general(value), uniform(randn(2, 3, 2)), multistart(randn(1, 5, 2), iterations=40, sphere=True), mass_bound=2.0
    )
    assert_close(found.worst[:, 0], (a / 5).expand(2, 2), rtol=1e-4, atol=1e-4)
    assert_close(found.lowest, torch.tensor([-5.0, -5.0]).double(), rtol=1e-6, atol=0)


def test_a_functional_that_is_not_convex_is_refused():
    def loss(output):
        return 4 - output.square().sum(1).clamp(max=4)

    with pytest.raises(ValueError, match="convex"):
        certify(FeatureRisk(waves, loss, penalty=0.1), spike(1.0, 0.5), candidates(spike(0.3, 1.0).position))


def test_a_search_may_be_the_users_own():
    risk, _ = single_spike()

    def search(field):
        return Found(
            field.measure.position[:, :1], field(field.measure.position)[:, 0], torch.full((1,), -5.0).double()
        )

    found = certify(risk, spike(0.0, 0.1), search)
    assert found.proved
    assert_close(found.lower, torch.zeros(1).double())  # −5 M says less than F ≥ 0


def test_a_bound_on_the_slope_that_is_seen_to_be_wrong_proves_nothing():
    risk, _ = single_spike()
    search = boxes(torch.tensor([-math.pi]).double(), torch.tensor([math.pi]).double(), lipschitz=0.01)
    with pytest.raises(ValueError, match="a bound on how fast"):
        certify(risk, spike(-1.0, 0.4), search)


@pytest.mark.parametrize("curvature", [lambda _: torch.tensor([math.nan]), lambda _: torch.ones(3), lambda _: -1.0])
def test_a_bound_that_is_none_is_refused(curvature):
    risk, _ = single_spike()
    corners = torch.tensor([-math.pi]).double(), torch.tensor([math.pi]).double()
    with pytest.raises(ValueError, match="boxes needs lipschitz or curvature"):
        certify(risk, spike(-1.0, 0.4), boxes(*corners, curvature=curvature))


def test_more_mass_is_never_counted_as_a_loss():
    """A penalty so high that no mass is best: F' > 0 everywhere, and the minimum is that of the empty measure."""
    risk, _ = single_spike(height=0.2, penalty=0.5)
    empty = risk.value(spike(1.0, 0.0))
    corners = torch.tensor([-math.pi]).double(), torch.tensor([math.pi]).double()
    found = certify(risk, spike(1.0, 0.1), boxes(*corners, curvature=10.0))
    assert (found.lowest > 0).all()
    assert (found.lower <= empty).all()


@pytest.mark.parametrize(
    ("bound", "value"),
    [({"curvature": 2.0}, lambda p: 2 - p.square()), ({"lipschitz": 3.0}, lambda p: 3 - 2 * p.abs())],
)
def test_one_cell_is_bounded_as_the_formulas_say(bound, value):
    """A parabola that bends down comes to its bound at the corners; a slope of 2 stays 1 above that of 3."""
    energy = general(lambda measure: (measure.mass * value(measure.position[..., 0])).sum(1))
    search = boxes(-torch.ones(1).double(), torch.ones(1).double(), cells=1, most=1, **bound)
    found = search(Field(energy, uniform(torch.zeros(1, 1, 1).double()))).bound
    assert found is not None
    assert_close(found, torch.tensor([1.0 if "curvature" in bound else 0.0]).double())


@pytest.mark.parametrize(
    "mixed",
    [
        lambda p: p - p.mean(1, keepdim=True),
        lambda p: p - p.mean(0),
        lambda p: p + 0.1 * torch.randn_like(p),
        lambda p: p.cumsum(1),
        lambda p: p.flip(1).cumsum(1).flip(1),
        lambda p: p[:, [1, 0, 2, 3]],
    ],
    ids=["particles", "runs", "chance", "those before", "those after", "another order"],
)
def test_features_that_look_at_others_are_refused(mixed):
    risk = FeatureRisk(lambda p: torch.cat([mixed(p).cos(), mixed(p).sin()], 2), lambda f: f.square().sum(1))
    with pytest.raises(ValueError, match="each particle of each run for itself"):
        risk.value(uniform(torch.randn(3, 4, 1, dtype=torch.float64)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", [lambda p: 0 * p, lambda p: p[..., :0]], ids=["zero", "none"])
def test_features_without_size_are_no_reason_to_refuse(features, dtype):
    risk = FeatureRisk(features, lambda f: f.square().sum(1))
    assert not risk.value(uniform(torch.randn(3, 4, 1, dtype=dtype))).any()
