import math

import pytest
import torch
from torch.testing import assert_close

from regimes.meanfield.forces import Functional
from regimes.meanfield.measure_flow import measure_flow
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.dirichlet import harmonics
from regimes.meanfield.spikes.problems import evenly_spaced, merged, random_spikes
from regimes.meanfield.spikes.risk import SpikeRisk, observed
from regimes.meanfield.velocities import conic

ORDER, PENALTY = 3, 0.4


def kernel(x: torch.Tensor, order: int = ORDER) -> torch.Tensor:
    """Π sin((2n+1)πx)/sin(πx), the definition."""
    return (torch.sin((2 * order + 1) * math.pi * x) / torch.sin(math.pi * x)).prod(-1)


def drawn(dim: int, signed: bool = True, runs: int = 2, m: int = 5) -> tuple[Measure, Measure]:
    """What is to be found, and a measure of m particles."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(11, 11 + runs)]
    truth = random_spikes(3, dim, separation=0.1, signed=signed, generators=generators)
    return truth, random_spikes(m, dim, separation=0.0, signed=signed, generators=generators)


def problem(dim: int, signed: bool = True) -> tuple[SpikeRisk, Measure, Measure]:
    truth, measure = drawn(dim, signed)
    return SpikeRisk(observed(truth, ORDER), penalty=PENALTY, signed=signed), truth, measure


def test_harmonics_give_the_dirichlet_kernel_and_are_orthonormal():
    x, y = torch.rand(2, 40, dtype=torch.float64)
    products = (harmonics(x, 7)[0] * harmonics(y, 7)[0]).sum(-1)
    assert_close(products, kernel((x - y)[:, None], 7))
    nodes = harmonics(torch.arange(15, dtype=torch.float64) / 15, 7)[0]
    assert_close(nodes.mT @ nodes / 15, torch.eye(15, dtype=torch.float64))


@pytest.mark.parametrize("dim", [1, 2])
def test_the_value_is_the_integral_over_the_torus(dim):
    risk, truth, measure = problem(dim)
    points = 4 * ORDER + 2  # the square of the difference is a polynomial of degree 2n: its mean over them is exact
    axis = (torch.arange(points, dtype=torch.float64) + 0.37) / points
    grid = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)

    def seen(of: Measure) -> torch.Tensor:
        return (of.mass[:, None] * kernel(grid[:, None] - of.position[:, None])).sum(-1)

    squares = (seen(truth) - seen(measure)).square()
    expected = squares.mean(1) / (2 * PENALTY) + measure.mass.abs().sum(1)
    assert_close(risk.value(measure), expected)
    at = torch.rand(4000, dim, dtype=torch.float64)
    sample = torch.stack(
        [(of.mass[:, None] * kernel(at[:, None] - of.position[:, None])).sum(-1) for of in (truth, measure)]
    )
    draws = (sample[0] - sample[1]).square() / (2 * PENALTY)
    off = (draws.mean(1) + measure.mass.abs().sum(1) - risk.value(measure)).abs()
    assert (off <= 5 * draws.std(1) / 4000**0.5).all()


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("signed", [False, True])
def test_forces_are_the_derivatives_of_the_value(dim, signed):
    risk, _, measure = problem(dim, signed)
    position, mass = measure.position.clone().requires_grad_(), measure.mass.clone().requires_grad_()
    by_mass, by_position = torch.autograd.grad(risk.value(Measure(position, mass)).sum(), (mass, position))
    value, variation, gradient = risk.value_and_forces(measure)
    assert_close(value, risk.value(measure))
    assert_close(variation, by_mass)
    assert_close(gradient * measure.mass[..., None], by_position)
    step = 1e-5
    for axis in range(dim):
        moved = torch.zeros_like(measure.position)
        moved[:, 1, axis] = step
        two = [risk.value(measure._replace(position=measure.position + side * moved)) for side in (1, -1)]
        slope = (two[0] - two[1]) / (2 * step)
        assert_close(slope, measure.mass[:, 1] * gradient[:, 1, axis], rtol=1e-7, atol=1e-7)
    assert_close(risk.variation(measure), by_mass)


@pytest.mark.parametrize("dim", [1, 2])
def test_the_first_variation_elsewhere_is_that_of_positive_mass(dim):
    risk, _, measure = problem(dim)
    at = torch.rand(2, 1, dim, dtype=torch.float64)
    step = 1e-6
    added = measure.join(Measure(at, torch.full((2, 1), step, dtype=torch.float64)))
    assert_close(
        (risk.value(added) - risk.value(measure)) / step, risk.variation(measure, at)[:, 0], rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("dim", [1, 2])
def test_derivatives_of_the_certificate_are_its_own(dim):
    risk, _, measure = problem(dim)
    residual = risk.residual(measure)
    at = torch.rand(2, 6, dim, dtype=torch.float64, requires_grad=True)
    value, gradient, hessian = risk.correlation(residual, at, 2)
    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    assert_close(gradient, slope)
    rows = [torch.autograd.grad(slope[..., axis].sum(), at, retain_graph=True)[0] for axis in range(dim)]
    assert_close(hessian, torch.stack(rows, -2))
    axis = torch.arange(5, dtype=torch.float64) / 5
    grid = torch.cartesian_prod(*[axis] * dim).reshape(1, -1, dim).expand(2, -1, -1)
    assert_close(risk.on_grid(residual, 5), risk.correlation(residual, grid, 1))


def test_every_run_is_its_own_problem():
    risk, _, measure = problem(2)
    assert isinstance(risk, Functional)
    last = torch.tensor([1])
    alone = risk.select(last, of=2)
    assert_close(alone.value_and_forces(measure.select(last)).gradient, risk.value_and_forces(measure).gradient[1:])


@pytest.mark.slow
def test_the_conic_flow_takes_it_and_lowers_it():
    risk, _, measure = problem(1)
    *_, end = measure_flow(risk, measure, [0.001, 0.01], conic(transport=0.01))
    assert (end.value < risk.value(measure)).all()
    assert (end.measure.mass * measure.mass > 0).all()


@pytest.mark.parametrize(("target", "reason"), [
    (torch.zeros(2, 4), r"2n \+ 1 coefficients"), (torch.zeros(2, 5, 7), "SpikeRisk needs target"),
    (torch.full((2, 5), torch.nan), "finite"), (torch.zeros(5), "SpikeRisk needs target"),
])  # fmt: skip
def test_a_target_that_is_none_is_refused(target, reason):
    with pytest.raises(ValueError, match=reason):
        SpikeRisk(target, penalty=1.0)


def test_a_measure_of_other_dimension_runs_or_sign_is_refused():
    risk, _, measure = problem(2, signed=False)
    with pytest.raises(ValueError, match=r"Positions are \(runs, m, 2\)"):
        risk.value(Measure(measure.position[..., :1], measure.mass))
    with pytest.raises(ValueError, match="needs position"):
        risk.value(measure.select(torch.tensor([0, 1, 0])))
    with pytest.raises(ValueError, match="at least 0"):
        risk.value(measure._replace(mass=-measure.mass))


@pytest.mark.parametrize("m", [1, 2, 7, 36])
def test_evenly_spaced_points_see_the_same_picture_and_are_far_apart(m):
    points = evenly_spaced(m, 2)
    apart = points[:, None] - points
    distances = (apart - apart.round()).norm(dim=-1).sort(1).values
    assert_close(distances, distances[:1].expand_as(distances))
    if m > 2:
        assert distances[0, 1] > 0.8 / m**0.5  # 1.07/√m for the densest lattice of the plane
    assert_close(evenly_spaced(m, 1)[:, 0], torch.arange(m, dtype=torch.float64) / m)


def test_particles_in_one_place_are_one_spike():
    position = torch.tensor([[0.99], [0.01], [0.5], [0.5], [0.7]], dtype=torch.float64)
    mass = torch.tensor([1.0, 3.0, 1.0, -1.0, 1e-9], dtype=torch.float64)
    found = merged(position, mass, within=0.03, least=1e-6)
    assert_close(found.mass[0], torch.tensor([4.0, 1.0, -1.0], dtype=torch.float64))
    assert_close(found.position[0, :, 0], torch.tensor([0.005, 0.5, 0.5], dtype=torch.float64))
