import math

import numpy as np
import pandas
import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ERF
from regimes.conventions import generator
from regimes.experiments.lazy import infinite_width
from regimes.experiments.lazy.infinite_width import ACTIVATIONS, KERNELS, MEAN, Config, judge, points, runs
from regimes.experiments.lazy.infinite_width.bias import bias_slope, biases
from regimes.lab.intervals import Interval
from regimes.lab.numbers import Number
from regimes.models.two_layer import TwoLayer
from regimes.tangent.infinite import two_layer_nngp

SMALL = Config(width_two_layer=(8, 16), width_deep=(4, 8), seeds=4, blocks=6, nets=50, pilot=500, samples=3)


def made_up(scatter=-0.5, bias=-1.0, errors=2.0, noise=0.02, seeds=30):
    """Rows of nets whose scatter and bias follow the given powers of the width."""
    rows, random = [], np.random.default_rng(0)
    for name in ACTIVATIONS:
        for width in (32, 128, 512):
            for seed in range(seeds):
                row = {"network": "two_layer", "activation": name, "width": width, "seed": seed}
                for kernel in KERNELS:
                    row[f"{kernel}_scatter"] = width**scatter * math.exp(0.1 * random.normal())
                    row[f"{kernel}_standard_errors"] = errors
                rows.append(row)
        for width in (16, 32, 64):
            for seed in range(seeds):
                row = {"network": "deep", "activation": name, "width": width, "seed": seed, "sources": 1e-14}
                for kernel in KERNELS:
                    row[f"{kernel}_scatter"] = width**-0.5
                    row[f"{kernel}_bias"] = width**bias * (1 + noise * random.normal())
                rows.append(row)
    return pandas.DataFrame(rows)


def verdicts(rows):
    judgement = judge(rows)
    return judgement.verdict, {finding.quantity: finding.verdict for finding in judgement.findings}


def test_a_table_that_obeys_the_claim_supports_it():
    overall, each = verdicts(made_up())
    assert overall == "supported"
    assert set(each.values()) == {"supported"}
    assert judge(made_up()).merits == {"largest relative difference of the limits to neural-tangents": 1e-14}


def test_the_largest_difference_to_the_oracle_is_told():
    rows = made_up(seeds=3)
    rows.loc[rows.index[-1], "sources"] = 1e-13
    assert judge(rows).merits == {"largest relative difference of the limits to neural-tangents": 1e-13}


@pytest.mark.parametrize(
    ("change", "word"),
    [({"scatter": -0.3}, "scatter"), ({"bias": -0.5}, "bias"), ({"bias": -1.5}, "bias"), ({"errors": 6.0}, "errors")],
)
def test_a_table_that_breaks_one_part_refutes_it(change, word):
    overall, each = verdicts(made_up(**change))
    assert overall == "refuted"
    assert {quantity for quantity, verdict in each.items() if verdict == "refuted"} == {q for q in each if word in q}


def test_a_bias_lost_in_noise_decides_nothing():
    _, each = verdicts(made_up(noise=30.0))
    assert all(verdict == "inconclusive" for quantity, verdict in each.items() if "bias" in quantity)
    assert each[MEAN] == "supported"


@pytest.mark.slow
def test_the_slope_of_the_bias_has_the_interval_of_a_weighted_fit():
    """Against many draws: the slope of noisy means lies in the interval in at least 95 of 100 cases."""
    width, error = np.array([16.0, 32.0, 64.0, 128.0]), np.array([0.002, 0.001, 0.0008, 0.0005])
    random, inside = np.random.default_rng(0), 0
    for _ in range(1000):
        biases = zip(width, 1 / width + error * random.normal(size=4), error, strict=True)
        found = {int(m): Number(bias, Interval.around(bias, 1.959963984540054 * off)) for m, bias, off in biases}
        interval = bias_slope(found).interval
        inside += interval.low <= -1 <= interval.high
    assert inside > 950 - 5 * math.sqrt(1000 * 0.95 * 0.05)  # five standard errors


def test_deep_nets_get_blocks_in_proportion_to_their_width():
    grid = points(SMALL)
    count = {
        (network, width): sum(p["network"] == network and p["width"] == width for p in grid)
        for network, width in (("two_layer", 8), ("two_layer", 16), ("deep", 4), ("deep", 8))
    }
    assert count == {("two_layer", 8): 8, ("two_layer", 16): 8, ("deep", 4): 12, ("deep", 8): 24}


def test_a_measurement_can_be_repeated():
    batch = [p for p in points(SMALL) if (p["network"], p["activation"], p["width"]) == ("deep", "erf", 8)]
    first, second = (infinite_width.measure(SMALL, batch) for _ in range(2))
    assert first == second
    assert len({row["ntk_bias"] for row in first}) == len(batch)  # seeds differ


@pytest.mark.slow
def test_a_small_run_is_measured_judged_and_drawn():
    rows = []
    grid = points(SMALL)
    for network, widths in (("two_layer", SMALL.width_two_layer), ("deep", SMALL.width_deep)):
        for name in ACTIVATIONS:
            for width in widths:
                batch = [p for p in grid if (p["network"], p["activation"], p["width"]) == (network, name, width)]
                rows += [p | row for p, row in zip(batch, infinite_width.measure(SMALL, batch), strict=True)]
    frame = pandas.DataFrame(rows)
    assert "not measured" not in {finding.verdict for finding in judge(frame).findings}
    assert len(infinite_width.table(frame)) == 8
    (*_, curve), _ = infinite_width.draw(frame).axes[1].containers, None
    expected = [number.value for number in biases(frame, "erf", "nngp").values()]
    assert curve.lines[0].get_ydata().tolist() == expected


def test_nets_that_were_not_run_leave_out_their_predictions():
    rows = made_up()
    judgement = judge(rows[rows.network == "deep"])
    assert {f.verdict for f in judgement.findings if f.quantity.startswith("two layers")} == {"not measured"}
    assert {f.verdict for f in judgement.findings if f.quantity.startswith("deep")} == {"supported"}
    judgement = judge(rows[(rows.network == "two_layer") & (rows.activation == "erf")])
    assert {f.verdict for f in judgement.findings if "relu" in f.quantity or "deep" in f.quantity} == {"not measured"}


def test_entries_are_the_upper_triangle_relative_to_the_norm_of_the_limit():
    limit = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    kernel = limit + torch.tensor([[5.0, 10.0], [10.0, -5.0]], dtype=torch.float64)
    assert_close(runs.deviation(kernel, limit), torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64))


def test_the_deviation_of_the_mean_is_in_units_of_its_standard_error():
    """Recomputed from the same nets, one by one."""
    batch = [p for p in points(SMALL) if (p["network"], p["activation"], p["width"]) == ("two_layer", "erf", 16)]
    row = infinite_width.measure(SMALL, batch)[0]
    x = runs.sphere_points(SMALL)
    samples = []
    for point in batch:
        net = TwoLayer(SMALL.inputs, 16, activation=ERF, generator=generator(point["seed"], 2, 16), scale=0.25)
        hidden = torch.erf(x @ net.input_weights.detach().T)
        samples.append(hidden @ hidden.T / 16)
    stack = torch.stack(samples)
    score = (stack.mean(0) - two_layer_nngp(x, activation=ERF)).abs() / (stack.std(0) / len(batch) ** 0.5)
    assert_close(row["nngp_standard_errors"], score.max().item())
