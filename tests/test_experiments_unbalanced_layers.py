from typing import Any, cast

import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import regimes
from regimes.activations import IDENTITY
from regimes.experiments.lazy.scaled_nets import one_sample_course, samples, start, train
from regimes.experiments.lazy.unbalanced_layers import (
    FLIPS,
    LINEAR_DOWN,
    LINEAR_UP,
    PEAK,
    RELU_DOWN,
    RELU_UP,
    SIDES,
    Config,
    draw,
    judge,
    measure,
    table,
)
from regimes.experiments.lazy.unbalanced_layers.config import LINEAR, RELU_NET
from regimes.meanfield.displacement import tangent_features
from regimes.meanfield.particles import Particles

OBEYED = {LINEAR_DOWN: 2.0, LINEAR_UP: -2.0, RELU_DOWN: 2.0, RELU_UP: 0.0, FLIPS: 0.0}


def made_up(laws=OBEYED, top=0.0, upstream=1.0, error=1e-5):
    """Power laws on both sides of balance that vary a little with the seed; `upstream` is a factor on that side."""
    rows = []
    for activation, down, up in ((LINEAR, LINEAR_DOWN, LINEAR_UP), (RELU_NET, RELU_DOWN, RELU_UP)):
        for imbalance in (-3.0, -2.0, -1.5, 0.0, 0.5, 1.5, 2.0, 3.0):
            for seed in range(4):
                power = laws[up if imbalance > 0 else down] + 0.002 * seed
                drift = (1 + seed) * 10 ** (power * imbalance) * (upstream if imbalance > 0 else 1.0)
                drift = 50.0 if activation == LINEAR and imbalance == top else drift
                flips = 0.1 * 10 ** ((laws[FLIPS] + 0.002 * seed) * imbalance) if imbalance > 0 else 0.0
                rows.append({"activation": activation, "imbalance": imbalance, "seed": seed, "drift": drift,
                             "drift_error": error * drift, "flips": flips, "input_motion": 0.1, "output_motion": 0.2,
                             "share": 0.01, "stopped": 1.0})  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_the_derived_exponents_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [
    (LINEAR_DOWN, 1.0), (LINEAR_UP, 0.0), (RELU_DOWN, 1.0), (RELU_UP, -2.0), (FLIPS, -1.0),
])  # fmt: skip
def test_another_exponent_refutes_its_prediction(name, value):
    found = verdicts(made_up(OBEYED | {name: value}))
    assert {one for one, verdict in found.items() if verdict == "refuted"} == {name}


def test_a_peak_off_balance_and_a_still_kernel_upstream_are_refuted():
    assert verdicts(made_up(top=0.5))[PEAK] == "refuted"
    assert verdicts(made_up(upstream=1e-9))[SIDES] == "refuted"


def test_nothing_is_said_of_drifts_below_the_integration_error():
    found = verdicts(made_up(error=2.0))
    drifts = (LINEAR_DOWN, LINEAR_UP, RELU_DOWN, RELU_UP)
    assert {found[name] for name in (*drifts, FLIPS, SIDES)} == {"inconclusive"}


def test_the_two_sides_of_relu_nets_carry_the_error_of_both_drifts():
    rows = made_up(error=0.01)
    (found,) = (finding for finding in judge(rows).findings if finding.quantity == SIDES)
    assert found.error == pytest.approx(0.02 * found.measured.low)
    assert found.verdict == "supported"


def test_nothing_is_said_of_trainings_that_did_not_come_down_to_their_risk():
    rows = made_up()
    assert set(verdicts(rows.assign(stopped=0.0)).values()) == {"inconclusive"}
    rows.loc[(rows.activation == RELU_NET) & (rows.imbalance == -3) & (rows.seed == 1), "stopped"] = 0.0
    found = verdicts(rows)
    assert {name for name, verdict in found.items() if verdict != "supported"} == {RELU_DOWN, SIDES}


@pytest.mark.slow
@pytest.mark.parametrize("imbalance", [-0.5, 0.0, 0.5])
def test_the_kernel_of_a_linear_net_of_one_sample_drifts_as_derived(imbalance):
    width = 16
    ratio = torch.tensor([10.0**imbalance]).double()
    drawn = start(width, 1, torch.ones(1).double(), [3])
    a, b = (weights / weights.square().mean().sqrt() for weights in drawn)
    one = torch.ones(1, 1, 1).double()
    scale = torch.tensor([1 / width]).double()
    found = train(Particles(ratio * a, b), (one, one), scale, ratio, IDENTITY, left=1e-3, tolerance=1e-5)
    before, after = (tangent_features(net, one, IDENTITY).square().sum() for net in (found.start, found.end))
    tau = one_sample_course(width, scale, ratio, 1 - float(found.share) ** 0.5)
    assert_close(after / before - 1, torch.cosh(2 * tau)[0] - 1, rtol=2e-3, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [LINEAR, RELU_NET])
def test_drift_flips_and_motions_are_those_of_a_torch_net(activation):
    config = Config.model_validate({"width": 16, "left": 0.3, "tolerance": 1e-4})
    (row,) = measure(config, [{"activation": activation, "imbalance": 0.3, "seed": 1}])
    (x,), (y,) = samples(config.samples, config.inputs, [1])
    drawn = start(16, config.inputs, torch.tensor([10.0**0.3]).double(), [1])
    first, last = nn.Linear(8, 16, bias=False).double(), nn.Linear(16, 1, bias=False).double()
    first.weight.data, last.weight.data = drawn.input[0].clone(), drawn.output[0].mT.clone()
    net = nn.Sequential(first, nn.ReLU() if activation == RELU_NET else nn.Identity(), last)
    alpha = 16 * 10.0**0.3  # f = Σ a σ(b·x)/α with κ = β₁β₂/α = 1/16
    kernel, active = regimes.ntk(net, x), first(x).detach() > 0
    share = 1.0
    while share > row["share"]:
        net.zero_grad()
        risk = (net(x) / alpha - y).square().mean() / 2
        risk.backward()
        share = float(risk.detach() / y.square().mean() * 2)
        for weight in net.parameters():
            weight.data -= 1.0 * cast(Any, weight.grad)
    if activation == LINEAR:  # a ReLU net of this width jumps with each of its flips
        assert_close(row["drift"], float(regimes.kernel_drift(regimes.ntk(net, x), kernel)), rtol=0.05, atol=0)
    assert abs(row["flips"] - float(((first(x) > 0) != active).double().mean())) <= 2 / active.numel()
    for motion, layer, begin in (("input", first, drawn.input[0]), ("output", last, drawn.output[0].mT)):
        moved = (layer.weight.detach() - begin).norm() / begin.norm()
        assert_close(row[f"{motion}_motion"], float(moved), rtol=0.03, atol=0)


def test_table_and_figure_show_both_nets():
    rows = made_up()
    assert table(rows).net.tolist() == 8 * [LINEAR] + 8 * [RELU_NET]
    above = cast(Any, draw(rows).axes[0])
    assert [text.get_text() for text in above.get_legend().get_texts()][:2] == ["ReLU", "linear"]
