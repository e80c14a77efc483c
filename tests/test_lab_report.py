import json
import math

import numpy as np
import pytest

from regimes.lab.report import (
    Interval,
    Judgement,
    Prediction,
    Statement,
    finding_rows,
    markdown_table,
    to_json,
    write_result,
)

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
    assert [finding.blurred for finding in judgement.findings] == [True, False]
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
        ({SLOPE: INSIDE}, {}, "needs a measured interval"),
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
        "measured": [-1.05, -0.95],
        "error": 0.0,
        "verdict": "supported",
        "blurred": False,
    }
    assert (result["merits"], result["config"], result["commit"]) == ({"speed": 2.0}, {"width": 3}, "abc")
    for part in ("# fall: supported", "It falls.", "[Key] Thm 1", "| 3 | 0.25 |", "speed", "verify fall"):
        assert part in table
    assert "Unfinished" not in table


def test_an_unfinished_run_is_marked():
    _, table = report(STATEMENT.judge({SLOPE: INSIDE, BIAS: BELOW}), 3)
    assert "Unfinished: 3 of 4 points" in table
