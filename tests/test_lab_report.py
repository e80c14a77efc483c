import json
import math

import numpy as np
import pytest
from scipy import stats

from regimes.lab.report import (
    Baseline,
    Estimate,
    Interval,
    Judgement,
    Prediction,
    Statement,
    finding_rows,
    markdown_table,
    to_json,
    write_result,
)
from regimes.lab.statements import because, overall
from regimes.lab.statistics import geometric_mean_interval, mean_interval

SLOPE, BIAS = "slope", "bias"
STATEMENT = Statement(
    "It falls.",
    "[Key] Thm 1",
    (Prediction(SLOPE, Interval(-1.1, -0.9), "derived"), Prediction(BIAS, Interval.at_most(0.0), "derived")),
)
INSIDE, ACROSS, OUTSIDE = Interval(-1.05, -0.95), Interval(-1.2, -1.0), Interval(-0.8, -0.7)
BELOW = Interval(-3.0, -1.0)


def verdict(slope: Interval, bias: Interval = BELOW, error: float = 0.0) -> str:
    return STATEMENT.judge({SLOPE: slope, BIAS: bias}, {SLOPE: error}).verdict


def test_an_interval_inside_supports_a_disjoint_one_refutes_any_other_decides_nothing():
    assert verdict(INSIDE) == "supported"
    assert verdict(OUTSIDE) == "refuted"
    assert verdict(ACROSS) == "inconclusive"


def test_an_interval_that_only_touches_does_not_refute():
    assert verdict(Interval(-0.9, -0.8)) == "inconclusive"
    assert verdict(Interval(-1.2, -1.1)) == "inconclusive"
    assert verdict(Interval(-1.1, -0.9)) == "supported"


def test_one_refuted_prediction_refutes_the_statement():
    assert verdict(INSIDE, Interval(0.1, 0.2)) == "refuted"
    assert verdict(ACROSS, Interval(0.1, 0.2)) == "refuted"
    assert verdict(ACROSS, BELOW) == "inconclusive"


def test_no_verdict_rests_on_less_than_ten_integration_errors():
    assert verdict(INSIDE, error=0.0049) == "supported"
    assert verdict(INSIDE, error=0.0051) == "inconclusive"
    assert verdict(OUTSIDE, error=0.0099) == "refuted"
    assert verdict(OUTSIDE, error=0.0101) == "inconclusive"


def test_a_verdict_held_back_by_the_integration_error_says_so():
    judgement = STATEMENT.judge({SLOPE: INSIDE, BIAS: BELOW}, {SLOPE: 0.1})
    assert [finding.verdict for finding in judgement.findings] == ["inconclusive", "supported"]
    assert "integration error" in finding_rows(judgement)[0]["verdict"]


def test_an_undefined_measurement_is_inconclusive():
    assert verdict(Interval(math.nan, math.nan)) == "inconclusive"
    assert verdict(INSIDE, error=math.nan) == "inconclusive"


def test_a_one_sided_prediction_has_one_end():
    assert Interval(-9.0, 1.0).inside(Interval.at_most(1.0))
    assert Interval(1.5, 2.0).disjoint(Interval.at_most(1.0))
    assert Interval(2.0, 9.0).inside(Interval.at_least(2.0))
    assert Interval.around(2.0, 0.5) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("measured", "error", "text"),
    [
        ({SLOPE: INSIDE, BIAS: BELOW, "other": BELOW}, {}, "no prediction speaks of 'other'"),
        ({SLOPE: INSIDE, BIAS: BELOW}, {"other": 1.0}, "no prediction speaks of 'other'"),
        ({SLOPE: Interval(2.0, 1.0), BIAS: BELOW}, {}, "low ≤ high"),
        ({SLOPE: INSIDE, BIAS: BELOW}, {SLOPE: -1.0}, "error ≥ 0"),
    ],
)
def test_a_measurement_that_does_not_fit_the_statement_is_refused(measured, error, text):
    with pytest.raises(ValueError, match=text):
        STATEMENT.judge(measured, error)


def test_intervals_are_written_for_people():
    cases = [
        Interval(1, 2),
        Interval.at_most(0.5),
        Interval.at_least(3.0),
        Interval(-math.inf, math.inf),
        Interval(1, 1),
    ]
    assert [str(case) for case in cases] == ["[1, 2]", "≤ 0.5", "≥ 3", "anything", "1"]


def test_json_is_strict_and_keeps_floats_exactly():
    values = {"a": 1 / 3, "b": Interval(-math.inf, np.float64(0.1)), "c": [math.nan, np.int64(3)], "d": None, "é": True}
    read = json.loads(to_json(values), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert read == {"a": 1 / 3, "b": ["-inf", 0.1], "c": ["nan", 3], "d": None, "é": True}


def test_a_markdown_table_has_a_line_a_row():
    text = markdown_table([{"x": 1.0, "y": "a|b"}, {"x": 1 / 3, "z": 2}])
    assert text.splitlines() == ["| x | y | z |", "| --- | --- | --- |", "| 1 | a\\|b |  |", "| 0.3333 |  | 2 |"]


class Folder:
    name = "fall"
    config = {"width": 3}

    def __init__(self):
        self.files = {}

    def write(self, file, content):
        self.files[file] = content

    def record(self):
        return {"commit": "abc", "command": "python cli.py verify fall"}


def report(judgement: Judgement, points: int) -> tuple[dict, str]:
    folder = Folder()
    size = {"points": points, "points_planned": 4}
    write_result(folder, STATEMENT, judgement, table=[{"width": 3, "loss": 0.25}], size=size)
    return json.loads(folder.files["result.json"]), folder.files["table.md"]


def test_a_report_holds_statement_findings_config_and_provenance():
    judgement = STATEMENT.judge({SLOPE: INSIDE, BIAS: BELOW}, merits={"speed": 2.0})
    result, table = report(judgement, 4)
    assert result["verdict"] == "supported"
    assert result["findings"][0] == {
        "quantity": SLOPE,
        "predicted": [-1.1, -0.9],
        "origin": "derived",
        "value": -1.0,
        "measured": [-1.05, -0.95],
        "corrected": [-1.05, -0.95],
        "repetitions": None,
        "error": 0.0,
        "verdict": "supported",
        "reason": "",
        "average": "",
    }
    assert (result["merits"], result["config"], result["commit"]) == ({"speed": 2.0}, {"width": 3}, "abc")
    for part in ("# fall: supported", "It falls.", "[Key] Thm 1", "| 3 | 0.25 |", "speed", "verify fall"):
        assert part in table
    assert "Unfinished" not in table


def test_a_run_that_lacks_points_has_no_verdict():
    result, table = report(STATEMENT.judge({SLOPE: INSIDE}, notes=("A note.",)), 3)
    assert (result["verdict"], result["smoke_run"]) == ("no verdict", False)
    assert [finding["verdict"] for finding in result["findings"]] == ["no verdict", "not measured"]
    assert table.startswith("# fall: no verdict\n")
    assert "Unfinished: 3 of 4 points are measured, no verdict." in table
    for word in ("supported", "refuted", "inconclusive", "Bonferroni"):
        assert word not in table
    assert STATEMENT.judge({SLOPE: INSIDE}).of_points(4, 4) == STATEMENT.judge({SLOPE: INSIDE})


def test_a_prediction_without_rows_is_not_measured_and_leaves_the_statement_open():
    judgement = STATEMENT.judge({SLOPE: INSIDE})
    assert [finding.verdict for finding in judgement.findings] == ["supported", "not measured"]
    assert judgement.verdict == "inconclusive"
    assert STATEMENT.judge({SLOPE: OUTSIDE}).verdict == "refuted"
    assert STATEMENT.judge({}).verdict == "not measured"
    result, table = report(judgement, 4)
    assert result["findings"][1]["measured"] == ["nan", "nan"]
    assert "1 of 2 predictions are not measured" in table


def estimate(centre: float, half: float, count: int = 10) -> Estimate:
    """A normal estimate with this half width at 95 %."""

    def at(level: float) -> Interval:
        return Interval.around(centre, half * float(stats.norm.ppf((1 + level) / 2) / stats.norm.ppf(0.975)))

    return Estimate.of(centre, at, 0.95, count)


def test_one_of_many_predictions_refutes_only_beyond_what_their_number_explains():
    many = Statement("c.", "[s]", tuple(Prediction(f"q{i}", Interval.at_most(0.0), "derived") for i in range(10)))
    fair = {f"q{i}": estimate(-1.0, 0.5) for i in range(9)}
    judgement = many.judge({**fair, "q9": estimate(1.1, 1.0)})
    assert judgement.findings[9].measured.disjoint(Interval.at_most(0.0))  # alone it would refute
    assert judgement.findings[9].verdict == judgement.verdict == "inconclusive"
    assert "number of predictions" in judgement.findings[9].reason
    assert many.judge({**fair, "q9": estimate(2.0, 1.0)}).verdict == "refuted"
    assert many.judge({"q9": estimate(1.1, 1.0)}).verdict == "refuted"  # the only one measured


def test_a_prediction_that_many_would_not_support_stays_supported_and_says_so():
    many = Statement("c.", "[s]", tuple(Prediction(f"q{i}", Interval.at_most(0.0), "derived") for i in range(10)))
    fair = {f"q{i}": estimate(-2.0, 0.5) for i in range(9)}
    judgement = many.judge({**fair, "q9": estimate(-1.1, 1.0)})
    assert judgement.verdict == "supported"
    assert [finding.reason for finding in judgement.findings[:9]] == [""] * 9
    assert judgement.findings[9].reason == "inside on its own, not when corrected for the number of predictions"


@pytest.mark.slow
def test_a_true_statement_is_seldom_refuted_however_many_predictions_it_has():
    many = Statement("c.", "[s]", tuple(Prediction(f"q{i}", Interval(0.0, 0.0), "derived") for i in range(10)))
    source = np.random.default_rng(0)
    refuted = [
        many.judge({f"q{i}": mean_interval(source.normal(size=5)) for i in range(10)}).verdict == "refuted"
        for _ in range(150)
    ]
    assert np.mean(refuted) < 0.05 + 5 * (0.05 * 0.95 / 150) ** 0.5


def test_what_was_repeated_once_decides_nothing_and_twice_is_called_few():
    once = STATEMENT.judge({SLOPE: INSIDE, BIAS: mean_interval([-1.0], within=Interval(-3.0, 0.0))})
    assert once.findings[1].measured.inside(Interval.at_most(0.0))
    assert once.findings[1].verdict == once.verdict == "inconclusive"
    assert "decides nothing" in once.findings[1].reason
    twice = STATEMENT.judge({SLOPE: INSIDE, BIAS: mean_interval([-1.0, -1.1])})
    assert twice.verdict == "supported"
    assert "few" in twice.findings[1].reason


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (Interval(-1.2, -1.0), "the interval lies partly in the predicted one"),
        (Interval(math.nan, math.nan), "the number is not known"),
        (INSIDE, ""),
        (OUTSIDE, ""),
    ],
)
def test_an_inconclusive_finding_says_why(measured, reason):
    judgement = STATEMENT.judge({SLOPE: measured, BIAS: BELOW})
    assert (judgement.findings[0].verdict == "inconclusive") == bool(reason)
    assert judgement.findings[0].reason == reason


@pytest.mark.parametrize(
    ("findings", "sentence"),
    [
        (["supported"] * 2, "Supported: all 2 predictions."),
        (["supported", "refuted", "inconclusive"], "Refuted: 1 of 3 predictions."),
        (["supported", "inconclusive", "inconclusive"], "Inconclusive: 2 of 3 predictions. None is refuted."),
        (["supported", "not measured"], "Not measured: 1 of 2 predictions. The others are supported."),
        (["not measured", "not measured"], "The run has no rows of any of the 2 predictions."),
        (["refuted", "not reproduced"], "A published baseline was missed. 1 of 2 predictions rest on it."),
    ],
)
def test_a_sentence_says_why_a_statement_has_its_verdict(findings, sentence):
    made = [STATEMENT.judge({}).findings[0]._replace(verdict=one) for one in findings]
    assert because(overall(made), findings) == sentence


def test_geometric_means_are_called_so():
    ratio = geometric_mean_interval([1.0, 4.0, 2.0])
    assert (ratio.average, mean_interval([1.0, 4.0]).average) == ("geometric mean", "")
    _, table = report(STATEMENT.judge({SLOPE: mean_interval([-1.0, -1.01, -0.99]), BIAS: ratio}), 4)
    assert "geometric mean of 3 repetitions" in table
    assert table.count("geometric") == 1


def test_a_gain_over_a_baseline_that_was_not_reproduced_is_not_judged():
    gates = Baseline("plain", Interval.around(56.0, 1.0), 4.0, gates=(SLOPE,))
    gated = STATEMENT._replace(baselines=(gates,))
    for base, slope, bias in (
        (estimate(26.0, 5.0), "not reproduced", "supported"),  # missed
        (estimate(53.0, 5.0), "supported", "supported"),  # met
        (
            estimate(48.0, 5.0),
            "inconclusive",
            "supported",
        ),  # its interval reaches the published one, its value does not
    ):
        judgement = gated.judge({SLOPE: INSIDE, BIAS: BELOW, "plain": base})
        assert [finding.verdict for finding in judgement.findings] == [slope, bias]
        assert judgement.verdict == slope
    assert gated.judge({SLOPE: INSIDE, BIAS: Interval(1.0, 2.0), "plain": estimate(26.0, 5.0)}).verdict == (
        "not reproduced"
    )
    assert gated.judge({SLOPE: INSIDE, BIAS: BELOW}).verdict == "supported"  # a run without the baseline's rows
    _, table = report(gated.judge({SLOPE: INSIDE, BIAS: BELOW, "plain": estimate(26.0, 5.0)}), 4)
    assert "plain is 26 [21, 31]" in table


def test_a_smoke_run_claims_nothing():
    judgement = STATEMENT.judge({SLOPE: OUTSIDE}).of_smoke_run()
    assert [finding.verdict for finding in judgement.findings] == ["no verdict", "not measured"]
    result, table = report(judgement, 4)
    assert (result["verdict"], result["smoke_run"]) == ("no verdict", True)
    assert table.startswith("# fall\n")
    assert table.index("Smoke run: no verdict.") < table.index("| quantity |")
    for word in ("supported", "refuted", "inconclusive"):
        assert word not in table


def test_measured_values_stand_beside_their_intervals():
    judgement = STATEMENT.judge({SLOPE: estimate(-1.0, 0.05), BIAS: BELOW})
    assert finding_rows(judgement)[0]["measured"] == "-1 [-1.05, -0.95], 10 repetitions"
    assert finding_rows(judgement)[0]["from"] == "derived"
