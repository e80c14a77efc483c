from pathlib import Path

import pytest
from published_rows import published_rows

from regimes.experiments.least_action import cifar100_resnext50 as table3
from regimes.experiments.least_action.low_data.comparison import CONTROL, DIVIDED, LAP, VANILLA, quantity
from regimes.lab.config import load
from regimes.lab.grid import grid_points

SIZES = list(table3.PUBLISHED["vanilla"])


def rows(**changes):
    return published_rows(table3.PUBLISHED, first=0, **changes)


def verdicts(made):
    return {finding.quantity: finding.verdict for finding in table3.judge(made).findings}


def test_the_published_table_with_a_worse_control_supports_the_statement():
    assert table3.judge(rows()).verdict == "supported"


def test_lap_below_vanilla_and_below_the_control_refutes_it():
    found = verdicts(rows(lap_divided=-5.0, lap=-5.0))
    for size in SIZES:
        assert found[quantity(DIVIDED, VANILLA, size, "paper")] == "refuted"
        assert found[quantity(DIVIDED, VANILLA, size, "held_out")] == "refuted"
        assert found[quantity(LAP, CONTROL, size, "held_out")] == "refuted"


def test_a_reduced_run_is_no_row_of_the_table():
    reduced = rows(as_published=False)
    assert set(verdicts(reduced).values()) == {"not measured"}
    shown = table3.table(reduced)
    assert set(shown[shown.run == "reduced"].published) == {""}
    assert shown[shown.run == "no"].n.tolist() == [size for size in SIZES for _ in range(2)]


def test_the_figure_shows_mean_and_band_along_training_at_the_largest_size():
    *_, ax = table3.draw(rows()).axes
    assert ax.get_title() == "along training, 50,000 samples"
    vanilla = ax.lines[0]
    assert vanilla.get_xdata().tolist() == [1, 2]
    assert vanilla.get_ydata().tolist() == pytest.approx([(72.97 + 1) / 2, 72.97 + 1])  # seeds 0, 1, 2 add 0, 1, 2
    assert len(ax.collections) == 4  # a band for each arm


def test_the_real_size_is_the_published_one_and_fills_the_table():
    config = load(table3.Config, Path(__file__).parent.parent / "configs" / "cifar100_resnext50.yaml")
    assert config.as_published
    assert config.train_size == SIZES
    assert (config.training["arch"], config.training["arch_options"]) == ("resnext50", {})
    assert config.course().curve
    assert len(grid_points(table3, config)) == 10 * 3 * 4
    assert not table3.Config().as_published
