"""The units that every package shares."""

import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import function_norm, square_risk


def test_the_square_risk_is_half_the_mean_over_samples_of_the_sum_over_outputs():
    outputs = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    targets = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    assert square_risk(outputs, targets) == (1 + 16) / (2 * 2)


def test_the_norm_of_a_function_is_a_mean_over_samples_and_a_sum_over_outputs():
    assert function_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]])) == (25 / 2) ** 0.5


@pytest.mark.parametrize("runs", [(), (3,), (2, 3)])
def test_the_risk_is_half_the_squared_norm_of_the_difference_for_every_run(runs):
    outputs, targets = torch.randn(*runs, 5, 2), torch.randn(5, 2)
    assert_close(square_risk(outputs, targets), function_norm(outputs - targets).square() / 2)
    assert square_risk(outputs, targets).shape == runs
