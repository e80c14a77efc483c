import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.mean_field import particle_complexity_relu as relu
from regimes.experiments.mean_field import particle_complexity_sigmoid as sigmoid
from regimes.experiments.mean_field.complexity.numbers import readings, thresholds
from regimes.experiments.mean_field.complexity.runs import UNITS, fit, measure, problem, settle
from regimes.meanfield.particles import Particles
from regimes.meanfield.population import PopulationRisk

M0 = 20
BAND = {"relu": 2e-5, "logistic": 1e-4, "erf": 1e-4}
FIXED = {"relu": 1e4, "logistic": 2e3, "erf": 3e3}


def made_up(unit="relu", found=25, wide=0.1, narrow=1e3, bound=1e2, fixed=1.0, most=1e3):
    """Five trials; `found` is the first width below the band, all else is a loss over the band or over its kind."""
    band, rows = BAND[unit], []
    for seed in range(5):
        for width in (10, 18, 25, 33, 45, 199):
            loss = narrow if width < M0 else (wide if width >= 2 * M0 else 0.1 if width >= found else 50.0)
            rows.append({"way": "flow", "width": width, "loss": loss * band, "bound": bound * band * (width < M0)})
            rows[-1]["seed"] = seed
        for width, loss in ((199, fixed * FIXED[unit]), (2525, most)):
            rows.append({"way": "convex", "width": width, "seed": seed, "loss": loss * band, "bound": 0.0})
    same = {"unit": unit, "teachers": float(M0), "steps": 10.0, "time": 1.0, "zero": 1.0, "error": 1e-12}
    return pd.DataFrame([row | same | {"half": row["loss"]} for row in rows])


def sigmoids(**changed):
    return pd.concat([made_up("logistic"), made_up("erf", **changed)], ignore_index=True)


BREAKS = pytest.mark.parametrize(("broken", "verdict"), [
    ({}, "supported"), ({"found": 45}, "refuted"), ({"wide": 2.0}, "refuted"), ({"bound": 1e4}, "refuted"),
    ({"narrow": 2.0, "bound": 1.0}, "refuted"), ({"fixed": 0.1}, "refuted"), ({"fixed": 10.0}, "refuted"),
    ({"most": 10.0}, "refuted"),
])  # fmt: skip


@BREAKS
def test_each_prediction_is_judged_by_its_own_number(broken, verdict):
    assert relu.judge(made_up(**broken)).verdict == verdict


@BREAKS
def test_both_activations_are_judged(broken, verdict):
    assert sigmoid.judge(sigmoids(**broken)).verdict == verdict


def test_rows_of_a_part_of_the_axes_are_judged_too():
    for way in ("flow", "convex"):
        rows = made_up()
        assert relu.judge(rows[rows.way == way]).verdict != "refuted"
    assert sigmoid.judge(made_up("erf")).verdict == "inconclusive"


def test_a_width_counts_as_found_only_if_all_larger_ones_are_below_the_band_too():
    flow = pd.DataFrame({"seed": 3 * [0] + 3 * [1], "width": 2 * [1, 2, 4], "loss": [9, 1, 1, 1, 9, 1]})
    assert thresholds(flow, 2.0) == [2.0, 4.0]
    assert thresholds(flow, 0.5) == 2 * [float("inf")]


@pytest.mark.parametrize(("half", "verdict"), [(2.0, "refuted"), (6.0, "inconclusive"), (math.nan, "inconclusive")])
def test_wide_runs_that_were_still_falling_when_their_steps_ended_refute_nothing(half, verdict):
    rows = sigmoids()
    last = (rows.unit == "erf") & (rows.way == "flow") & (rows.width == 199) & (rows.seed < 2)
    rows.loc[last, ["loss", "half"]] = [2e-4, half * 1e-4]
    found = {finding.quantity: finding for finding in sigmoid.judge(rows).findings}
    largest = found["erf: flow, m ≥ 2 m0: largest loss of a trial, over the band"]
    assert largest.verdict == verdict
    assert tuple(largest.measured) == pytest.approx((2.0 if verdict == "refuted" else 0.1, 2.0))
    first = found["erf: smallest width from which the flow's loss is below the band, over m0"]
    assert first.measured.high == math.inf
    assert first.verdict == "inconclusive"  # three trials of five have a width


def test_a_width_is_found_for_sure_only_if_undecided_runs_decide_nothing():
    flow = pd.DataFrame({"seed": 3 * [0] + 3 * [1], "width": 2 * [1, 2, 4], "loss": [9, 1, 1, 1, 3, 1], "half": 9.0})
    far, as_ended = readings(flow, 2.0)
    assert thresholds(far, 2.0) == [2.0, 1.0]
    assert thresholds(as_ended, 2.0) == [2.0, 4.0]


def test_a_flow_that_never_succeeds_refutes():
    rows = made_up()
    rows.loc[rows.way == "flow", ["loss", "half"]] = 1.0
    assert relu.judge(rows).verdict == "refuted"


@pytest.mark.slow
def test_table_and_figure_show_all_activations():
    assert sigmoid.table(sigmoids())["loss"].iloc[0] == pytest.approx(1e3 * 1e-4)
    assert len(sigmoid.draw(sigmoids()).axes) == 2


def test_the_fit_is_that_of_least_squares_on_many_inputs():
    config = relu.Config()
    teacher, start = problem(config, "relu", 3, [0])
    found = fit(start, teacher, UNITS["relu"].exact)
    x = torch.randn(400_000, config.inputs, dtype=torch.float64)
    features, y = (x @ start.input[0].T).relu(), (x @ teacher.input[0].T).relu() @ teacher.output[0]
    left = features @ torch.linalg.lstsq(features, y).solution - y
    error = float(left.square().std() / 2 / len(x) ** 0.5)
    assert abs(float(left.square().mean()) / 2 - float(found["loss"])) < 5 * error
    assert float(found["error"]) < 1e-15


def test_a_fit_with_equal_neurons_is_that_with_one_of_them():
    teacher, start = problem(relu.Config(), "relu", 4, [0, 1])
    twice = Particles(torch.cat([start.output] * 2, 1), torch.cat([start.input] * 2, 1))
    assert_close(fit(twice, teacher, UNITS["relu"].exact)["loss"], fit(start, teacher, UNITS["relu"].exact)["loss"])


def test_the_descent_never_rises_takes_back_steps_that_are_too_long_and_stops_at_enough():
    config = relu.Config(steps=400, round=10, step=100.0)
    teacher, start = problem(config, "relu", 8, [0, 1, 2])
    risk = PopulationRisk(teacher, UNITS["relu"].overlap)
    found = settle(risk, start, config, 0.05)
    assert (found["loss"] <= 0.05).all()
    assert (found["half"] <= risk.risk(start)).all()
    assert (found["time"] < 100.0 * found["steps"]).all()
    assert_close(risk.risk(Particles(found["output"], found["input"])), found["loss"])
    alone = settle(risk.select(torch.tensor([1]), of=3), start.select([1]), config, 0.05)
    assert_close(alone["loss"], found["loss"][1:2], rtol=1e-6, atol=0)  # rounding, over 400 steps


def test_sigmoids_start_with_no_output_and_relus_on_the_sphere():
    _, start = problem(relu.Config(radius=3.0), "relu", 5, [0, 1])
    assert_close(torch.cat(start, 2).norm(dim=2), torch.full((2, 5), 3.0, dtype=torch.float64))
    teacher, start = problem(sigmoid.Config(), "erf", 5, [0, 1])
    assert (start.output == 0).all()
    assert_close(teacher.output.sum(1), torch.zeros(2, 1, dtype=torch.float64))


@pytest.mark.slow
def test_losses_are_above_the_bound_and_those_of_the_exact_activation():
    points = [
        {"unit": "logistic", "way": way, "width": 3, "seed": seed} for way in ("flow", "convex") for seed in (0, 1)
    ]
    for some in (points[:2], points[2:]):
        for row in measure(sigmoid.Config(), some):
            assert row["bound"] <= row["loss"] < row["zero"]
            assert row["error"] < 1e-4  # 3 error functions in the descent
