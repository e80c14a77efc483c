"""What small gaps, ties and wide intervals of the least-action maps say, and what they do not."""

import math

import numpy as np
import pandas as pd
import pytest
from test_experiments_least_action_is_ot import made_up

from regimes.experiments.least_action import least_action_is_ot
from regimes.experiments.least_action.least_action_is_ot import judge
from regimes.experiments.least_action.least_action_is_ot.problems import KNOWN
from regimes.experiments.least_action.least_action_is_ot.trends import Ends, order


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_rank_correlation_knows_order_ties_and_constants():
    rows = pd.DataFrame({"weight": [0.0, 0.1, 1.0], "seed": 0})
    assert order(rows.assign(gap=[0.4, 0.2, 0.1]), "gap").value == pytest.approx(-1.0)
    ties = pd.DataFrame({"weight": [0.0, 0.1, 0.3, 1.0], "seed": 0, "gap": [0.4, 0.2, 1e-10, 1e-12]})
    assert order(ties, "gap").value == pytest.approx(
        np.corrcoef([1, 2, 3, 4], [4, 3, 1.5, 1.5])[0, 1]  # both below what the certificate tells from 0
    )
    assert order(rows.assign(gap=0.2), "gap").value == 0.0


def test_gaps_that_are_all_at_the_floor_above_weight_0_have_no_order():
    rows = pd.DataFrame({"weight": [0.0, 0.1, 1.0], "seed": 0})
    assert math.isnan(order(rows.assign(gap=[0.4, 1e-10, 0.0]), "gap").value)  # ties force −0.87
    made = made_up()
    made.loc[(made.problem == "space") & (made.weight > 0), "gap"] = 0.0
    found = verdicts(made)
    assert found.pop(least_action_is_ot.ORDER) == "inconclusive"
    assert set(found.values()) == {"supported"}


@pytest.mark.parametrize(
    ("problem", "weight", "scheme", "blind"),
    [
        ("space", 3.0, "fixed", {least_action_is_ot.GAP, least_action_is_ot.RATIO}),
        ("circles", 0.3, "fixed", {least_action_is_ot.CIRCLES_RATIO}),
        ("circles", 3.0, "multiplier", {least_action_is_ot.CIRCLES_MULTIPLIER}),
        ("digits", 0.3, "fixed", {least_action_is_ot.IMAGES_GAP}),
    ],
)
def test_a_small_gap_is_no_support_where_any_map_would_have_it(problem, weight, scheme, blind):
    rows = made_up()
    there = (rows.problem == problem) & (rows.weight == weight) & (rows.scheme == scheme)
    rows.loc[there, "gap_null"] = 0.0
    found = verdicts(rows)
    assert {name for name, verdict in found.items() if verdict == "inconclusive"} == blind
    assert {found[name] for name in found if name not in blind} == {"supported"}
    assert any("Blind" in note for note in judge(rows).notes) == (problem in ("space", "digits"))
    rows.loc[there, "gap"] = 0.5  # a gap is one all the same
    assert {verdicts(rows)[name] for name in blind} == {"refuted"}


def test_a_problem_of_small_mean_and_wide_interval_does_not_pass_unseen():
    rows = made_up()
    plane = (rows.problem == "plane") & (rows.weight == 3.0) & (rows.kind == "end")
    rows.loc[plane, "excess_action"] = [-0.2, 0.0, 0.19]
    rows.loc[plane, "straightness"] = [0.9999, 1.0, 0.98]
    rows.loc[(rows.problem == "line") & (rows.weight == 3.0), "straightness"] = 0.9911
    found = verdicts(rows)
    wide = {least_action_is_ot.EXCESS, least_action_is_ot.STRAIGHTNESS}
    assert {name for name, verdict in found.items() if verdict == "inconclusive"} == wide


def test_a_single_weight_has_no_order():
    rows = pd.DataFrame({"weight": [0.0, 0.1, 1.0], "seed": 0})
    assert order(rows[:1].assign(gap=0.4), "gap") is None


def test_the_usable_weight_is_the_largest_that_keeps_the_accuracy():
    rows = pd.DataFrame({"weight": [0.0, 0.1, 1.0, 2.0], "accuracy": [0.9, 0.95, 0.86, 0.5]})
    rows = rows.assign(problem="circles", scheme="fixed", kind="end", seed=0, gap=0.1)
    assert Ends.read(rows).usable(("circles",)).weight.tolist() == [1.0]
    dropping = rows.assign(accuracy=[0.9, 0.2, 0.2, 0.2])
    assert Ends.read(dropping).usable(("circles",)).weight.tolist() == [0.1]
    assert Ends.read(rows[1:]).usable(("circles",)).empty  # nothing to compare with


def test_a_map_that_is_optimal_without_a_penalty_says_nothing_on_ratio_and_order():
    rows = made_up()
    rows.loc[rows.problem == "line", "gap"] = 0.0
    judgement = judge(rows)
    assert judgement.verdict == "supported"
    rows.loc[rows.problem.isin(KNOWN), "gap"] = 0.0
    nothing = [
        f.verdict for f in judge(rows).findings if f.quantity in (least_action_is_ot.RATIO, least_action_is_ot.ORDER)
    ]
    assert nothing == ["inconclusive", "inconclusive"]
