"""The propagation of chaos: its judge on made-up rows, and its measurements against known answers."""

import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import regimes
from regimes.conventions import generator
from regimes.experiments.mean_field.propagation_of_chaos import EXPONENTS, Config, draw, judge, measure, table
from regimes.experiments.mean_field.propagation_of_chaos.config import ATOMS, PLANE, ROUGH, SMOOTH, SPACE, STRATIFIED
from regimes.experiments.mean_field.propagation_of_chaos.equation import means, solve
from regimes.experiments.mean_field.propagation_of_chaos.runs import decay, flow, moments, wasserstein
from regimes.experiments.mean_field.propagation_of_chaos.torus import Problem, limit, norm, problem, starts

PROBLEMS = (SMOOTH, ROUGH, STRATIFIED, ATOMS, PLANE, SPACE)
DECAY = {SMOOTH: 3.5, ROUGH: 1.5, ATOMS: 0.0}


def made_up(**changes):
    """Exact powers of m; a change is keyed problem__column: another exponent, or another value of the others."""
    changed = {tuple(key.split("__")): value for key, value in changes.items()}
    rows = []
    for name in PROBLEMS:
        key = name.replace(" ", "_").replace("-", "_")
        for width in (33, 129, 513):
            for seed in range(6):
                row = {"problem": name, "width": width, "seed": seed, "kind": "run", "at_start": 1.0, "at_end": 0.1}
                row["decay"] = changed.get((key, "decay"), DECAY.get(name, 9.0))
                row["after"] = changed.get((key, "after"), 0.1)
                for other, column, value, _ in EXPONENTS:
                    if other == name:
                        wobble = 1 + 1e-3 * math.sin(7 * seed + width)
                        row[column] = width ** changed.get((key, column), value) * wobble
                        row[f"{column}_error"] = row["equation_error"] = 0.0
                rows.append(row)
    power = changed.get(("smooth_target", "order"), 2.0)
    base = {"problem": SMOOTH, "width": 513, "seed": 0}
    rows += [base | {"kind": "equation", "cells": cells, "distance": cells**-power} for cells in (64, 128, 256)]
    rows += [base | {"kind": "density", "angle": a, "particles": 1.0, "density": 1.0} for a in (1.0, 2.0)]
    rows += [
        base | {"problem": name, "width": width, "kind": "course", "time": t, "distance": 1 / width, "loss": 1.0}
        for name in (SMOOTH, ATOMS) for width in (33, 513) for t in (0.0, 0.1, 1.0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_rows_that_obey_are_supported():
    judgement = judge(made_up())
    assert judgement.verdict == "supported"
    assert all(finding.verdict == "supported" for finding in judgement.findings)


BREAKS = {
    **{f"{name}__{column}".replace(" ", "_").replace("-", "_"): value + 0.3 for name, column, value, _ in EXPONENTS},
    "smooth_target__decay": 1.9, "rough_target__decay": 2.1, "two_atoms__decay": 0.5,
    "smooth_target__after": 1.5, "smooth_target__order": 1.2,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS)
def test_each_prediction_is_refuted_by_its_own_number(broken):
    judgement = judge(made_up(**{broken: BREAKS[broken]}))
    assert judgement.verdict == "refuted"
    assert sum(finding.verdict != "supported" for finding in judgement.findings) == 1


def test_a_part_of_the_problems_is_judged_alone():
    rows = made_up()
    judgement = judge(rows[rows.problem == SPACE])
    assert {finding.verdict for finding in judgement.findings} == {"supported", "not measured"}


@pytest.mark.slow
def test_table_and_figure_show_all_problems():
    rows = made_up()
    assert len(table(rows)) == 3 * 5  # the rough target has no exponent of its own here
    made = draw(rows)
    assert [bool(ax.lines) for ax in made.axes] == [True] * 4
    assert len(draw(rows[rows.problem == SPACE]).axes) == 4


def net(name, modes=4):
    return problem(name, modes, 10.0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_velocity_is_m_times_minus_the_gradient_of_the_loss(name):
    one = net(name)
    angles = (6 * torch.rand(3, 7, one.inputs.shape[1], dtype=torch.float64)).requires_grad_()
    phases = (angles[..., None, :] * one.inputs).sum(-1)
    outputs = [one.gains * wave.mean(1) for wave in (phases.cos(), phases.sin())]
    targets = (one.targets.real, one.targets.imag)
    loss = sum((f - y).square().sum(1) / 2 for f, y in zip(outputs, targets, strict=True))
    (gradient,) = torch.autograd.grad(loss.sum(), angles)
    waves = one.waves(angles.detach())
    assert_close(one.loss(waves.mean(-2)), loss.detach())
    assert_close(one.velocity(waves, waves.mean(-2)), -7 * gradient)


@pytest.mark.slow
def test_modes_near_the_uniform_density_are_learned_at_their_own_rates():
    one = net(ROUGH, 4)
    small = one._replace(targets=1e-3 * one.targets)
    course = flow(small, 5, [0], [0.0, 1.0, 4.0], 1e-8)
    left = (small.gains * course.limit_means - small.targets).abs() / small.targets.abs().clamp_min(1e-300)
    rates = torch.arange(1, 5, dtype=torch.float64) ** -2.0
    trained = small.gains > 0
    assert_close(left[2][trained], (-4 * rates).exp()[trained], rtol=1e-3, atol=0)  # the next order is 3e-5 of them


@pytest.mark.slow
def test_with_the_field_of_the_limit_copies_follow_it_and_particles_do_not():
    one = net(SMOOTH)
    course = flow(one, 9, [0, 1], [0.0, 1.0], 1e-7)
    assert_close(course.particles[0], course.copies[0])
    assert float(course.displacement()[0].max()) == 0 < float(course.displacement()[1].min())
    exact = Problem(one.inputs, one.gains, one.fresh, one.gains * course.limit_means[0], one.start, 1.0)
    still = flow(exact, 9, [0], [1.0], 1e-7)  # a limit without loss: copies stay
    assert_close(still.copies[0], course.copies[0, :1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [SMOOTH, PLANE, SPACE])
def test_the_limit_is_known_to_far_below_the_distances(name, monkeypatch):
    from regimes.experiments.mean_field.propagation_of_chaos import runs

    one = net(name)
    ends = [flow(one, 3, [0], [3.0], 1e-7).limit_means]
    points = {1: 200, 2: 40, 3: 14}[one.inputs.shape[1]]
    axis = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points) + 0.1
    grid = torch.cartesian_prod(*[axis] * one.inputs.shape[1]).reshape(-1, one.inputs.shape[1])
    monkeypatch.setattr(runs, "limit", lambda _: grid)
    ends.append(flow(one, 3, [0], [3.0], 1e-7).limit_means)
    assert_close(*ends, rtol=0, atol=3e-7)


@pytest.mark.slow
def test_the_limit_stands_nearer_to_a_stratified_start_than_that_can_be():
    """One point in each of m arcs h is at W2 = h/√6 from the uniform law, and what stands for the law adds little."""
    one = net(STRATIFIED, 16)
    found = torch.tensor([wasserstein(start, limit(one)) for start in starts(one, 513, list(range(4)))])
    assert float(found.square().mean().sqrt()) == pytest.approx(2 * math.pi / 513 / 6**0.5, rel=0.07)


@pytest.mark.slow
@pytest.mark.parametrize("name", [SMOOTH, ROUGH])
def test_the_equation_and_the_limit_agree_to_second_order(name):
    one = net(name)
    truth = flow(one, 3, [0], [2.0], 1e-7).limit_means
    off = [float(norm(one.gains * (means(one, solve(one, [2.0], cells)) - truth)).max()) for cells in (64, 128)]
    assert off[1] < 1e-3
    assert off[0] / off[1] == pytest.approx(4, rel=0.25)  # slopes are cut at extrema


@pytest.mark.slow
@pytest.mark.parametrize("name", [SMOOTH, PLANE])
def test_particles_go_as_in_the_flow_of_measures_of_the_library(name):
    one = net(name)
    course = flow(one, 5, [0, 1], [0.0, 2.0], 1e-8)
    targets = torch.cat([one.targets.real, one.targets.imag])

    def features(angles):
        phases = angles @ one.inputs.T
        return torch.cat([one.gains * phases.cos(), one.gains * phases.sin()], 2)

    library = regimes.ParticleFlow(features, lambda f: (f - targets).square().sum(1) / 2)
    (moment,) = library(course.particles[0], times=[2.0], rtol=1e-8, atol=1e-8)
    assert_close(moment.measure.position, course.particles[1], rtol=0, atol=1e-6)
    assert_close(moment.value, one.loss(course.means[1]), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_two_atoms_are_a_saddle_that_uneven_shares_leave():
    one = net(ATOMS)
    course = flow(one, 33, [0, 1], [0.0, 10.0, 50.0], 1e-7)
    assert_close(course.limit[-1].flatten().abs(), torch.full((2,), math.pi / 2, dtype=torch.float64))
    floor = one.loss(course.limit_means)[-1]
    assert float(floor) > 0.2
    assert bool((one.loss(course.means)[-1] < 0.5 * floor).all())
    bound = sum((2 * one.loss(values[1])).sqrt() for values in (course.means, course.limit_means))
    assert bool((course.distance(one.gains)[2] <= bound).all())  # no loss rises, so this holds at all later times
    assert float(limit(one).sum()) == 0


def test_decay_is_the_power_of_the_loss():
    times = [0.0, *[2.0**k for k in range(12)]]
    losses = 3 * torch.tensor(times, dtype=torch.float64).clamp_min(0.5) ** -2.5
    assert float(decay(times, losses, torch.tensor(times) > 10)) == pytest.approx(2.5)


def test_times_hold_the_start_the_short_horizon_and_the_end():
    times = moments(200.0, 40)
    assert len(times) == 40
    assert times[0] == 0
    assert min(abs(time - 1) for time in times) < 1e-12
    assert times[-1] == pytest.approx(200)
    assert times == sorted(set(times))


@pytest.mark.slow
def test_w2_in_one_dimension_is_that_of_the_sorted_points():
    one, other = (torch.randn(40, 1, dtype=torch.float64, generator=generator(seed)) for seed in (1, 2))
    sorted_ones = (one.sort(0).values - other.sort(0).values).square().mean().sqrt()
    assert wasserstein(one, other) == pytest.approx(float(sorted_ones))


def test_widths_that_two_atoms_may_share_evenly_are_refused():
    with pytest.raises(ValueError, match="Pass 65"):
        Config(width=(33, 64))
    assert Config(width=(64,), problem=(SMOOTH,)).width == (64,)


@pytest.mark.slow
def test_rows_have_what_is_judged():
    config = Config(horizon=4.0, moments=8, tolerance=1e-4)
    rows = []
    for name in (SMOOTH, STRATIFIED, ATOMS):
        for width in config.width:
            points = [{"problem": name, "width": width, "seed": seed} for seed in range(config.seeds)]
            for point, found in zip(points, measure(config, points), strict=True):
                rows += [point | row for row in found]
    frame = pd.DataFrame(rows)
    missing = {finding.quantity.split(":")[0] for finding in judge(frame).findings if finding.verdict == "not measured"}
    assert missing == {ROUGH, PLANE, SPACE}
    runs = frame[frame.kind == "run"]
    assert (runs.distance >= runs.early).all()
    assert (runs.to_copies.dropna() <= runs.displacement[runs.to_copies.notna()] + 1e-9).all()
    alone = pd.DataFrame(measure(config, [{"problem": SMOOTH, "width": 33, "seed": 2}])[0])
    both = runs[(runs.problem == SMOOTH) & (runs.width == 33) & (runs.seed == 2)]
    assert float(alone.distance[0]) == pytest.approx(float(both.distance.iloc[0]), rel=1e-4)
