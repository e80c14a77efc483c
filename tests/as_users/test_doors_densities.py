"""What the finite volumes of a density refuse, as a user calls them."""

import pytest
import torch

from regimes.meanfield.continuity_equation import centres, continuity_flow, right_edges


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"times": 1.0}, "sequence of numbers"),
        ({"times": None}, "sequence of numbers"),
        ({"times": "1"}, "sequence of numbers"),
        ({"times": ["1"]}, "sequence of numbers"),
        ({"temperature": torch.ones(2)}, "one number"),
        ({"length": torch.ones(2)}, "one number"),
        ({"longest": torch.ones(2)}, "one number"),
    ],
)
def test_what_is_no_number_is_refused(given, words):
    start = torch.ones(1, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match=words):
        next(continuity_flow(torch.zeros_like, start, **({"times": [1.0], "length": 1.0} | given)))


@pytest.mark.parametrize("place", [centres, right_edges])
def test_cells_are_a_whole_number_and_the_length_is_above_zero(place):
    for cells, length in ((2.5, 1.0), (0, 1.0), (4, -1.0)):
        with pytest.raises(ValueError, match="needs"):
            place(cells, length)
