"""What an integration asks of a velocity, without the hook that checks shapes."""

import pytest
import torch

from regimes.control.adaptive import integrate


@pytest.mark.parametrize("wrong", [0, torch.zeros(2, 1, dtype=torch.float64), None])
def test_a_velocity_that_is_no_tuple_is_refused_and_not_taken_apart(wrong):
    with pytest.raises(ValueError, match="returns a tuple of tensors"):
        next(integrate(lambda state: wrong, (torch.ones(2, 1, dtype=torch.float64),), [1.0]))
