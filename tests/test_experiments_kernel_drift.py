import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import regimes
from regimes.experiments.lazy import kernel_drift
from regimes.experiments.lazy.kernel_drift import EXPONENTS, Config, draw, judge, measure, table
from regimes.experiments.lazy.kernel_drift.config import MEAN_FIELD, ONE_SIGN, SYMMETRIC
from regimes.experiments.lazy.kernel_drift.runs import start
from regimes.experiments.lazy.starts import on_sphere, targets
from regimes.lab.grid import grid_points

OBEYED = {SYMMETRIC: -1.0, ONE_SIGN: -0.5, MEAN_FIELD: 0.0}


def made_up(exponents=OBEYED, share=1e-6):
    """Power laws whose factor and exponent vary a little with the seed."""
    return pd.DataFrame([
        {"width": width, "scaling": scaling, "seed": seed, "drift": drift, "drift_error": share * drift,
         "risk": 0.1 * (1 + seed), "risk_before": 0.4}
        for scaling, power in exponents.items()
        for width in (64, 256, 1024)
        for seed in range(5)
        for drift in [(1 + seed) * width ** (power + 0.002 * seed)]
    ])  # fmt: skip


def test_the_derived_exponents_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("scaling", "power"), [
    (SYMMETRIC, -0.5), (SYMMETRIC, -1.3), (ONE_SIGN, -1.0), (ONE_SIGN, -0.3), (MEAN_FIELD, -0.2), (MEAN_FIELD, 0.2),
])  # fmt: skip
def test_another_exponent_refutes_the_prediction_of_its_scaling_alone(scaling, power):
    found = {finding.quantity: finding.verdict for finding in judge(made_up(OBEYED | {scaling: power})).findings}
    assert found.pop(EXPONENTS[scaling][0]) == "refuted"
    assert set(found.values()) == {"supported"}


def test_nothing_is_said_of_a_drift_below_the_integration_error():
    assert judge(made_up(share=2.0)).verdict == "inconclusive"


def test_the_merits_are_the_largest_error_and_what_is_left_of_the_risk():
    rows = made_up()
    rows.loc[rows.index[3], "drift_error"] = 0.25 * rows.loc[rows.index[3], "drift"]
    merits = judge(rows).merits
    assert merits["largest error / drift"] == pytest.approx(0.25)
    assert merits["share of the risk left, geometric mean"] == pytest.approx(120**0.2 / 4)


def test_table_and_figure_show_what_is_judged():
    rows = made_up()
    shown = table(rows)
    assert shown["m"].tolist() == 3 * [64, 256, 1024]
    assert [text.get_text()[-5:] for text in draw(rows).axes[0].get_legend().get_texts()] == ["−1.00", "−0.50", " 0.00"]


@pytest.mark.slow
def test_the_drift_is_that_of_a_torch_net_trained_by_small_steps():
    """The kernel of regimes.ntk and gradient descent on the net itself, for each scaling."""
    config = Config(width=(6,), seeds=1, inputs=3, samples=4, horizon=1.0, tolerance=1e-9)
    points = grid_points(kernel_drift, config)
    rows = measure(config, points)
    for row, point in zip(rows, points, strict=True):
        drawn, (x,), (y,) = start(config, [point]), on_sphere(4, 3, [point["seed"]]), targets(4, [point["seed"]])
        alpha = 1.0 if point["scaling"] == MEAN_FIELD else 6**0.5
        net = nn.Sequential(nn.Linear(3, 6, bias=False), nn.Softplus(), nn.Linear(6, 1, bias=False)).double()
        net[0].weight.data, net[2].weight.data = drawn.input[0].clone(), drawn.output[0].mT.clone()
        before, first = regimes.ntk(net, x), net(x).detach() / 6
        for _ in range(steps := 2000):
            net.zero_grad()
            risk = (alpha * (net(x) / 6 - first) - y).square().mean() / 2 / alpha**2
            risk.backward()
            for weight in net.parameters():
                weight.data -= 6 / steps * weight.grad
        drift = float(regimes.kernel_drift(regimes.ntk(net, x), before))
        assert_close(row["drift"], drift, rtol=5e-3, atol=0.0)  # Euler steps of 1/2000


def test_all_output_weights_of_one_sign_are_positive_and_the_others_are_the_same_up_to_signs():
    points = [{"scaling": scaling, "seed": 1, "width": 8} for scaling in OBEYED]
    symmetric, one_sign, mean_field = start(Config(), points).output
    assert (one_sign > 0).all()
    assert torch.equal(symmetric.abs(), one_sign)
    assert torch.equal(symmetric, mean_field)
