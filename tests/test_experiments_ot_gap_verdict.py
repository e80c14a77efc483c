"""The verdict of ot-gap from made-up figures: both sides of every threshold."""

import math

import pytest

from regimes.jobs.ot_gap.report import result, table, words
from regimes.jobs.ot_gap.verdict import ASYMMETRY, EIGENVALUE, RELATIVE_GAP, judge

POWER = {
    "gap_sees": {"rotation": 0.25, "noise": 0.05, "shuffled displacements": None},
    "brenier_sees": {"rotation": 0.02},
}
BLIND = {"gap_sees": {"rotation": None, "noise": None}, "brenier_sees": {"rotation": 0.05}}


def figures(relative=0.0, **changes):
    """A map that passes everything, then changed."""
    passing = {
        "label": "net",
        "cost_network": 2.0,
        "cost_ot": 2.0 * (1 - relative),
        "gap": 2.0 * relative,
        "relative_gap": relative,
        "gap_low": 2.0 * relative,
        "gap_high": 2.0 * relative + 1e-12,
        "cost_ot_high": 2.0 * (1 - relative),
        "dual_value": 2.0 * (1 - relative) - 1e-12,
        "max_violation": 1e-12,
        "certified": True,
        "worst_cycle": 100.0 * relative,
        "worst_cycle_length": 3,
        "points": 50,
        "dim": 6,
        "inputs": 6,
        "accuracy": 0.9,
        "brenier_asymmetry": 1e-8,
        "brenier_asymmetry_se": 1e-9,
        "min_eigenvalue": 0.2,
        "brenier_size": 1.0,
        "image_asymmetry": None,
        "image_asymmetry_se": None,
        "image_min_eigenvalue": None,
        "image_size": None,
        "straightness": 0.99,
        "action": 2.2,
        "action_over_cost_ot": 1.1,
        "cost_network_over_cost_ot": 1.0,
        "lipschitz": 1.5,
        "inverse_lipschitz": 2.0,
        "block_displacement": [0.5, 1.0],
        "block_asymmetry": [1e-9, None],
        "power": POWER,
        "power_line": "with 50 points in d = 6 the gap sees noise from 0.05",
    }
    return {**passing, **changes}


IMAGE = {"image_asymmetry": 0.2, "image_asymmetry_se": 0.01, "image_min_eigenvalue": 0.1, "image_size": 1.0}
STOPPED = {"certified": False, "cost_ot": None, "gap": None, "relative_gap": None, "gap_high": 0.4}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (figures(), ("optimal as far as seen", "no gap", "satisfied")),
        (figures(RELATIVE_GAP / 2), ("optimal as far as seen", "no gap", "satisfied")),
        (figures(2 * RELATIVE_GAP), ("not optimal", "gap", "satisfied")),
        (figures(0.3, brenier_asymmetry=0.5), ("not optimal", "gap", "violated")),
        (figures(brenier_asymmetry=2 * ASYMMETRY), ("not a gradient map", "no gap", "violated")),
        (
            figures(brenier_asymmetry=2 * ASYMMETRY, brenier_asymmetry_se=ASYMMETRY / 2),
            ("undecided", "no gap", "unclear"),
        ),
        (
            figures(brenier_asymmetry=ASYMMETRY / 2, brenier_asymmetry_se=ASYMMETRY / 2),
            ("undecided", "no gap", "unclear"),
        ),
        (
            figures(brenier_asymmetry=2 * ASYMMETRY, brenier_asymmetry_se=None),
            ("not a gradient map", "no gap", "violated"),
        ),
        (figures(min_eigenvalue=2 * EIGENVALUE), ("not a gradient map", "no gap", "violated")),
        (figures(min_eigenvalue=2 * EIGENVALUE, brenier_size=10.0), ("optimal as far as seen", "no gap", "satisfied")),
        (figures(min_eigenvalue=math.nan), ("optimal as far as seen", "no gap", "satisfied")),
        (figures(brenier_asymmetry=None, brenier_asymmetry_se=None), ("optimal as far as seen", "no gap", "satisfied")),
        (figures(brenier_asymmetry=math.nan, brenier_asymmetry_se=None), ("undecided", "no gap", "unclear")),
        (
            figures(**{**IMAGE, "image_asymmetry": math.nan, "image_asymmetry_se": None}),
            ("undecided", "no gap", "unclear"),
        ),
        (
            figures(brenier_asymmetry=None, brenier_asymmetry_se=None, brenier_missing="no point moves under the map"),
            ("undecided", "no gap", "unclear"),
        ),
        (figures(**IMAGE), ("not a gradient map", "no gap", "violated")),
        (
            figures(**{**IMAGE, "image_asymmetry": 0.0, "image_asymmetry_se": 0.0}, brenier_asymmetry=0.4),
            ("optimal as far as seen", "no gap", "satisfied"),
        ),
        (figures(**STOPPED), ("undecided", "unknown", "satisfied")),
        (figures(**STOPPED, brenier_asymmetry=0.5), ("not a gradient map", "unknown", "violated")),
        (figures(**{**STOPPED, "gap_low": 0.1}), ("not optimal", "gap", "satisfied")),
        (figures(cost_network=0.0), ("optimal as far as seen", "no gap", "satisfied")),
    ],
)
def test_the_verdict_on(made, expected):
    found = judge(made)
    assert (found.verdict, found.exact, found.infinitesimal) == expected


def test_the_sentence_names_figure_and_threshold():
    assert "relative gap 0.031, certified, threshold 1e-06" in judge(figures(0.031)).words
    violated = judge(figures(brenier_asymmetry=0.04, brenier_asymmetry_se=0.001)).words
    assert "not an OT map of any law with a density" in violated
    assert "asymmetry 0.04 ± 0.001, a skew part of 20 % of the symmetric one; threshold 0.0001" in violated
    assert "least eigenvalue -0.5" in judge(figures(min_eigenvalue=-0.5)).words


def test_what_would_have_shown_is_said_of_a_map_that_passes():
    said = judge(figures()).words
    assert "to the gap rotation from 0.25, noise from 0.05" in said
    assert "to Brenier's test rotation from 0.02" in said


def test_the_power_of_a_test_along_the_image_is_said_to_be_that_over_all_directions():
    along = judge(figures(**{**IMAGE, "image_asymmetry": 0.0, "image_asymmetry_se": 0.0}))
    assert "to Brenier's test over all directions rotation from 0.02" in along.words
    assert "test over all directions rotation" not in judge(figures()).words


def test_a_gap_that_is_blind_is_said_to_be():
    assert "the gap is blind here" in judge(figures(brenier_asymmetry=0.1, power=BLIND)).words
    assert "blind" not in judge(figures(brenier_asymmetry=0.1)).words
    assert "nothing: it is blind here" in judge(figures(power=BLIND)).words


def test_directions_off_the_image_of_the_encoder_decide_nothing():
    image = {**IMAGE, "image_asymmetry": 0.0, "image_asymmetry_se": 0.0}
    said = judge(figures(**image, brenier_asymmetry=0.4, inputs=3)).words
    assert "an OT map as far as these tests see" in said
    assert "the points fill 3 at most" in said
    assert "the asymmetry is 0.4: that alone would decide nothing" in said


def test_a_stopped_solve_shows_brackets_and_no_cost():
    rows = {row["quantity"]: row["net"] for row in table([figures(**STOPPED)])}
    assert rows["exact OT cost"] == "in [2, 2]"
    assert rows["relative gap"] == "in [0, 0.2]"
    assert rows["certificate"] == "none: stopped early"


def test_the_power_is_told_where_there_is_no_gap():
    assert words([figures()])[1] == "net: with 50 points in d = 6 the gap sees noise from 0.05."
    assert len(words([figures(0.1)])) == 1


def test_the_table_has_a_column_a_map_and_no_row_without_a_figure():
    other = figures(0.1, label="other", **IMAGE)
    names = [row["quantity"] for row in table([figures()])]
    assert "Brenier asymmetry, image of encoder" not in names
    both = {row["quantity"]: row for row in table([figures(), other])}
    assert both["Brenier asymmetry, image of encoder"] == {
        "quantity": "Brenier asymmetry, image of encoder",
        "net": "",
        "other": "0.2 ± 0.01",
    }
    assert both["cycle that saves most"]["other"] == "10 over 3 points"


def test_the_result_lists_every_map_with_its_verdict():
    found = result([figures(), figures(0.5, label="other")])
    assert found["verdict"] == {"net": "optimal as far as seen", "other": "not optimal"}
    assert [one["exact_evidence"] for one in found["checkpoints"]] == ["no gap", "gap"]
