"""depth_coordinate: its judge on made-up rows, the choice of steps, and what it measures."""

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.mean_field import depth_coordinate
from regimes.experiments.mean_field.depth_coordinate.config import FIXED, TIMES, Config, points
from regimes.experiments.mean_field.depth_coordinate.numbers import at_best, best, finished, share
from regimes.experiments.mean_field.depth_coordinate.runs import measure, moments
from regimes.experiments.mean_field.paths import paths, problem


def made(small=0.5, fixed=1e-2, times=5e-3, weights=5e-3, moved=1.0):
    left = {
        ("fixed", 0.1): 0.1, ("fixed", 1.0): fixed, ("times", 0.1): 0.1 * small, ("times", 1.0): times,
        ("weights", 0.1): 0.2, ("weights", 1.0): weights,
    }  # fmt: skip
    config = Config(rate=(0.1, 1.0), relative=(1.0, 0.1), seeds=20)
    return pd.DataFrame([
        {"kind": "run", **point, "moved": moved, "risk_0": 2.0, "risk_10": 1.0,
         "risk_20": (2 + point["seed"] / 50) * left[point["arm"], point["rate"]] * (3 if point["relative"] == 1 else 1)}
        for point in points(config)
    ])  # fmt: skip


@pytest.mark.slow
def test_rows_that_obey_support_the_statement_and_each_broken_prediction_refutes_it():
    assert depth_coordinate.judge(made()).verdict == "supported"
    for broken in ({"small": 2.0}, {"fixed": 1e-3, "weights": 5e-3}, {"weights": 1e-4}, {"moved": 0.0}):
        assert depth_coordinate.judge(made(**broken)).verdict == "refuted", broken
    assert len(depth_coordinate.table(made())) == 6
    assert depth_coordinate.draw(made()).axes


def test_rows_of_one_arm_are_judged_as_far_as_they_go():
    rows = made()
    for arm in ("fixed", "times"):
        assert depth_coordinate.judge(rows[rows.arm == arm]).findings


def test_steps_are_chosen_on_problems_that_are_not_judged():
    rows = made()
    rows.loc[(rows.arm == "times") & (rows.seed < 5) & (rows.rate == 0.1) & (rows.relative == 1.0), "risk_20"] = 1e-9
    found = finished(rows)
    assert best(found[found.arm == "times"]) == (1.0, 0.1)
    assert set(at_best(found, "times").seed) == set(range(5, 20))


def test_a_run_that_has_diverged_has_all_of_its_risk_left():
    rows = pd.DataFrame({"risk_0": [2.0, 2.0, 2.0, 2.0], "risk_5": [float("inf"), float("nan"), 1.0, 0.0]})
    assert share(rows, 5).fillna(-1.0).tolist() == [1.0, -1.0, 0.5, 1e-12]


def test_a_risk_that_is_not_known_is_no_divergence():
    rows = made()
    rows.loc[(rows.arm == "fixed") & (rows.rate == 0.1), "risk_20"] = float("nan")
    verdicts = {finding.quantity: finding.verdict for finding in depth_coordinate.judge(rows).findings}
    assert verdicts[depth_coordinate.SAME] == verdicts[depth_coordinate.BEST] == "not measured"
    assert verdicts[depth_coordinate.MOVED] == "supported"
    some = made()
    some.loc[(some.arm == "fixed") & (some.rate == 0.1) & (some.seed == 7), "risk_20"] = float("nan")
    found = {finding.quantity: finding for finding in depth_coordinate.judge(some).findings}
    assert found[depth_coordinate.SAME].verdict == "inconclusive"
    assert found[depth_coordinate.BEST].verdict == "supported"
    assert set(depth_coordinate.table(some).query("arm == 'fixed'").diverged) == {"", "0 of 15"}


def test_changes_of_places_are_shown_by_relative_step():
    rows = made()
    rows.loc[(rows.arm == "times") & (rows.relative == 0.1), "moved"] = 0.0  # the best one
    judged = depth_coordinate.judge(rows)
    assert (judged.findings[-1].value, judged.findings[-1].verdict) == (0.0, "refuted")
    words = "relative step {}, all r: share of nets in which blocks have changed places"
    assert [judged.merits[words.format(relative)] for relative in (0.1, 1)] == [0.0, 1.0]
    assert set(depth_coordinate.table(rows).query("arm == 'times'")["blocks changed places"]) == {"0 of 15"}


@pytest.mark.slow
def test_fixed_times_are_plain_gradient_descent_of_the_residual_net():
    config = Config(steps=3)
    (found,) = measure(config, [{"arm": FIXED, "relative": 0.0, "rate": 0.2, "seed": 1}])
    risk, rho = problem(config.samples, config.inputs, [1]), paths(config.neurons, config.inputs, [1]).blocks(4)
    factor = 0.2 * 4 * config.neurons
    for _ in range(3):
        weights = [part.clone().requires_grad_() for part in rho[:3]]
        grads = torch.autograd.grad(risk.risk(type(rho)(*weights, rho.mass)).sum(), weights)
        rho = type(rho)(*(part - factor * grad for part, grad in zip(rho[:3], grads, strict=True)), rho.mass)
    assert found[0]["risk_3"] == pytest.approx(float(risk.risk(rho)))
    assert moments(config) == [0, 1, 2, 3]


@pytest.mark.slow
def test_times_of_the_first_problem_are_kept_from_the_grid_on():
    config = Config(steps=4)
    found = measure(config, [{"arm": TIMES, "relative": 0.1, "rate": 0.1, "seed": seed} for seed in (0, 1)])
    assert [row["kind"] for row in found[1]] == ["run"]
    times = [row for row in found[0] if row["kind"] == "time"]
    start = torch.tensor([row["tau"] for row in times if row["step"] == 0])
    assert_close(start, torch.tensor([0.25, 0.5, 0.75, 1.0]))
    assert {row["step"] for row in times} == {0, 1, 2, 3, 4}
