from types import SimpleNamespace

import pandas
import pytest
import toy_experiment as toy

from regimes.lab.verification import table_rows, verify

ROWS = pandas.DataFrame({"x": [2.0, 2.0, 1.0], "seed": [0, 1, 0], "y": [1.0, 3.0, 5.0], "label": ["a", "b", "c"]})


def test_the_table_holds_means_over_seeds_in_the_order_of_the_grid():
    assert table_rows(toy, ROWS) == [{"x": 2.0, "y": 2.0}, {"x": 1.0, "y": 5.0}]


def test_a_grid_of_seeds_alone_has_one_line():
    assert table_rows(SimpleNamespace(GRID=("seed",)), ROWS[["seed", "y"]]) == [{"y": 3.0}]


def test_an_experiment_may_have_a_table_of_its_own():
    own = SimpleNamespace(GRID=("x",), table=lambda rows: rows[["y"]].tail(1))
    assert table_rows(own, ROWS) == [{"y": 5.0}]


def test_a_grid_that_cannot_be_measured_touches_no_folder(tmp_path):
    with pytest.raises(ValueError, match="at least one value"):
        verify(toy, "toy", toy.Config(x=[]), tmp_path / "a")
    with pytest.raises(ValueError, match="at least 1"):
        verify(toy, "toy", toy.Config(), tmp_path / "a", workers=0)
    assert not (tmp_path / "a").exists()
