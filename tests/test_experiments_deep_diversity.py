"""deep_diversity: its judge on made-up rows, its bound, its arms and what it measures."""

import pandas as pd
import pytest
import torch
from panels import colours
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.experiments.mean_field import deep_diversity
from regimes.experiments.mean_field.deep_diversity.config import ARMS, Config
from regimes.experiments.mean_field.deep_diversity.runs import measure, steepness
from regimes.experiments.mean_field.deep_diversity.starts import added, embedded, flattened, problem, start
from regimes.meanfield.depth_flow import velocity

SMALL = Config(layers=3, particles=4, inputs=3, groups=3)


def made(**changes):
    levels = {
        "full": 1e-3, "thin": 1e-3, "flat": 0.5, "ball": 0.05, "flat, then full": 1e-3, "flat, then flat": 0.5,
        "ball, then full": 5e-3, "steep": 0.2, "steep_full": 0.01, "inside": 1e-4,
    } | changes  # fmt: skip
    return pd.DataFrame([
        {"kind": "end", "arm": arm, "seed": seed, "zero": 1.0, "bound": 0.5,
         "risk": levels[arm] * (1 if "flat" in arm else 1 + 0.1 * seed),
         "steep": levels["steep"] if "flat" in arm else levels["steep_full"], "steep_inside": levels["inside"],
         "risk_at_0": 1.0, "risk_at_1": levels[arm], "risk_at_2": levels[arm]}
        for arm in ARMS for seed in range(5)
    ])  # fmt: skip


@pytest.mark.slow
def test_rows_that_obey_support_the_statement_and_each_broken_prediction_refutes_it():
    assert deep_diversity.judge(made()).verdict == "supported"
    broken = [
        {"full": 0.3, "ball": 20.0, "ball, then full": 1.0}, {"flat": 0.4}, {"flat, then flat": 0.7}, {"inside": 0.1},
        {"steep_full": 0.19}, {"flat, then full": 0.2}, {"ball": 1e-3}, {"ball, then full": 0.049},
    ]  # fmt: skip
    for change in broken:
        assert deep_diversity.judge(made(**change)).verdict == "refuted", change
    assert len(deep_diversity.table(made())) == len(ARMS)


def test_a_name_has_one_colour_in_all_panels():
    cells = [{"kind": "cell", "arm": arm, "seed": 0, "cell": 0, "steep": 0.1, "steep_inside": 0.1} for arm in ARMS]
    particles = [
        {"kind": "particle", "arm": arm, "seed": 0, "cell": 0, "particle": 0, "time": t, "v1": t, "u": 1.0, "mass": 1.0}
        for arm in ARMS for t in (0.0, 1.0)
    ]  # fmt: skip
    drawn = colours(deep_diversity.draw(pd.concat([made(), pd.DataFrame(cells + particles)])))
    assert set(drawn) == {*ARMS, "flat, inside"}
    assert max(map(len, drawn.values())) == 1


@pytest.mark.parametrize(("arm", "name"), [("full", "risk"), ("ball", "risk"), ("full", "steep"), ("full", "zero")])
def test_a_number_that_is_infinite_or_0_leaves_its_ratio_unknown_and_the_run_judged(arm, name):
    for value in (float("inf"), 0.0):
        rows = made()
        rows.loc[(rows.arm == arm) & (rows.seed == 1), name] = value
        judgement = deep_diversity.judge(rows)
        assert judgement.verdict == "inconclusive"
        assert any(finding.reason == "the number is not known" for finding in judgement.findings)
        assert len(deep_diversity.table(rows)) == len(ARMS)


def test_rows_of_some_arms_are_judged_as_far_as_they_go():
    rows = made()
    found = deep_diversity.judge(rows[rows.arm == "full"]).findings
    assert [each.verdict for each in found].count("not measured") == len(found) - 1


def test_the_bound_is_the_least_risk_of_outputs_that_do_not_depend_on_the_first_coordinate():
    given = problem(SMALL, [3, 4])
    x, y = given.risk.x[1], given.risk.y[1]
    best = torch.stack([y[(x[:, 1:] == row[1:]).all(1)].mean() for row in x])
    assert_close(given.bound[1], (best - y).square().mean() / 2)
    flat = embedded(start(SMALL, "flat", [3, 4]))
    assert (given.risk.risk(flat) > given.bound).all()
    assert_close(given.risk.risk(flat), given.flat.risk(flattened(flat)))


def test_the_hyperplane_is_invariant_under_the_flow_and_its_neighbourhood_is_not():
    given = problem(SMALL, [3])
    _, change = velocity(given.risk, embedded(start(SMALL, "flat", [3])))
    assert_close(change.input[..., 0], torch.zeros_like(change.bias), rtol=0, atol=1e-15)
    assert_close(change.output[..., 0], torch.zeros_like(change.bias), rtol=0, atol=1e-15)
    _, change = velocity(given.risk, start(SMALL, "thin", [3]))
    assert change.input[..., 0].abs().max() > 1e-6


def test_arms_differ_only_in_their_support():
    full, thin, flat, ball = (start(SMALL, arm, [5]) for arm in ("full", "thin", "flat", "ball"))
    assert torch.equal(flat.input, full.input[..., 1:])
    assert_close(thin.output[..., 0], 0.001 * full.output[..., 0])
    assert torch.equal(thin.output[..., 1:], full.output[..., 1:])
    spread = (ball.input - ball.input.mean(2, keepdim=True)).abs().max()
    assert spread < 0.05
    assert_close(ball.input.diff(dim=2), 0.01 * full.input.diff(dim=2))


def test_particles_are_added_in_one_cell_and_take_their_share_of_its_mass_alone():
    rho = start(SMALL, "full", [5, 6])
    more = added(SMALL, rho, [5, 6])
    assert_close(more.mass.sum(2), rho.mass.sum(2))
    assert_close(more.mass[:, 1, 4:].sum(1), torch.full((2,), 0.1, dtype=torch.float64))
    assert torch.equal(more.mass[:, [0, 2], :4], rho.mass[:, [0, 2]])
    given = problem(SMALL, [5, 6])
    _, change = velocity(given.risk, more)
    idle = more.mass == 0
    assert idle.sum() == 2 * 2 * 2
    assert all((part[idle] == 0).all() for part in change)  # θ = 0 stays


@pytest.mark.slow
def test_no_candidate_is_steeper_than_the_steepest():
    given, rho = problem(SMALL, [5]), start(SMALL, "full", [5])
    steep = steepness(SMALL, given.risk, rho, [5], flat=False)
    state, adjoint = given.risk.states(rho), given.risk.adjoint(rho, given.risk.states(rho))
    stream = generator(5, 104)
    candidates = 2 * torch.randn(SMALL.candidates, 4, generator=stream, dtype=torch.float64)
    for cell in range(3):
        own = torch.cat([rho.input[0, cell], rho.bias[0, cell, :, None]], 1)
        lengths = [
            float((torch.tanh(state[0, cell] @ one[:3] + one[3]) @ adjoint[0, cell + 1] / 12).norm())
            for one in torch.cat([candidates, own])
        ]
        assert float(steep[0, cell]) == pytest.approx(max(lengths))


@pytest.mark.slow
def test_a_flow_in_the_hyperplane_keeps_above_its_bound_and_a_picture_is_kept_of_the_first_seed():
    rows = [row for found in measure(SMALL, [{"arm": "flat, then flat", "seed": s} for s in (0, 1)]) for row in found]
    ends = [row for row in rows if row["kind"] == "end"]
    assert all(row["risk"] > row["bound"] for row in ends)
    assert sum(row["kind"] == "cell" for row in rows) == 3
    particles = [row for row in rows if row["kind"] == "particle"]
    assert {row["v1"] for row in particles} == {0.0}
    assert len({row["time"] for row in particles}) == 11
