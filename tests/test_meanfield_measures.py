"""Measures and functionals of them: sums, mixtures, first variations against closed forms and finite differences."""

import math
from typing import NamedTuple

import pytest
import torch
from torch.testing import assert_close

from regimes.meanfield.certificate import certify
from regimes.meanfield.functionals import FeatureRisk, Functional, general
from regimes.meanfield.measure_flow import measure_flow
from regimes.meanfield.measures import Measure, mixture, uniform
from regimes.meanfield.positions import each, leaves, rebuild
from regimes.meanfield.searches import Field, multistart
from regimes.meanfield.velocities import conic, fisher_rao, wasserstein

NAN = math.nan


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class Spike(NamedTuple):
    place: torch.Tensor
    width: torch.Tensor


def features(position):
    place, width = (position.place, position.width) if isinstance(position, Spike) else (position, None)
    grid = torch.linspace(0, 1, 7, dtype=place.dtype)
    shape = 3.0 if width is None else 1 + width[..., None].square()
    return torch.exp(-shape * (place[..., None] - grid).square())


TARGET = torch.linspace(-1, 1, 7, dtype=torch.float64)


def square(output):
    return (output - TARGET).square().sum(1) / 2


def spikes(runs=3, m=4):
    return Measure(Spike(randn(runs, m), randn(runs, m)), randn(runs, m))


def test_a_position_is_taken_apart_and_put_together():
    position = {"b": (randn(2, 3), randn(2, 3, 4)), "a": Spike(randn(2, 3), randn(2, 3))}
    again = rebuild(position, leaves(position))
    assert isinstance(again["a"], Spike)
    assert_close(again, position)
    other = {"a": position["a"], "b": position["b"]}  # the order of keys does not matter
    assert_close(each(torch.add, position, other), each(lambda part: 2 * part, position))


def test_the_join_of_measures_is_their_sum():
    one, other = spikes(m=4), spikes(m=2)
    risk = FeatureRisk(features, square)
    joined = one.join(other)
    assert joined.size == 6
    assert_close(risk.output(joined), risk.output(one) + risk.output(other))
    assert_close(joined.total(), one.total() + other.total())
    half = mixture(one, other, 0.5)
    assert_close(risk.output(half), (risk.output(one) + risk.output(other)) / 2)


def test_equal_masses_share_the_total():
    measure = uniform(randn(2, 5, 3), torch.tensor([1.0, 4.0]))
    assert_close(measure.total(), torch.tensor([1.0, 4.0], dtype=torch.float64))
    assert measure.mass.dtype == torch.float64


def f(measure):
    return square(measure.integral(features(measure.position)))


@pytest.mark.parametrize("functional", [FeatureRisk(features, square), general(f)], ids=["features", "general"])
def test_the_first_variation_is_that_of_finite_differences(functional):
    assert isinstance(functional, Functional)
    measure, at = spikes(), Spike(randn(3, 2), randn(3, 2))
    step = 1e-6
    for point in range(2):
        place = each(lambda part, point=point: part[:, point : point + 1], at)
        masses = (torch.full((3, 1), sign * step, dtype=torch.float64) for sign in (1, -1))
        more, less = (functional.value(measure.join(Measure(place, mass))) for mass in masses)
        assert_close(functional.variation(measure, at)[:, point], (more - less) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    "functional",
    [FeatureRisk(features, square, penalty=0.3, decay=0.2), general(f)],
    ids=["features", "general"],
)
def test_forces_are_those_of_finite_differences(functional):
    measure = spikes()
    value, variation, gradient = functional.value_and_forces(measure)
    assert_close(value, functional.value(measure))
    assert_close(variation, functional.variation(measure))
    step = 1e-6
    for j in range(measure.size):
        changes = []
        for sign in (1, -1):
            mass = measure.mass.clone()
            mass[:, j] += sign * step
            place = measure.position.place.clone()
            place[:, j] += sign * step
            changes.append(
                (functional.value(measure._replace(mass=mass)),
                 functional.value(Measure(measure.position._replace(place=place), measure.mass)))
            )  # fmt: skip
        slopes = [(more - less) / (2 * step) for more, less in zip(*changes, strict=True)]
        assert_close(variation[:, j], slopes[0], rtol=1e-7, atol=1e-8)
        assert_close(measure.mass[:, j] * gradient.place[:, j], slopes[1], rtol=1e-7, atol=1e-8)


def test_both_ways_to_a_functional_agree_also_where_a_mass_is_zero():
    measure = spikes()
    measure.mass[:, 1] = 0
    for one, other in zip(FeatureRisk(features, square).value_and_forces(measure),
                          general(f).value_and_forces(measure), strict=True):  # fmt: skip
        assert_close(one, other)


def test_a_penalty_counts_for_both_signs():
    measure, at = spikes(), Spike(randn(3, 2), randn(3, 2))
    plain, penal = FeatureRisk(features, square), FeatureRisk(features, square, penalty=0.5)
    assert_close(penal.value(measure) - plain.value(measure), 0.5 * measure.total_variation())
    assert_close(penal.variation(measure) - plain.variation(measure), 0.5 * measure.mass.sign())
    assert_close(penal.variation(measure, at, sign=-1.0), 0.5 - plain.variation(measure, at))


def test_forces_of_huge_positions_and_masses_are_finite():
    measure = Measure(1e8 * randn(2, 3), 1e8 * randn(2, 3))
    for part in FeatureRisk(features, square, penalty=1.0).value_and_forces(measure):
        assert part.isfinite().all()


def test_a_run_depends_on_its_own_measure_only():
    risk, measure = FeatureRisk(features, square, shared=True), spikes()
    some = torch.tensor([0, 2])
    part = risk.select(some, of=3)
    assert part is not None
    for chosen, whole in zip(part.value_and_forces(measure.select(some)), risk.value_and_forces(measure), strict=True):
        assert_close(chosen, each(lambda p: p[some], whole))
    assert FeatureRisk(features, square).select(some, of=3) is None


def test_numbers_of_python_keep_their_digits():
    one, other = spikes(), spikes(m=2)
    masses = torch.cat([0.7 * one.mass, 0.3 * other.mass], 1)
    assert_close(mixture(one, other, 0.3).mass, masses, rtol=1e-15, atol=0)
    assert_close(uniform(randn(1, 3), 0.3).mass, torch.full((1, 3), 0.1, dtype=torch.float64), rtol=1e-15, atol=0)


def penalised(measure):
    potential = 0.3 + 0.2 * (measure.position.place.square() + measure.position.width.square())
    return f(measure) + (measure.mass.abs() * potential).sum(1)


def test_a_penalty_counts_in_general_as_in_the_risk_of_features():
    """At other points, and where a mass is zero, that of positive mass."""
    risk, functional = FeatureRisk(features, square, penalty=0.3, decay=0.2), general(penalised)
    measure, at = spikes(), Spike(randn(3, 2), randn(3, 2))
    none = Measure(measure.position, measure.mass.clone())
    none.mass[:, 1] = 0
    for each_measure in (measure, none):
        assert_close(functional.variation(each_measure, at), risk.variation(each_measure, at))
        for one, other in zip(functional.value_and_forces(each_measure),
                              risk.value_and_forces(each_measure), strict=True):  # fmt: skip
            assert_close(one, other)
    ones, others = (Field(both, none).with_slopes(at) for both in (functional, risk))
    assert_close(ones, others)
    total = general(lambda measure: f(measure) + 0.3 * measure.total_variation())
    assert_close(total.variation(none, at), FeatureRisk(features, square, penalty=0.3).variation(none, at))


def test_a_flow_and_its_certificate_need_no_autograd_of_the_caller():
    measure = Measure(Spike(randn(1, 3), randn(1, 3)), torch.rand(1, 3, dtype=torch.float64))
    for zero in (False, True):
        measure.mass[:, 0] *= not zero
        for functional in (FeatureRisk(features, square), general(f)):
            (outside,) = measure_flow(functional, measure, [0.1], rtol=1e-3)
            with torch.no_grad():
                (inside,) = measure_flow(functional, measure, [0.1], rtol=1e-3)
                found = certify(functional, measure, multistart(measure.position, iterations=2), fixed_total=True)
            assert_close(inside.measure, outside.measure, rtol=0, atol=0)
            assert found.gap.isfinite().all()


def test_what_was_refused_once_is_refused_again():
    functional = general(lambda measure: measure.mass.square().sum(1))
    for _ in range(2):
        with pytest.raises(ValueError, match="function of the measure"):
            functional.value(spikes())
    functional = general(lambda measure: measure.mass.square().sum(1))
    empty = spikes()
    functional.value(empty._replace(mass=torch.zeros_like(empty.mass)))  # halves of nothing show nothing
    with pytest.raises(ValueError, match="function of the measure"):
        functional.value(empty)


def test_a_loss_that_mixes_runs_is_seen_when_there_are_several():
    mixed = lambda output: (output - output.mean(0)).square().sum(1)  # noqa: E731
    risk = FeatureRisk(features, mixed)
    one = spikes(runs=1)
    risk.value(one)
    risk.value(one.select([0, 0]))  # at equal outputs it has no slope
    with pytest.raises(ValueError, match="each run for itself"):
        risk.value(spikes())


@pytest.mark.parametrize(
    "mixed", [lambda p: p - p.mean(1, keepdim=True), lambda p: p - p.mean(0)], ids=["particles", "runs"]
)
def test_features_that_mix_are_seen_once_the_particles_are_not_equal(mixed):
    risk = FeatureRisk(lambda p: mixed(p).cos(), lambda f: f.square().sum(1))
    risk.value(uniform(torch.ones(3, 4, 1, dtype=torch.float64)))
    with pytest.raises(ValueError, match="each particle of each run for itself"):
        risk.value(uniform(randn(3, 4, 1)))


@pytest.mark.parametrize("velocity", [wasserstein(), fisher_rao(), conic()], ids=str)
def test_what_a_flow_yields_may_be_written_into(velocity):
    risk, measure = FeatureRisk(features, square), spikes()
    *_, last = measure_flow(risk, measure, [0.1, 0.2], velocity, rtol=1e-3)
    for moment in measure_flow(risk, measure, [0.1, 0.2], velocity, rtol=1e-3):
        final = moment.measure.clone()
        moment.measure.mass.mul_(3.0)
        moment.measure.position.place.zero_()
    assert_close(final, last.measure, rtol=0, atol=0)
