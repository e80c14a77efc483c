"""The statements on integrators and gradients: judges on made-up rows, and what they measure."""

import math

import pandas as pd
import pytest
import torch

from regimes.control.tableau import KUTTA4, TABLEAUS
from regimes.control.trees import product_order
from regimes.errors import UserError
from regimes.experiments.control import dto_equals_otd, integrator_order
from regimes.experiments.control.dto_equals_otd.runs import METHODS, distances
from regimes.experiments.control.integrator_order.runs import network, oscillator

pytestmark = pytest.mark.slow


def noise(seed):
    return 1 + 0.02 * math.sin(3.0 * seed)


def errors(broken=None):
    return pd.DataFrame([
        {"problem": problem, "method": each.name, "halvings": halving, "seed": seed, "h": 0.1 / 2**halving,
         "error": noise(seed) * (0.1 / 2**halving) ** (each.order - (each.name == broken)), "rounding": 0.0}
        for problem in ("oscillator", "network") for each in TABLEAUS for halving in range(3) for seed in range(5)
    ])  # fmt: skip


def gaps(partner=1e-15, gauss=1e-15, same=None, back=None):
    rows = []
    for name, each in METHODS.items():
        for substeps in (4, 8, 16):
            for seed in range(5):
                h = 1 / (4 * substeps)
                own = (
                    gauss if each.symplectic else noise(seed) * h ** (product_order(each.a, each.b, 6) - (name == same))
                )
                behind = noise(seed) * h ** (each.order - (name == back))
                row = {"method": name, "substeps": substeps, "seed": seed, "h": h, "partner": partner, "same": own}
                rows.append(row | {"back": behind, "partner_0": partner, "same_0": own, "back_0": behind})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["Euler", "Dormand-Prince", "Gauss, 3 stages"])
def test_one_method_of_a_lower_order_refutes_the_orders(method):
    assert integrator_order.judge(errors()).verdict == "supported"
    assert integrator_order.judge(errors(method)).verdict == "refuted"


@pytest.mark.parametrize("broken", [{"partner": 1e-8}, {"gauss": 1e-8}, {"same": "Heun"}, {"back": "Kutta 4"}])
def test_each_claim_on_gradients_can_be_refuted(broken):
    assert dto_equals_otd.judge(gaps()).verdict == "supported"
    assert dto_equals_otd.judge(gaps(**broken)).verdict == "refuted"


def test_the_exact_solution_of_the_oscillator_is_that_of_many_steps():
    for seed in range(3):
        end, exact = oscillator(integrator_order.Config(), seed, KUTTA4, 2000)
        assert float((end - exact).norm()) < 1e-10  # steps of 0.002


def test_the_truth_of_the_network_is_that_of_many_other_steps():
    end, exact = network(integrator_order.Config(), 0, KUTTA4, 2000)
    assert float((end - exact).norm()) < 1e-10  # steps of 0.002


def test_distances_are_those_of_each_layer_relative_to_the_largest_gradient():
    from regimes.control.gradients import Gradients

    one = Gradients(torch.zeros(()), torch.zeros(5, 1, 2), [{"K": torch.tensor([3.0])}, {"K": torch.tensor([1.0])}])
    other = one._replace(params=[{"K": torch.tensor([2.0])}, {"K": torch.tensor([1.0])}])
    assert distances(one, other, 2).tolist() == [0.5, 0.0]


def test_unknown_methods_are_named_with_the_known_ones():
    point = {"problem": "network", "method": "Kutta", "halvings": 0, "substeps": 2, "seed": 0}
    with pytest.raises(UserError, match="Known methods: Euler"):
        integrator_order.measure(integrator_order.Config(), [point])
    with pytest.raises(UserError, match="without zero weights"):
        dto_equals_otd.measure(dto_equals_otd.Config(), [point | {"method": "Dormand-Prince"}])


@pytest.mark.parametrize(
    ("statement", "method"),
    [(integrator_order, "Kutta"), (dto_equals_otd, "Kutta"), (dto_equals_otd, "Dormand-Prince")],
)
def test_unknown_methods_are_refused_when_settings_are_read(statement, method):
    with pytest.raises(ValueError, match=f"unknown method '{method}'.*Known methods: Euler"):
        statement.Config(method=("Euler", method))
