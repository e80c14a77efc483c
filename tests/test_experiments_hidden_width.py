"""The statement on the hidden width of deep nets: its judge, and what it measures against plain torch."""

import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.mean_field import hidden_width
from regimes.experiments.mean_field.hidden_width import FLUCTUATIONS, STATEMENT, Config, points
from regimes.experiments.mean_field.hidden_width.limits import limit
from regimes.experiments.mean_field.hidden_width.nets import nets, problem, trained
from regimes.experiments.mean_field.hidden_width.runs import fluctuations

CLAIMED = {column: exponents for column, (_, exponents) in FLUCTUATIONS.items()}


def made_up(fluctuate=CLAIMED, narrow=-0.5, square=-1.0, share=1e-6):
    """Power laws whose factor varies a little with the seed and the shape."""
    rows = []
    box = [("box", layers, width, inputs) for layers in (32, 128) for width in (1, 8) for inputs in (8, 16)]
    beside = [("narrow", layers, 1, 4) for layers in (16, 64, 256)]
    beside += [("square", layers, layers, 4) for layers in (4, 16, 64)]
    for name, layers, width, inputs in box + beside:
        for seed in range(5):
            noise = 1 + 0.01 * math.sin(3.0 * seed + layers)
            row = {"shapes": name, "layers": layers, "width": width, "inputs": inputs, "seed": seed}
            for column, (a, b, c) in fluctuate.items():
                row[column] = noise * layers**a * width**b * inputs**c
            rows.append(row | {"risk_0": 1.0, "risk": 0.25})
            if name != "box":
                away = noise * layers ** (narrow if name == "narrow" else square)
                for part in ("hidden", "output"):
                    rows[-1] |= {f"{part}_error": away, f"{part}_accuracy": share * away}
    return pd.DataFrame(rows)


def test_the_derived_exponents_support_the_statement():
    judged = hidden_width.judge(made_up())
    assert judged.verdict == "supported"
    assert judged.merits["share of the risk left by training, geometric mean"] == pytest.approx(0.25)


@pytest.mark.slow
@pytest.mark.parametrize("column", FLUCTUATIONS)
@pytest.mark.parametrize("place", range(3))
def test_another_exponent_refutes_its_own_prediction_alone(column, place):
    broken = [exponent + 0.2 * (axis == place) for axis, exponent in enumerate(CLAIMED[column])]
    judged = hidden_width.judge(made_up(CLAIMED | {column: tuple(broken)}))
    refuted = [number for number, finding in enumerate(judged.findings) if finding.verdict == "refuted"]
    assert refuted == [3 * list(FLUCTUATIONS).index(column) + place]
    assert {finding.verdict for finding in judged.findings} == {"supported", "refuted"}


@pytest.mark.slow
@pytest.mark.parametrize("broken", [{"narrow": -1.0}, {"square": -0.5}])
def test_another_rate_of_the_distance_refutes_it_for_states_and_output(broken):
    verdicts = [finding.verdict for finding in hidden_width.judge(made_up(**broken)).findings]
    assert verdicts.count("refuted") == 2
    assert verdicts.count("supported") == len(STATEMENT.predictions) - 2


@pytest.mark.slow
def test_nothing_is_said_of_distances_below_the_accuracy_of_the_limit():
    verdicts = [finding.verdict for finding in hidden_width.judge(made_up(share=1.0)).findings]
    assert verdicts[-4:] == 4 * ["inconclusive"]


@pytest.mark.slow
def test_a_run_without_some_of_its_shapes_is_judged_tabled_and_drawn():
    rows = made_up()
    for some in (rows[rows.shapes == "box"], rows[rows.shapes == "square"], rows[rows.layers == 32]):
        assert hidden_width.judge(some).verdict != "supported"
        assert len(hidden_width.table(some))
        assert hidden_width.draw(some).axes


def test_shapes_of_the_box_have_two_neurons_for_each_dimension():
    config = Config(layers=(4, 16), width=(1, 4), inputs=(2, 8), seeds=1)
    box = {tuple(point.values())[1:4] for point in points(config) if point["shapes"] == "box"}
    assert box == {(4, 1, 2), (4, 4, 2), (4, 4, 8), (16, 1, 2), (16, 1, 8), (16, 4, 2), (16, 4, 8)}


@pytest.mark.slow
def test_training_is_gradient_descent_on_the_net_with_its_scales_of_depth_width_and_embedding():
    """The net of X with √D/(L M), v·X/√D and w·X/D by autograd, step rate·L·M; two runs at once on the other side."""
    layers, width, inputs, steps, rate, seeds = 5, 3, 6, 4, 0.7, [3, 8]
    risk = problem(4, inputs, seeds)
    start = nets((layers, width, inputs), seeds, 1)
    end = risk.states(trained(risk, start, steps, rate))[:, -1]
    for run in range(2):
        u, v = (part[run].clone().requires_grad_() for part in (start.output, start.input))
        x, readout = inputs**0.5 * risk.x[run], inputs**0.5 * risk.readout[run]

        def states(u=u, v=v, x=x):
            for block in range(layers):
                values = torch.erf(x @ v[block].T / inputs**0.5)
                x = x + inputs**0.5 / (layers * width) * values @ u[block]
            return x

        for _ in range(steps):
            loss = (states() @ readout / inputs - risk.y[run]).square().mean() / 2
            for weight, slope in zip((u, v), torch.autograd.grad(loss, (u, v)), strict=True):
                weight.data -= rate * layers * width * slope
        assert_close(states().detach() / inputs**0.5, end[run])


@pytest.mark.slow
def test_the_limit_is_that_of_nets_with_many_neurons_in_every_dimension():
    fine, off = limit(3, (1, 2), 4, 8, 2, 0.5)
    assert off.max() < 4e-3
    for inputs in (2, 4):
        risk = problem(3, inputs, [1, 2])
        ends = torch.stack(
            [
                risk.states(trained(risk, nets((40, 60, inputs), [1, 2], replica), 2, 0.5))[:, -1]
                for replica in range(12)
            ]
        )
        spread = ends.std(0) / 12**0.5
        exact = torch.nn.functional.pad(fine, (0, inputs - 2))
        assert ((ends.mean(0) - exact).abs() < 5 * spread + 8e-3).all()


def test_fluctuations_are_standard_deviations_over_replicas():
    ends = torch.zeros(2, 1, 3, 4, dtype=torch.float64)
    ends[1, 0, :, 0], ends[1, 0, :, 3] = 3.0, 4.0
    found = fluctuations(ends, "_0")
    assert_close(found["output_0"], torch.tensor([3 / 2**0.5]).double())  # variance with 1/(n − 1), root mean square
    assert_close(found["hidden_0"], torch.tensor([5 / 2**0.5]).double())
