"""The statement on rebuilt states: its judge on made-up rows, and what it measures."""

import math

import pandas as pd
import pytest
import torch

from regimes.control.reversible import Copies
from regimes.control.tableau import EULER
from regimes.experiments.control import reversibility_limit as statement
from regimes.experiments.control.reversibility_limit.config import COUPLINGS, DEFAULT, METHODS, PRECISIONS
from regimes.experiments.control.reversibility_limit.runs import networks, there_and_back

pytestmark = pytest.mark.slow


def rows(*, method=None, precision=None, coupling=None, factor=1.0, power=1.0, equal=0.5):
    """Errors as predicted; those of a method, precision or coupling otherwise."""
    made = []
    for name in METHODS:
        for kind in PRECISIONS:
            for each in COUPLINGS:
                for span in (2.0, 4.0, 6.0):
                    for seed in range(5):
                        growth = math.e if each == DEFAULT else math.exp(span)
                        hit = (method in (None, name)) and (precision in (None, kind)) and (coupling in (None, each))
                        error = (1 + 0.02 * math.sin(3 * seed)) * (factor * growth**power if hit else growth)
                        row = {"method": name, "precision": kind, "coupling": each, "span": span, "seed": seed}
                        row |= {"depth": 100 * span, "growth": growth, "error": error, "predicted": growth}
                        made.append(row | {"equal": equal * growth})
    return pd.DataFrame(made)


def test_rows_as_predicted_support_it_and_can_be_drawn():
    assert statement.judge(rows()).verdict == "supported"
    assert len(statement.table(rows())) == 6 * 2 * 4 * 3
    statement.draw(rows())


@pytest.mark.parametrize(
    "broken",
    [
        {"method": "Kutta 4", "precision": "float32", "power": 0.8},
        {"method": "Euler", "power": 1.2},
        {"coupling": "default", "factor": 4.0},
        {"coupling": "0.9", "precision": "float64", "factor": 0.2},
        {"equal": 5.0},
    ],
)
def test_each_prediction_can_be_refuted(broken):
    assert statement.judge(rows(**broken)).verdict == "refuted"


def test_an_exponent_has_as_many_repetitions_as_seeds_whatever_the_number_of_couplings():
    made = rows()
    own = made.seed * made.coupling.map(float_or_zero)  # the same of a seed at each λ, but for its size
    made["error"] = made.growth ** (1 + 0.01 * own)
    found = {finding.quantity: finding for finding in statement.judge(made).findings}
    one = found["Euler, float32: exponent of the error in λ^(−N)"]
    assert one.repetitions == 5
    assert one.value == pytest.approx(1 + 0.01 * 2 * (0.9 + 0.99 + 0.998) / 3)
    spread = 0.01 * (0.9 + 0.99 + 0.998) / 3 * math.sqrt(2.5)
    assert one.measured.high - one.value == pytest.approx(2.776 * spread / math.sqrt(5), rel=1e-3)  # Student, 4


def float_or_zero(coupling):
    return 0.0 if coupling == DEFAULT else float(coupling)


def test_the_prediction_is_the_sum_over_steps():
    """Without a field y stays at its mean with z: λ^(−2k) of a constant ulp."""
    layers, z = networks(statement.Config(), [3], EULER, 40, torch.float64)
    still = layers._replace(field=lambda time, z, params: 0 * z)
    start = torch.full_like(z, 1.5)
    error, predicted = there_and_back(still, Copies(start, start), 0.9)
    ulp = torch.finfo(torch.float64).eps
    exact = ulp * math.sqrt(sum(0.9 ** (-2 * k) for k in range(1, 41)) / 3)
    assert math.isclose(float(predicted), exact, rel_tol=1e-12)
    assert float(error) < 1e-12


def test_errors_of_a_network_do_not_depend_on_its_neighbours():
    points = [
        {"method": "Heun", "precision": "float64", "coupling": "0.9", "span": 3.0, "seed": seed} for seed in range(3)
    ]
    together = statement.measure(statement.Config(), points)
    assert together[1] == pytest.approx(statement.measure(statement.Config(), points[1:2])[0], rel=0.5)
    assert together[0]["error"] > 1e-16
