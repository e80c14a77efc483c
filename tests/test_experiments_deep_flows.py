"""The statements on mean-field ResNets: judges on made-up rows, and what they measure against small computations."""

import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.experiments.mean_field import (
    adjoint_bound,
    depth_limit,
    descent_direction,
    ensemble_expansion,
    first_variation,
)
from regimes.experiments.mean_field.adjoint_bound.flow import drawn, flow
from regimes.experiments.mean_field.depth_limit.runs import independent, mean_field
from regimes.experiments.mean_field.paths import paths, problem
from regimes.meanfield.depth_descent import best_particle, frank_wolfe
from regimes.streams import DeepFlow


def noise(seed):
    return 1 + 0.02 * math.sin(3.0 * seed)


def expansion(one=2.0, two=3.0, depth=0.0):
    return pd.DataFrame([
        {"layers": layers, "strength": strength, "seed": seed, "rounding": 0.0,
         "after_one": noise(seed) * strength**one, "after_two": noise(seed) * strength**two,
         "single": noise(seed) * layers**depth, "double": layers**depth}
        for layers in (16, 64, 256) for strength in (1e-3, 1e-2, 1e-1) for seed in range(5)
    ])  # fmt: skip


def variation(order=2.0, control=1.0):
    return pd.DataFrame([
        {"layers": layers, "share": share, "seed": seed, "rounding": 0.0, "risk": 1.0,
         "remainder": noise(seed) * share**order, "control": noise(seed) * share**control}
        for layers in (4, 16, 64) for share in (1e-3, 1e-2, 1e-1) for seed in range(5)
    ])  # fmt: skip


def adjoint(ratio=1.2, tight=1.0001, order=-1.0):
    return pd.DataFrame([
        {"problems": kind, "layers": layers, "seed": seed, "ratio": ratio if kind == "random" else 1.00001,
         "ratio_at_0": 2.0 if kind == "random" else tight, "difference": noise(seed) * layers**order, "risk": 1.0,
         "ratio_error": 0.0, "ratio_at_0_error": 0.0, "difference_error": 0.0}
        for kind in ("random", "tight") for layers in (16, 64, 256) for seed in range(5)
    ])  # fmt: skip


def limit(fixed=-0.5, square=-1.0, smooth=-1.0):
    exponents = {"fixed": fixed, "as wide as deep": square, "smooth": smooth}
    return pd.DataFrame([
        {"weights": kind, "layers": layers, "seed": seed, "distance": noise(seed) * layers**exponent,
         "distance_error": 0.0, "moved": 1.0}
        for kind, exponent in exponents.items() for layers in (16, 64, 256) for seed in range(5)
    ])  # fmt: skip


def descent(fall=0.2, first=1.0, left=0.01):
    return pd.DataFrame([
        {"seed": seed, "risk": 2.0, "gap": 1.0, "first_order": first, "falls_by_chance": seed % 2, "risk_0": 2.0,
         "risk_1": 2.0 * (1 - fall), "risk_2": 2.0 * left * noise(seed)}
        for seed in range(6)
    ])  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "rows", "broken"), [
    (ensemble_expansion, expansion, {"one": 1.0}), (ensemble_expansion, expansion, {"two": 2.0}),
    (ensemble_expansion, expansion, {"depth": -0.5}), (first_variation, variation, {"order": 1.0}),
    (first_variation, variation, {"control": 2.0}), (adjoint_bound, adjoint, {"ratio": 0.9}),
    (adjoint_bound, adjoint, {"tight": 1.5}), (adjoint_bound, adjoint, {"order": -0.5}),
    (depth_limit, limit, {"fixed": -1.0}), (depth_limit, limit, {"square": -0.5}),
    (depth_limit, limit, {"smooth": -0.5}), (descent_direction, descent, {"fall": -0.1}),
    (descent_direction, descent, {"first": 0.5}), (descent_direction, descent, {"left": 0.5}),
])  # fmt: skip
def test_rows_that_obey_support_the_statement_and_each_broken_prediction_refutes_it(statement, rows, broken):
    assert statement.judge(rows()).verdict == "supported"
    assert statement.judge(rows(**broken)).verdict == "refuted"
    assert len(statement.table(rows()))
    assert statement.draw(rows()).axes


def test_a_descent_from_an_infinite_risk_leaves_what_is_left_unknown():
    rows = descent()
    rows.loc[0, "risk"] = math.inf
    assert descent_direction.judge(rows).findings[-1].reason == "the number is not known"


def test_what_is_no_part_of_the_predictions_is_not_judged():
    rows = variation()
    other = rows[rows.layers == 4].assign(layers=5)
    assert first_variation.judge(pd.concat([rows, other])).verdict == "supported"


@pytest.mark.slow
def test_the_control_of_the_first_variation_leaves_a_term_of_first_order():
    (row,) = first_variation.measure(first_variation.Config(), [{"layers": 8, "share": 1e-3, "seed": 1}])
    (less,) = first_variation.measure(first_variation.Config(), [{"layers": 8, "share": 1e-4, "seed": 1}])
    assert row["remainder"] / less["remainder"] == pytest.approx(100, rel=0.02)
    assert row["control"] / less["control"] == pytest.approx(10, rel=0.05)


@pytest.mark.slow
def test_the_sums_are_the_derivatives_of_the_output_in_the_strength():
    config = ensemble_expansion.Config(samples=3)
    (row,) = ensemble_expansion.measure(config, [{"layers": 6, "strength": 1e-3, "seed": 2}])

    net, blocks = problem(3, config.inputs, [2]), paths(config.particles, config.inputs, [2]).blocks(6)

    def output(strength):
        state = net.x
        for cell in range(6):
            state = state + strength / 6 * net.field(blocks, cell, state)
        return (state * net.readout[:, None]).sum(2)[0]

    zero = torch.zeros((), dtype=torch.float64)
    first = torch.func.jacfwd(output)(zero)
    second = torch.func.jacfwd(torch.func.jacfwd(output))(zero)
    assert row["single"] == pytest.approx(float(first.square().mean().sqrt()))
    assert row["double"] == pytest.approx(float((second / 2).square().mean().sqrt()))


@pytest.mark.slow
def test_the_flow_is_the_limit_of_back_propagation_and_its_bound_that_of_the_weights():
    config = adjoint_bound.Config(inputs=2, samples=3)
    risk, rho = drawn(config, [{"problems": "random", "seed": 3}])
    exact = flow(risk, rho, 4, 1e-5)
    fine, finer = (risk.adjoint(rho.blocks(n), risk.states(rho.blocks(n))) for n in (100, 200))
    extrapolated = 2 * finer[:, ::50] - fine[:, ::25]
    assert_close(exact.adjoint, extrapolated, rtol=1e-3, atol=1e-4)
    blocks = rho.blocks(200)
    steps = (blocks.mass * blocks.output.norm(dim=3) * blocks.input.norm(dim=3)).sum(2) / 200
    assert float(exact.log_bound[0, -1] - exact.log_bound[0, 0]) == pytest.approx(float(steps.sum()), rel=1e-2)


@pytest.mark.slow
def test_the_mean_field_is_the_mean_over_many_independent_neurons():
    state = torch.randn(1, 3, 4, generator=generator(0), dtype=torch.float64)
    turns = torch.randn(1, 4, 4, generator=generator(1), dtype=torch.float64)
    many = independent(state, turns, 1, 400_000, [generator(2)]) - state
    assert_close(many, mean_field(state, turns), rtol=0.0, atol=0.02)  # five standard errors


@pytest.mark.slow
def test_the_best_particle_lowers_the_risk_and_no_other_has_a_larger_gap():
    risk, rho = problem(6, 3, [1, 2]), paths(3, 3, [1, 2]).blocks(4)
    candidates = torch.randn(2, 20, 4, generator=generator(5), dtype=torch.float64)
    radius = rho.output.norm(dim=3).amax((1, 2))
    best = best_particle(risk, rho, candidates, radius)
    assert (risk.slope(rho, best) < 0).all()
    for number in range(20):
        direction = torch.randn(2, 4, 1, 3, generator=generator(number), dtype=torch.float64)
        output = direction / direction.norm(dim=3, keepdim=True) * radius[:, None, None, None]
        inner = candidates[:, number][:, None, None].expand(2, 4, 1, 4)
        other = best._replace(output=output, input=inner[..., :3], bias=inner[..., 3])
        assert (risk.slope(rho, best) <= risk.slope(rho, other)).all()


@pytest.mark.slow
def test_descent_never_raises_the_risk_and_a_run_at_its_minimum_stays():
    risk, rho = problem(6, 3, [1, 2]), paths(3, 3, [1, 2]).blocks(4)
    perfect = type(risk)(risk.x, risk.y + risk.residuals(risk.states(rho)[:, -1]), risk.readout)
    candidates = torch.randn(2, 20, 4, generator=generator(5), dtype=torch.float64)
    falling = torch.stack([step.risk for step in frank_wolfe(risk, rho, candidates, 5)])
    assert (falling.diff(dim=0) <= 0).all()
    assert (falling[-1] < falling[0]).all()
    *_, last = frank_wolfe(perfect, rho, candidates, 2)
    assert_close(last.risk, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-25)
    assert_close(last.gap, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_smooth_weights_do_not_depend_on_the_depth_and_are_drawn_by_seed():
    one, other = (paths(2, 3, seeds) for seeds in ([4, 5], [5]))
    assert torch.equal(one.mean[1:], other.mean)
    assert_close(one.blocks(8).output[:, ::2], one.blocks(4).output)
    assert not torch.equal(paths(2, 3, [5], DeepFlow.OTHER).mean, other.mean)
