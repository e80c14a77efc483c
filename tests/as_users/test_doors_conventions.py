"""What the units, activations and laziness numbers refuse, as a user calls them."""

import pytest
import torch
from doors import Door, cases, loses, not_taken

from regimes.conventions import function_norm, square_risk


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


DOORS = {
    "square_risk": Door(
        square_risk,
        lambda: {"outputs": randn(5, 8, 2), "targets": randn(8, 2)},
        sized={"outputs": (1, 2), "targets": (0, 1)},
    ),
    "function_norm": Door(function_norm, lambda: {"values": randn(8, 2)}, free={"values: an axis more"}),
}


def test_the_right_input_is_taken():
    assert not_taken(DOORS) == []


@pytest.mark.parametrize(("door", "argument", "how"), cases(DOORS))
def test_wrong_input_is_refused_or_stays_in_sight(door, argument, how):
    assert loses(DOORS[door], argument, how) is None


def test_a_column_against_a_row_is_no_square_risk():
    y = randn(8)
    with pytest.raises(ValueError, match="square_risk needs outputs"):
        square_risk(y[:, None], y)
    assert square_risk(y[:, None], y[:, None]) == 0
    assert square_risk(y[:, None].expand(5, 8, 1), y[:, None]).shape == (5,)
