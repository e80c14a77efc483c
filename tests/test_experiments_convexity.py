import pandas as pd
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from regimes.experiments.mean_field.convexity import Config, draw, judge, measure, table
from regimes.experiments.mean_field.convexity.runs import midpoint
from regimes.meanfield.particles import gaussian


def made_up(bend=-1.0, above=10, mixture=0.9):
    """Twelve pairs of each kind; `above` of the trained pairs have a geodesic above the mean of the ends, 1."""
    return pd.DataFrame([
        {"nets": kind, "width": width, "seed": seed, "one": 0.5, "other": 1.5, "teacher": 100.0, "mixture": mixture,
         "outputs": 8 * (1 - mixture) / -bend, "geodesic": 5.0 if seed < above else 0.5}
        for kind in ("drawn", "trained") for width in (8, 32) for seed in range(12)
    ])  # fmt: skip


@pytest.mark.parametrize(("rows", "verdict"), [
    (made_up(), "supported"), (made_up(bend=-2.0), "refuted"), (made_up(above=1), "refuted"),
    (made_up(above=6), "inconclusive"), (made_up(mixture=1.1, bend=1.0), "refuted"),
])  # fmt: skip
def test_each_prediction_is_judged_by_its_own_number(rows, verdict):
    assert judge(rows).verdict == verdict


@pytest.mark.slow
def test_table_and_figure_show_both_ways():
    assert table(made_up())["geodesic: middle above the mean"].tolist() == pytest.approx(4 * [10 / 12])
    assert len(draw(made_up()).axes) == 2


def test_the_middle_of_a_geodesic_is_that_of_the_cheapest_pairing():
    one, other = (gaussian(7, 3, generators=[torch.Generator().manual_seed(seed)]) for seed in (1, 2))
    first, second = (torch.cat(net, 2)[0] for net in (one, other))
    _, partners = linear_sum_assignment(torch.cdist(first, second).square().numpy())
    found = torch.cat(midpoint(one, other), 2)[0]
    assert_close(found, (first + second[partners]) / 2)
    shuffled = type(other)(*(part.flip(1) for part in other))
    assert_close(torch.cat(midpoint(one, shuffled), 2)[0], found)
    assert_close(torch.cat(midpoint(one, one), 2)[0], first)


@pytest.mark.slow
def test_trained_nets_have_the_risk_asked_for_and_mixtures_the_closed_form():
    config = Config(samples=6, inputs=3)
    for row in measure(config, [{"nets": "trained", "width": 16, "seed": seed} for seed in range(2)]):
        assert max(row["one"], row["other"]) <= config.left * row["teacher"]
        assert row["mixture"] - (row["one"] + row["other"]) / 2 == pytest.approx(-row["outputs"] / 8)
