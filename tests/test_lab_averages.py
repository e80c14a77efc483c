"""Numbers of tables: of all values, or not known."""

import math

import pandas as pd
import pytest

from regimes.lab.averages import average, averages, least, middle, most


@pytest.mark.parametrize(("number", "expected"), [(average, 3.0), (middle, 2.0), (most, 7.0), (least, 0.0)])
def test_a_number_is_that_of_all_values_or_not_known(number, expected):
    assert number(pd.Series([7.0, 0.0, 2.0])) == expected
    assert math.isnan(number(pd.Series([7.0, 0.0, 2.0, math.nan])))
    assert math.isnan(number([]))


def test_means_of_groups_come_in_the_order_of_the_rows_and_are_not_known_where_a_value_is_not():
    rows = pd.DataFrame({"net": ["b", "a", "b", "a"], "one": [1.0, 2.0, 3.0, math.nan], "two": [0, 1, 1, 1]})
    found = averages(rows, ["net"], ["one", "two"])
    assert found.net.tolist() == ["b", "a"]
    assert found.one.isna().tolist() == [False, True]
    assert found.two.tolist() == [0.5, 1.0]
    whole = averages(rows, [], ["one", "two"])
    assert math.isnan(whole.one[0])
    assert whole.two[0] == 0.75
