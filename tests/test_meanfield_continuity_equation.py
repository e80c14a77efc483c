"""The finite volumes: their order, the mass they keep, the sign they keep, and that particles agree."""

import math

import pytest
import torch
from torch.testing import assert_close

from regimes.errors import RunFailed
from regimes.meanfield.continuity_equation import centres, continuity_flow, right_edges

CIRCLE = 2 * math.pi


def averages(distribution, cells, length):
    """Cell averages of a density from its distribution function."""
    edges = torch.cat([torch.zeros(1, dtype=torch.float64), right_edges(cells, length)])
    return (distribution(edges).diff() / (length / cells))[None]


def normal(mean, variance):
    return lambda x: (1 + torch.erf((x - mean) / math.sqrt(2 * variance))) / 2


def order(errors):
    """Least-squares slope of log2 error over halvings of h."""
    return float(-torch.tensor(errors, dtype=torch.float64).log2().diff().mean())


def shifted(cells):
    """A wave that travels at speed 1, after time 1: ρ = 1 + 0.8 sin(θ − 1)."""
    start = averages(lambda x: x - 0.8 * x.cos(), cells, CIRCLE)
    end = averages(lambda x: x - 0.8 * (x - 1).cos(), cells, CIRCLE)
    (found,) = continuity_flow(torch.ones_like, start, [1.0], length=CIRCLE)
    return float((found.density - end).abs().mean())


def gathered(cells):
    """The uniform density under v = sin θ: tan(θ/2) grows like e^t, so what is at θ was at 2 atan(e^−t tan(θ/2))."""
    start, edges = torch.ones(1, cells, dtype=torch.float64), right_edges(cells, CIRCLE)

    def mass(x):
        return torch.atan2(torch.sin(x / 2).clamp_min(0) * math.exp(-1), torch.cos(x / 2)) * 2

    (found,) = continuity_flow(lambda _: edges.sin()[None], start, [1.0], length=CIRCLE)
    return float((found.density - averages(mass, cells, CIRCLE)).abs().mean())


def relaxed(cells):
    """Ornstein and Uhlenbeck: v = −θ with noise turns N(1.5, 0.6) into N(1.5 e^−t, ...), here between far walls."""
    edges, temperature = right_edges(cells, 10.0) - 5, 0.3
    end = normal(5 + 1.5 * math.exp(-0.5), 0.6 * math.exp(-1) + temperature * (1 - math.exp(-1)))
    start = averages(normal(6.5, 0.6), cells, 10.0)
    (found,) = continuity_flow(
        lambda _: -edges[None], start, [0.5], length=10.0, temperature=temperature, periodic=False
    )
    return float((found.density - averages(end, cells, 10.0)).abs().mean())


@pytest.mark.parametrize("problem", [shifted, gathered, pytest.param(relaxed, marks=pytest.mark.slow)])
def test_the_order_is_two(problem):
    # Slopes are cut at extrema: the order comes to two from below as h falls.
    assert order([problem(cells) for cells in (200, 400)]) == pytest.approx(2.0, abs=0.1)


def rough(cells, runs=3):
    """Densities with jumps and empty cells, and velocities that change sign from edge to edge."""
    draw = torch.rand(runs, cells, dtype=torch.float64)
    return torch.where(draw < 0.5, 0.0, draw), torch.randn(runs, cells, dtype=torch.float64)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_mass_is_kept_and_no_cell_becomes_negative_at_the_largest_step(periodic, temperature):
    start, speed = rough(40)
    options = {"length": 3.0, "temperature": temperature, "periodic": periodic, "courant": 1.0}
    for moment in continuity_flow(lambda _: speed, start, [0.0, 0.1, 0.4], **options):
        assert_close(moment.density.sum(1), start.sum(1), rtol=1e-12, atol=0)
        assert float(moment.density.min()) >= 0
    assert moment.steps > 20


def test_a_step_that_is_too_long_is_what_makes_cells_negative(monkeypatch):
    from regimes.meanfield import continuity_equation

    start, speed = rough(40)
    change = continuity_equation._change
    monkeypatch.setattr(continuity_equation, "_change", lambda *arguments: 4 * change(*arguments))
    (moment,) = continuity_flow(lambda _: speed, start, [0.2], length=3.0, courant=1.0)
    assert float(moment.density.min()) < 0


def test_walls_hold_what_is_driven_against_them():
    start = torch.ones(1, 10, dtype=torch.float64)
    (moment,) = continuity_flow(torch.ones_like, start, [4.0], length=1.0, periodic=False)
    assert_close(moment.density[0, -1], torch.tensor(10.0, dtype=torch.float64))


def test_noise_alone_flattens_and_a_velocity_of_zero_changes_nothing():
    start = averages(lambda x: x - 0.8 * x.cos(), 64, CIRCLE)
    (still,) = continuity_flow(torch.zeros_like, start, [1.0], length=CIRCLE)
    assert_close(still.density, start)
    (moment,) = continuity_flow(torch.zeros_like, start, [1.0], length=CIRCLE, temperature=0.5)
    assert_close(moment.density - 1, (start - 1) * math.exp(-0.5), rtol=2e-3, atol=1e-5)  # O(h²)


def test_it_moves_mass_where_particles_go():
    """A velocity that depends on the density: attraction to the mean direction, beside evenly spaced particles."""
    edges, middles = right_edges(400, CIRCLE), centres(400, CIRCLE)
    labels = centres(400, CIRCLE)
    particles = labels - 0.5 * labels.cos() * 0.8
    start = torch.ones(1, 400, dtype=torch.float64) + 0.8 * (middles - 1).cos()

    def toward(angles, sine, cosine):
        return sine * angles.cos() - cosine * angles.sin()

    def velocity(density):
        return toward(
            edges, (density * middles.sin()).mean(1, keepdim=True), (density * middles.cos()).mean(1, keepdim=True)
        )

    (moment,) = continuity_flow(velocity, start, [1.0], length=CIRCLE)
    distribution = lambda x: x + 0.8 * (x - 1).sin() + 0.8 * math.sin(1)  # noqa: E731
    for _ in range(60):  # the particles stand at the quantiles of the start
        particles = particles - (distribution(particles) - labels) / (1 + 0.8 * (particles - 1).cos())
    for _ in range(1000):
        half = particles + 0.0005 * toward(particles, particles.sin().mean(), particles.cos().mean())
        particles = particles + 0.001 * toward(half, half.sin().mean(), half.cos().mean())
    assert_close((moment.density * middles.cos()).mean(1)[0], particles.cos().mean(), rtol=0, atol=2e-4)
    assert_close((moment.density * middles.sin()).mean(1)[0], particles.sin().mean(), rtol=0, atol=2e-4)
    assert abs(float(particles.cos().mean()) - 0.4 * math.cos(1)) > 0.05  # they have moved


def test_errors_name_the_cure():
    start = torch.ones(1, 8, dtype=torch.float64)
    for name, value, words in (
        ("courant", 2.0, "at most 1"),
        ("length", 0.0, "length"),
        ("temperature", -1.0, "temperat"),
    ):
        with pytest.raises(ValueError, match=words):
            next(continuity_flow(torch.zeros_like, start, [1.0], **({"length": 1.0} | {name: value})))
    with pytest.raises(ValueError, match="nowhere negative"):
        next(continuity_flow(torch.zeros_like, -start, [1.0], length=1.0))
    with pytest.raises(ValueError, match="ascend"):
        next(continuity_flow(torch.zeros_like, start, [1.0, 0.5], length=1.0))
    with pytest.raises(ValueError, match="3 cells"):
        next(continuity_flow(torch.zeros_like, start[:, :2], [1.0], length=1.0))
    with pytest.raises(RunFailed, match="not finite"):
        next(continuity_flow(lambda density: density / 0, start, [1.0], length=1.0))
    with pytest.raises(RunFailed, match="max_steps"):
        next(continuity_flow(torch.ones_like, start, [1.0], length=1.0, max_steps=2))


@pytest.mark.slow
def test_the_longest_step_keeps_a_velocity_that_answers_the_density_stable():
    """A gradient flow of ½|mean of e^{iθ}|²/ε near its minimum: v is tiny, and its answer has the rate 1/(2ε)."""
    edges, middles = right_edges(64, CIRCLE), centres(64, CIRCLE)
    start = 1 + 1e-3 * middles.cos()[None]

    def velocity(density):
        return (density * middles.cos()).mean(1, keepdim=True) * edges.sin() / 0.01

    (long,) = continuity_flow(velocity, start, [10.0], length=CIRCLE)
    (short,) = continuity_flow(velocity, start, [10.0], length=CIRCLE, longest=0.02)
    assert float((short.density - 1).abs().max()) < 1e-6 < 1e-4 < float((long.density - 1).abs().max())


def coupled(cells, *, strength, time, first=1e-4):
    """Oscillators that pull each other, v(θ) = strength ∫ sin(θ' − θ) dρ(θ'), from nearly the uniform density."""
    middles, edges = centres(cells, CIRCLE), right_edges(cells, CIRCLE)
    pull = strength * torch.sin(middles[None] - edges[:, None]) * (CIRCLE / cells)
    start = (1 + first * middles.cos())[None] / CIRCLE
    (moment,) = continuity_flow(lambda density: density @ pull.T, start, [time], length=CIRCLE)
    order = float((moment.density[0] * torch.exp(1j * middles)).sum().abs()) * CIRCLE / cells
    return order, moment


def test_a_step_is_short_enough_for_a_velocity_that_grows_from_nothing():
    """The uniform density is unstable: the order parameter r is half the first wave, and r' = r(1 − r²) + ..."""
    limit = 5e-5 * math.exp(5)
    errors = [abs(coupled(cells, strength=2.0, time=5.0)[0] - limit) for cells in (200, 400, 800)]
    assert order(errors) == pytest.approx(2.0, abs=0.2)
    assert errors[-1] < 0.01 * limit


def test_no_cell_becomes_negative_while_a_velocity_grows_from_nothing():
    together, moment = coupled(24, strength=20.0, time=2.0)
    assert together > 0.99
    assert float(moment.density.min()) >= 0


def test_the_second_velocity_of_a_step_has_to_be_finite_too():
    start = 1 + 0.5 * centres(8, 1.0).cos()[None]
    answers = iter([torch.ones_like(start), start / 0])
    with pytest.raises(RunFailed, match="not finite"):
        next(continuity_flow(lambda _: next(answers), start, [1.0], length=1.0))


def test_a_velocity_that_jumps_with_the_density_ends_in_words():
    start, size = torch.ones(1, 8, dtype=torch.float64), iter([1.0] + 100 * [1e200])
    with pytest.raises(RunFailed, match="short enough"):
        next(continuity_flow(lambda density: density * next(size), start, [1.0], length=1.0))
