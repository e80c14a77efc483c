"""Losses over that of f = 0, which table and figure share."""

import math
from typing import TYPE_CHECKING, Any

from regimes.lab.intervals import POSITIVE
from regimes.lab.numbers import Number, each, mean

if TYPE_CHECKING:
    from pandas import DataFrame

LINEAR_SHARE = (1 - 2 / math.pi) / 2  # what the best linear function plus a constant leaves of the loss of f = 0


def of_zero(rows: "DataFrame", column: str = "test_end") -> Any:
    """The loss over that of f = 0, which is d²·3/(4d) in the mean over teachers."""
    return LINEAR_SHARE * rows[column] / rows.linear


def losses(rows: "DataFrame", scaling: str) -> dict[int, Number]:
    """Test loss at the end over that of f = 0, by width: means over trials with intervals that stay positive."""
    some: Any = rows[rows.scaling == scaling]
    return each(some, "width", lambda at: mean(of_zero(at), within=POSITIVE))
