"""Bounds of the dual certificate, the duality gap, and the ways to the minimum that are measured by it."""

import pytest
import torch
from sklearn.linear_model import Lasso
from torch.testing import assert_close

from regimes.meanfield.certificate import certify
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.descent import forward_backward
from regimes.meanfield.spikes.dual import certify_spikes, highest_peak
from regimes.meanfield.spikes.lasso import best_masses
from regimes.meanfield.spikes.peaks import bound, peaks
from regimes.meanfield.spikes.problems import evenly_spaced, random_spikes
from regimes.meanfield.spikes.risk import SpikeRisk, observed
from regimes.meanfield.spikes.sliding import Spikes, newton_system, sliding_frank_wolfe

ORDER = 7


def problem(dim: int, signed: bool, runs: int = 2, number: int = 3) -> tuple[SpikeRisk, Measure]:
    generators = [torch.Generator().manual_seed(seed) for seed in range(21, 21 + runs)]
    truth = random_spikes(number, dim, separation=0.15, signed=signed, generators=generators)
    return SpikeRisk(observed(truth, ORDER), penalty=0.01 * (2 * ORDER + 1) ** dim, signed=signed), truth


def start(risk: SpikeRisk, m: int) -> Measure:
    position = evenly_spaced(m, risk.dim).expand(risk.runs, -1, -1)
    return Measure(position, torch.zeros(risk.runs, m, dtype=torch.float64))


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("signed", [False, True])
def test_the_bound_of_the_certificate_is_above_every_point_and_close(dim, signed):
    residual = torch.randn(6, *[2 * ORDER + 1] * dim, dtype=torch.float64)
    risk = SpikeRisk(residual, penalty=1.0, signed=signed)
    upper, found = bound(risk, risk.target)
    fine = risk.on_grid(risk.target, 3000 if dim == 1 else 200).value
    dense = (fine.abs() if signed else fine).amax(1)
    assert (upper >= dense).all()
    assert (upper <= found.height[:, 0] + 1e-10).all()  # proved and attained
    assert (found.gradient[:, 0] < 1e-9 * upper).all()
    assert_close(peaks(risk, risk.target), found)


@pytest.mark.parametrize(("constant", "signed", "most"), [(1.0, True, 1.0), (-1.0, True, 1.0), (-1.0, False, -1.0)])
@pytest.mark.parametrize("dim", [1, 2])
def test_a_flat_certificate_is_bounded_too(constant, signed, most, dim):
    residual = torch.zeros(1, *[2 * ORDER + 1] * dim, dtype=torch.float64)
    residual.view(-1)[0] = constant
    risk = SpikeRisk(residual, penalty=1.0, signed=signed)
    (upper,) = bound(risk, risk.target)[0].tolist()
    assert most <= upper < most + 0.1  # no point of it is a proper peak, so cells are cut until they are too many


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("mass", [0.8, -0.8])
def test_the_minimum_for_one_spike_is_known_and_certified(dim, mass):
    peak, penalty = (2 * ORDER + 1.0) ** dim, 1.7
    place = torch.rand(1, 1, dim, dtype=torch.float64)
    target = observed(Measure(place, torch.tensor([[mass]], dtype=torch.float64)), ORDER)
    shrunk = mass - penalty / peak * (1 if mass > 0 else -1)
    best = Measure(place, torch.tensor([[shrunk]], dtype=torch.float64))
    found = certify_spikes(SpikeRisk(target, penalty=penalty), best)
    assert_close(found.value, torch.tensor([penalty / (2 * peak) + abs(shrunk)], dtype=torch.float64))
    assert 0 <= float(found.gap) < 1e-11
    assert abs(float(found.largest) - 1) < 1e-10
    (spikes, last), *rest = list(sliding_frank_wolfe(SpikeRisk(target, penalty=penalty)))[::-1]
    assert len(rest) == 1
    assert_close(spikes.mass, best.mass[0])
    assert_close(spikes.position, place[0])
    assert float(last.gap) <= 1e-10


def test_a_positive_measure_does_not_serve_a_negative_spike():
    target = observed(
        Measure(torch.tensor([[[0.3]]], dtype=torch.float64), -torch.ones(1, 1, dtype=torch.float64)), ORDER
    )
    risk = SpikeRisk(target, penalty=5.0, signed=False)
    spikes, last = list(sliding_frank_wolfe(risk))[-1]
    assert len(spikes.mass) == 0
    assert float(last.gap) == 0
    assert float(last.largest) < 1


@pytest.mark.parametrize("signed", [False, True])
def test_a_gap_is_never_below_the_distance_to_the_minimum(signed):
    risk, truth = problem(1, signed)
    for run in range(risk.runs):
        one = risk.select(torch.tensor([run]))
        steps = list(sliding_frank_wolfe(one))
        least, values = float(steps[-1][1].value), [float(step.value) for _, step in steps]
        assert values == sorted(values, reverse=True)
        assert float(steps[-1][1].gap) <= 1e-10
        for _, step in steps:
            assert float(step.lower) <= least + 1e-12
        assert len(steps[-1][0].mass) == 3
        worse = certify_spikes(one, truth.select(torch.tensor([run])))
        assert float(worse.lower) <= least <= float(worse.value)


@pytest.mark.parametrize("signed", [False, True])
def test_best_masses_are_those_of_another_lasso(signed):
    features, target = torch.randn(8, 15, dtype=torch.float64), torch.randn(15, dtype=torch.float64)
    other = Lasso(alpha=2.0 / 15, fit_intercept=False, positive=not signed, tol=1e-14, max_iter=100_000)
    other.fit(features.mT.numpy(), target.numpy())
    start = torch.tensor([1.0, 0, 0, 3, 0, 0, 0, 0], dtype=torch.float64)
    found = best_masses(features @ features.mT / 2, features @ target / 2, start, signed=signed)
    assert_close(found, torch.as_tensor(other.coef_), rtol=0, atol=1e-9)  # the other's accuracy
    assert ((found == 0) == torch.as_tensor(other.coef_ == 0)).all()


def test_two_copies_of_a_spike_have_the_mass_of_one():
    features = torch.randn(1, 15, dtype=torch.float64).expand(2, -1)
    gram, linear = features @ features.mT, features @ (3 * features[0])
    found = best_masses(gram, linear, torch.zeros(2, dtype=torch.float64), signed=True)
    assert_close(found.sum(), 3 - 1 / gram[0, 0])


@pytest.mark.parametrize("cone", [False, True])
def test_the_first_step_of_descent_is_its_formula(cone):
    risk, _ = problem(1, True, runs=1)
    m, dtype = 4, torch.float64
    at = Measure(evenly_spaced(m, 1)[None], torch.tensor([[0.4, -0.3, 0.2, 0.0]], dtype=dtype))
    _, moment = forward_backward(risk, at, iterations=1, every=1, cone=cone)
    peak = 2 * ORDER + 1
    h, unit = risk.penalty / peak, 4 * torch.pi**2 * ORDER * (ORDER + 1) / 3
    eta, slope, _ = risk.correlation(risk.residual(at), at.position, 1)
    typical = float(risk.target.norm() / peak**0.5)
    speed = at.mass.sign() / (unit * typical) if cone else at.mass / (unit * typical**2)
    ahead = at.mass + h / m * eta
    assert_close(moment.measure.mass, ahead.sign() * (ahead.abs() - h / m).clamp_min(0))
    assert_close(moment.measure.position, at.position + h * speed[..., None] * slope)


@pytest.mark.slow
@pytest.mark.parametrize("cone", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_descent_never_rises_and_comes_to_the_certified_minimum(cone, signed):
    risk, _ = problem(1, signed, number=2)
    moments = list(forward_backward(risk, start(risk, 12), iterations=4000, gap=1e-6, cone=cone))
    values = torch.stack([moment.certificate.value for moment in moments])
    assert (values.diff(dim=0) <= 1e-12 * values[0]).all()
    end = moments[-1]
    assert (end.certificate.gap <= 1e-6).all()
    for run in range(risk.runs):
        *_, (_, other) = sliding_frank_wolfe(risk.select(torch.tensor([run])))
        assert_close(end.certificate.value[run], other.value[0], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 2])
def test_births_find_what_the_start_has_missed(dim):
    risk, _ = problem(dim, True)
    alone = start(risk, 1)
    without = list(forward_backward(risk, alone, iterations=300, cone=True))[-1]
    assert (without.certificate.gap > 1).all()
    assert (without.certificate.peaks.height[:, 0] > 1.1).all()  # and the certificate says where
    end = list(forward_backward(risk, alone, iterations=4000, gap=1e-6, cone=True, births=True))[-1]
    assert (end.certificate.gap <= 1e-6).all()
    assert (end.births >= 2).all()
    assert (end.certificate.largest <= 1 + 1e-6).all()


def test_runs_that_have_come_to_the_gap_stay_as_they_are():
    risk, _ = problem(1, False)
    solved = [list(sliding_frank_wolfe(risk.select(torch.tensor([run]))))[-1][0] for run in range(2)]
    mass, position = torch.stack([one.mass for one in solved]), torch.stack([one.position for one in solved])
    mass[1] = 0
    moments = list(forward_backward(risk, Measure(position, mass), iterations=20, every=10, gap=1e-9))
    assert moments[-1].iterations.tolist() == [0, 20]
    assert_close(moments[-1].measure.mass[0], mass[0], rtol=0, atol=0)
    assert (moments[-1].measure.mass[1] > 0).any()


@pytest.mark.parametrize("dim", [1, 2])
def test_the_bound_holds_where_newtons_method_has_found_no_peak(dim, monkeypatch):
    residual = torch.randn(4, *[2 * ORDER + 1] * dim, dtype=torch.float64)
    risk = SpikeRisk(residual, penalty=1.0)
    true = peaks(risk, risk.target).height[:, 0]
    monkeypatch.setattr("regimes.meanfield.spikes.peaks.NEWTON", 0)
    upper, found = bound(risk, risk.target)
    assert (found.height[:, 0] < true - 1e-6 * true).all()  # points of the grid
    assert (upper >= true).all()
    assert (upper <= true * (1 + 1e-3)).all()


@pytest.mark.parametrize("dim", [1, 2])
def test_the_newton_system_is_the_gradient_and_the_hessian(dim):
    risk, _ = problem(dim, True, runs=1)
    position, mass = torch.rand(4, dim, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def value(both: torch.Tensor) -> torch.Tensor:
        return risk.value(Measure(both[4:].reshape(1, 4, dim), both[None, :4]))[0]

    both = torch.cat((mass, position.flatten()))
    gradient, hessian = newton_system(risk, Spikes(position, mass), 1.0)
    assert_close(gradient, torch.func.grad(value)(both))
    assert_close(hessian, torch.func.hessian(value)(both))


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("signed", [False, True])
def test_the_certificate_of_any_functional_agrees_and_is_the_weaker_one(dim, signed):
    risk, truth = problem(dim, signed)
    general, own = certify(risk, truth, highest_peak, signed=signed), certify_spikes(risk, truth)
    assert general.proved
    assert_close(general.value, own.value)
    assert (general.lower <= own.lower).all()
    assert_close(1 - general.lowest, own.peaks.height[:, 0])
    assert_close(general.worst[:, 0], own.worst)


@pytest.mark.parametrize("signed", [False, True])
def test_one_target_serves_several_starts(signed):
    risk, _ = problem(1, signed, runs=1)
    several = risk.repeated(3)
    measure = Measure(torch.rand(3, 4, 1, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64))
    one, each = certify_spikes(risk, measure), certify_spikes(several, measure)
    assert_close(one.lower, each.lower)
    assert_close(certify(risk, measure, highest_peak).lower, certify(several, measure, highest_peak).lower)
    *_, last = forward_backward(risk, measure, iterations=5, births=True)
    *_, expected = forward_backward(several, measure, iterations=5, births=True)
    assert_close(last.measure.mass, expected.measure.mass)
    with pytest.raises(ValueError, match="3 runs of its targets; got 2"):
        certify_spikes(several, measure.select([0, 1]))


def test_sliding_frank_wolfe_asks_for_double_precision():
    measure = Measure(torch.tensor([[[0.2], [0.6]]]), torch.tensor([[1.0, 0.7]]))
    with pytest.raises(ValueError, match=r"float64.*got torch\.float32"):
        next(sliding_frank_wolfe(SpikeRisk(observed(measure, order=7), penalty=0.1)))


def test_a_certificate_in_single_precision_does_not_depend_on_the_default_one():
    measure = Measure(torch.tensor([[[0.2], [0.6]]]), torch.tensor([[1.0, -0.7]]))
    risk = SpikeRisk(observed(measure, order=7), penalty=0.1)
    expected = certify_spikes(risk, measure).lower
    torch.set_default_dtype(torch.float64)
    try:
        found = certify_spikes(risk, measure).lower
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(found, expected)


def test_what_descents_of_spikes_yield_may_be_written_into():
    risk, _ = problem(1, True, runs=1)
    *_, (whole, _) = sliding_frank_wolfe(risk, steps=3)
    for spikes, _ in sliding_frank_wolfe(risk, steps=3):
        found = [part.clone() for part in spikes]
        for part in spikes:
            part.mul_(3.0)
    assert_close(found, list(whole), rtol=0, atol=0)
    *_, end = forward_backward(risk, start(risk, 4), iterations=20, every=10)
    for moment in forward_backward(risk, start(risk, 4), iterations=20, every=10):
        found = [moment.measure.position.clone(), moment.measure.mass.clone()]
        for part in (moment.measure.position, moment.measure.mass):
            part.mul_(3.0)
    assert_close(found, [end.measure.position, end.measure.mass], rtol=0, atol=0)
