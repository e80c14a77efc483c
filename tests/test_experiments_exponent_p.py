import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.errors import Diverged
from regimes.experiments.least_action import exponent_p
from regimes.experiments.least_action.known_least import exponents
from regimes.transport.energy import action
from regimes.transport.pairing import exact_gap


def table(gap=1e-4, ratio=0.01, asymmetry=0.02, others=0.05, worst=3.0):
    """Made-up rows of four seeds; the numbers are those of one p, at the others all is well."""
    rows = []
    for p in (1.5, 2.0, 3.0):
        own = (gap, ratio, asymmetry, others) if p == worst else (1e-4, 0.01, 0.02, 0.05)
        for seed in range(4):
            wobble = 1 + 0.05 * (seed - 1.5)
            for weight in (0.0, 0.5):
                found = own[0] * wobble if weight else own[0] / own[1]
                row = {"gap": found, "asymmetry": own[2] * wobble, "others": own[3] * wobble, "certified": 1.0}
                rows.append({"p": p, "weight": weight, "seed": seed, **row})
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in exponent_p.judge(rows).findings}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        ({"gap": 0.05, "ratio": 0.06}, exponent_p.GAP),
        ({"ratio": 0.5}, exponent_p.RATIO),
        ({"asymmetry": 0.3, "others": 0.5}, exponent_p.ASYMMETRY),
        ({"others": 0.01}, exponent_p.OWN),
    ],
)
@pytest.mark.parametrize("worst", [1.5, 3.0])
def test_each_prediction_can_fail_alone_at_any_p(change, quantity, worst):
    assert set(verdicts(table()).values()) == {"supported"}
    found = verdicts(table(**change, worst=worst))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}
    exponent_p.draw(table())


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_a_gap_that_is_not_known_is_not_passed_over_for_the_worst_p(p):
    rows = table()
    rows.loc[(rows.p == p) & (rows.weight > 0) & (rows.seed == 1), ["gap", "asymmetry"]] = float("nan")
    assert set(verdicts(rows).values()) == {"inconclusive"}


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_a_p_of_small_mean_and_wide_interval_does_not_pass_unseen(p):
    rows = table()
    paid = (rows.p == p) & (rows.weight > 0)
    rows.loc[paid, "others"] = [0.5, 0.4, 0.05, 0.015]  # in the mean the difference is the lowest of all p
    rows.loc[paid, "asymmetry"] = 0.02
    found = verdicts(rows)
    assert found.pop(exponent_p.OWN) == "inconclusive"
    assert set(found.values()) == {"supported"}


def test_a_run_without_one_of_the_exponents_measures_no_worst_p():
    rows = table()
    assert set(verdicts(rows[rows.p > 1.5]).values()) == {"not measured"}
    assert exponent_p.judge(rows).merits["of these with an asymmetry of at most 0.1"] == 12


def test_a_rate_at_which_nets_diverge_ends_in_a_line():
    points = [{"p": 2.0, "weight": 0.3, "seed": 0}]
    for steps in (1, 3):
        with pytest.raises(Diverged, match="take a smaller rate"):
            exponent_p.measure(exponent_p.Config(p=(2.0, 3.0), rate=1e300, steps=steps), points)


def test_a_map_that_is_optimal_for_one_p_is_measured_as_that():
    """x ↦ x + c is optimal for every p > 1; a turn by 60° is optimal for none."""

    class Moved(torch.nn.Module):
        def __init__(self, transport):
            super().__init__()
            self.transport = transport

        def segment(self, _):
            return self

    config = exponent_p.Config(p=(2.0, 3.0))
    x = torch.randn(40, 2, generator=generator(0), dtype=torch.float64)
    shifted = exponents.quality(config, Moved(lambda z: z + 1.5), x, 3.0, 0)
    assert shifted["gap"] == 0
    assert shifted["asymmetry"] < 1e-20
    turn = torch.tensor([[0.5, -(0.75**0.5)], [0.75**0.5, 0.5]], dtype=torch.float64)
    turned = exponents.quality(config, Moved(lambda z: z @ turn.T), x, 3.0, 0)
    assert turned["gap"] == pytest.approx(exact_gap(x, x @ turn.T, p=3.0).relative_low)
    assert turned["gap"] > 0.1
    assert turned["asymmetry"] > 0.1


@pytest.mark.slow
def test_what_is_minimised_is_the_risk_of_the_image_and_the_action_for_that_p():
    config = exponent_p.Config(steps=1, rate=1e-12)
    point = {"p": 3.0, "weight": 0.3, "seed": 1}
    (row,) = exponent_p.measure(config, [point])
    net = exponents.net(1, blocks=config.blocks, hidden=config.hidden, gain=config.gain)
    x, _, mean, covariance = exponents.problem(config, 1)
    with torch.no_grad():
        trace = net(x, trace=True)
    assert row["action"] == pytest.approx(float(action(trace.paths[0], p=3.0)))
    own = torch.cov(trace.output.T, correction=0)
    expected = (trace.output.mean(0) - mean).square().sum() + (own - covariance).square().sum()
    assert_close(torch.tensor(row["risk"]).double(), expected, rtol=1e-6, atol=0)
