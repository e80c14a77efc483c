import math
from pathlib import Path

import pytest
from published_rows import published_rows

from regimes.experiments.least_action import cifar10_low_data as table2
from regimes.experiments.least_action.low_data.comparison import CONTROL, DIVIDED, LAP, VANILLA, quantity
from regimes.lab.config import load
from regimes.lab.grid import grid_points

SIZES = list(table2.PUBLISHED["vanilla"])


def rows(**changes):
    return published_rows(table2.PUBLISHED, first=-1, **changes)


def verdicts(made):
    return {finding.quantity: finding.verdict for finding in table2.judge(made).findings}


def test_the_published_table_with_a_worse_control_supports_the_statement():
    assert table2.judge(rows()).verdict == "supported"


def test_without_a_gain_of_lap_the_statement_is_refuted_by_both_protocols():
    found = verdicts(rows(lap_divided=-3.0))
    for size in SIZES:
        assert found[quantity(DIVIDED, VANILLA, size, "paper")] == "refuted"
        assert found[quantity(DIVIDED, VANILLA, size, "held_out")] == "refuted"
        assert found[quantity(LAP, CONTROL, size, "held_out")] == "supported"


def test_a_control_that_does_better_refutes_that_transport_is_the_reason():
    found = verdicts(rows(control=2.0))
    assert {name for name, verdict in found.items() if verdict == "refuted"} == {
        quantity(LAP, CONTROL, size, "held_out") for size in SIZES
    }


def test_of_rows_not_run_nothing_is_known_and_the_table_says_so():
    some = rows(sizes=(4000, 50_000))
    findings = {finding.quantity: finding for finding in table2.judge(some).findings}
    assert findings[quantity(DIVIDED, VANILLA, 4000, "paper")].verdict == "supported"
    missing = findings[quantity(DIVIDED, VANILLA, 10_000, "paper")]
    assert missing.verdict == "not measured"
    assert math.isnan(missing.measured.low)
    assert str(missing.measured) == "not known"
    shown = table2.table(some).set_index(["n", "arm"])
    assert shown.loc[(10_000, "vanilla"), ["run", "published", "seeds", "paper"]].tolist() == ["no", 79.25, 0, ""]
    assert shown.loc[(4000, "vanilla"), ["run", "published", "seeds"]].tolist() == ["yes", 67.8, 3]
    assert shown.loc[(4000, "vanilla"), "paper"] == pytest.approx(67.8)
    assert table2.judge(some).merits["published values with runs"] == 4


def test_a_reduced_run_is_no_row_of_the_table():
    reduced = rows(as_published=False, sizes=(4000,))
    assert {finding.verdict for finding in table2.judge(reduced).findings} == {"not measured"}
    assert table2.judge(reduced).merits["published values with runs"] == 0
    shown = table2.table(reduced)
    assert set(shown[shown.run == "reduced"].published) == {""}
    assert len(shown[shown.run == "no"]) == 12
    left, right = table2.draw(reduced).axes  # no panel of published gains
    assert left.get_title() == "paper's count: best epoch by test"
    assert right.get_title() == "held out: epoch by validation"


def test_with_one_size_the_methods_stand_line_by_line_and_what_diverged_has_no_mark():
    reduced = rows(as_published=False, sizes=(4000,))
    reduced.loc[reduced.arm.isin(["lap", "control"]), "train_risk"] = math.nan
    left, right = table2.draw(reduced).axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["vanilla", "LAP, divided", "LAP", "control"]
    assert sorted(bar.get_label() for bar in left.containers) == ["LAP, divided", "vanilla"]
    assert [bar.get_label() for bar in right.containers] == ["LAP, divided − vanilla"]
    assert [text.get_text() for text in left.texts] == ["× 3 of 3 seeds diverged"] * 2
    assert len(right.texts) == 2


def test_the_figure_shows_accuracy_and_differences_beside_the_published_ones():
    accuracy, gain, held_out, free = table2.draw(rows()).axes
    drawn = {ax: {bar.get_label() for bar in ax.containers} for ax in (accuracy, gain, held_out)}
    assert {"LAP, divided", "LAP, divided, published", "vanilla, published", "control"} <= drawn[accuracy]
    assert drawn[gain] == {"LAP, divided − vanilla", "LAP, divided − vanilla, published"}
    assert drawn[held_out] == {"LAP, divided − vanilla", "LAP − control", "LAP − vanilla"}
    assert not free.axison


def test_the_table_says_what_share_of_the_objective_the_penalty_is():
    some = rows(sizes=(4000,)).assign(transport=3.0, multiplier=100.0, train_risk=1.5)
    shown = table2.table(some).set_index(["n", "arm"])["penalty over risk"]
    assert shown[4000, "LAP, divided"] == pytest.approx(3 / (100 * 1.5))
    assert shown[4000, "LAP"] == shown[4000, "LAP, divided"]
    assert shown[4000, "vanilla"] == shown[4000, "control"] == ""  # their objective has none


def test_the_real_size_is_the_published_one_and_fills_the_table():
    config = load(table2.Config, Path(__file__).parent.parent / "configs" / "cifar10_low_data.yaml")
    assert config.as_published
    assert config.train_size == SIZES
    assert config.training["arch_options"] == {"filters": 64}
    points = grid_points(table2, config)
    assert len(points) == 20 * 6 * 5
    assert [point["seed"] for point in points] == sorted(point["seed"] for point in points)


def test_the_smoke_run_fills_no_row():
    assert not table2.Config().as_published
