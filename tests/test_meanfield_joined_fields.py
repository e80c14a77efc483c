"""Fields of a net joined with a fixed one: those of the sums over all neurons, at any size and in each call."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.meanfield import joined_fields
from regimes.meanfield.overlaps import erf_gaussian, logistic_gaussian, relu_gaussian, relu_sphere
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk

OVERLAPS = {"relu": relu_gaussian, "sphere": relu_sphere, "erf": erf_gaussian}
DOUBLE = {"dtype": torch.float64}


def nets(m, t=3, d=5, runs=2):
    source = generator(0)
    u, v = (torch.randn(runs, n, d, generator=source, **DOUBLE) for n in (m, t))
    return u, v, torch.randn(runs, m, generator=source, **DOUBLE), torch.randn(runs, t, generator=source, **DOUBLE)


def expected(overlap, u, v, own, others):
    sums, slopes = overlap.field(u, torch.cat([u, v], 1), torch.cat([own, others], 1))
    return sums.unsqueeze(2), slopes


@pytest.mark.parametrize("small", [0, 2**18])
@pytest.mark.parametrize("m", [1, 6, 7, 13])
@pytest.mark.parametrize("name", OVERLAPS)
def test_a_joined_field_is_the_field_of_both_nets(monkeypatch, name, m, small):
    monkeypatch.setattr(joined_fields, "STRIP", 6)
    monkeypatch.setattr(joined_fields, "SMALL", small)
    u, v, own, others = nets(m)
    joined = OVERLAPS[name].joined(m, v, others)
    for factor in (1.0, -0.3):  # what was there before does not count
        found = joined(factor * u, own.unsqueeze(2))
        assert_close(found, expected(OVERLAPS[name], factor * u, v, own, others))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", OVERLAPS)
def test_functions_of_both_libraries_agree(monkeypatch, name, own):
    u, v, charge, others = nets(70)
    for function in ("arccos", "arcsin", "sqrt"):
        mine = getattr(torch.Tensor, {"arccos": "acos_", "arcsin": "asin_", "sqrt": "sqrt_"}[function])
        numpy = joined_fields._in_place(getattr(joined_fields.np, function), mine, not own)
        monkeypatch.setattr(joined_fields, f"_{function}", numpy)
    found = OVERLAPS[name].joined(70, v, others)(u, charge.unsqueeze(2))
    assert_close(found, expected(OVERLAPS[name], u, v, charge, others))


@pytest.mark.parametrize("size", [0.0, 1e-200, 1e8])
@pytest.mark.parametrize("name", OVERLAPS)
def test_neurons_of_any_length_have_the_same_field(name, size):
    u, v, own, others = nets(4)
    u[:, 1:3] = size * u[:, 1:2]  # two equal ones
    v[:, 0] = 0
    found = OVERLAPS[name].joined(4, v, others)(u, own.unsqueeze(2))
    assert all(bool(part.isfinite().all()) for part in found)
    for part, other in zip(found, expected(OVERLAPS[name], u, v, own, others), strict=True):
        assert_close(part, other, rtol=1e-7, atol=1e-7 * float(other.abs().max()))  # equal neurons of 1e8 lose digits
    if size == 0 and name != "erf":
        assert not found[1][:, 1:3].any()


def test_float32_keeps_its_digits():
    u, v, own, others = (part.float() for part in nets(9))
    found = relu_gaussian.joined(9, v, others)(u, own.unsqueeze(2))
    assert_close(found, expected(relu_gaussian, u, v, own, others))


@pytest.mark.parametrize("name", OVERLAPS)
def test_a_descent_and_a_flow_have_one_gradient(name):
    teacher, student = (gaussian(m, 5, generators=[generator(m, run) for run in range(2)]) for m in (3, 66))
    risk = PopulationRisk(teacher, OVERLAPS[name], alpha=torch.tensor([1.0, 4.0]))
    memory = Particles(*map(torch.empty_like, student))
    for found in (risk.gradient(student), risk.gradient(student, memory)):
        assert_close(tuple(found), tuple(risk.risk_and_gradient(student)[1]))


def test_one_risk_serves_nets_of_any_width_in_turn_and_its_copies():
    teacher = gaussian(3, 5, generators=[generator(0)])
    wide, narrow = (gaussian(m, 5, generators=[generator(1)]) for m in (70, 4))
    risk = PopulationRisk(teacher, relu_gaussian)
    first = risk.gradient(wide)
    kept = first.clone()
    copies = [copy.deepcopy(risk), pickle.loads(pickle.dumps(risk))]
    for other in (risk, *copies):
        assert_close(tuple(other.gradient(narrow)), tuple(PopulationRisk(teacher, relu_gaussian).gradient(narrow)))
        again = other.gradient(wide)
        assert torch.equal(again.output, kept.output)
        assert torch.equal(again.input, kept.input)
    assert torch.equal(first.input, kept.input)  # what was handed out is nobody's memory


def test_one_risk_serves_two_threads_at_a_time():
    teacher = gaussian(20, 50, generators=[generator(0)])
    students = [gaussian(150, 50, generators=[generator(seed)]) for seed in (1, 2)]
    risk = PopulationRisk(teacher, relu_gaussian)
    expected = [PopulationRisk(teacher, relu_gaussian).gradient(student) for student in students]

    def steps(student):
        return [risk.gradient(student) for _ in range(30)]

    with ThreadPoolExecutor(2) as pool:
        for found, one in zip(pool.map(steps, students), expected, strict=True):
            assert all(torch.equal(each.input, one.input) for each in found)


def changed(name, risk):
    if name == "teacher in place":
        risk.teacher.output.mul_(2)
    elif name == "centre in place":
        risk.centre.input.add_(1)
    elif name == "scale":
        risk.scale = 0.5
    elif name == "α":
        risk.alpha = 3.0
    else:
        risk.teacher = gaussian(2, 5, generators=[generator(7)])


@pytest.mark.parametrize("name", ["teacher in place", "teacher", "centre in place", "scale", "α"])
def test_a_risk_that_is_changed_forgets_what_it_kept(name):
    teacher, student, centre = (gaussian(m, 5, generators=[generator(m)]) for m in (3, 6, 4))
    risk = PopulationRisk(teacher, relu_gaussian, centre=centre)
    risk.gradient(student)
    changed(name, risk)
    new = PopulationRisk(risk.teacher, relu_gaussian, centre=risk.centre, scale=risk.scale, alpha=risk.alpha)
    assert_close(tuple(risk.gradient(student)), tuple(new.gradient(student)))
    assert_close(risk.risk(student), new.risk(student))


def test_memory_made_in_inference_mode_serves_outside():
    teacher, student = (gaussian(m, 5, generators=[generator(m)]) for m in (3, 4))
    risk = PopulationRisk(teacher, relu_gaussian)
    with torch.inference_mode():
        inside = risk.gradient(student)
    assert_close(tuple(risk.gradient(student)), tuple(part.clone() for part in inside))


def test_particles_that_do_not_fit_are_refused_after_ones_that_do():
    teacher, student = (gaussian(m, 5, generators=[generator(m)]) for m in (3, 4))
    risk = PopulationRisk(teacher, relu_gaussian)
    risk.gradient(student)
    for wrong in (student.to(torch.float32), Particles(student.output, student.input[..., :4])):
        with pytest.raises(ValueError, match="PopulationRisk"):
            risk.gradient(wrong)
    risk.gradient(student)


def test_several_error_functions_go_the_long_way():
    teacher, student = (gaussian(m, 5, generators=[generator(m)]) for m in (3, 4))
    risk = PopulationRisk(teacher, logistic_gaussian)
    assert logistic_gaussian.joined(4, teacher.input, teacher.output[..., 0]) is None
    assert_close(tuple(risk.gradient(student)), tuple(risk.risk_and_gradient(student)[1]))
