import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.mean_field.spurious_minima import PUBLISHED, Config, draw, judge, measure, table
from regimes.experiments.mean_field.spurious_minima.runs import (
    as_functional,
    descend,
    first,
    gradient,
    grown,
    least_curvature,
    risk,
    worst,
)
from regimes.meanfield.particles import Particles
from regimes.meanfield.population import PopulationRisk, relu_gaussian


def made_up(off=0.0, widest=0, curved=0.03, ratio=4.0, fall=1.0, needed=1.0, ten=0.346):
    """A thousand starts of each size with the published shares, moved by `off`."""
    rows = []
    for k, extra in [*PUBLISHED, (10, 2), (19, 2)]:
        share = PUBLISHED.get((k, extra), 0.0) + (off if (k, extra) == (15, 1) else 0.0)
        hits = widest if extra == 2 else round(1000 * (ten if (k, extra) == (10, 0) else share))
        for seed in range(1000):
            stuck = seed < hits
            least = -ratio * 0.02 / k if stuck else -1e-4
            rows.append({
                "teacher": k, "extra": extra, "seed": seed, "stuck": stuck, "risk": 0.02 if stuck else 1e-6,
                "lowest": least, "speed": 1e-12, "steps": 100,
                "curvature": curved if stuck and seed < 5 else float("nan"),
                "fall": fall * least**2 if stuck and seed < 50 else float("nan"),
                **dict.fromkeys(("after_worst", "after_random"), 1e-6 if stuck and seed < 50 else float("nan")),
                "needed": needed if stuck and seed < 50 else float("nan"),
            })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def basis():
    return Particles(torch.ones(1, 5, 1, dtype=torch.float64), torch.eye(5, dtype=torch.float64)[None])


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "verdict"), [
    (made_up(), "supported"), (made_up(off=0.3), "refuted"), (made_up(widest=100), "refuted"),
    (made_up(curved=-0.01), "refuted"), (made_up(ratio=1.0), "refuted"), (made_up(fall=1.1), "refuted"),
    (made_up(needed=5.0), "refuted"), (made_up(ten=0.9), "refuted"), (made_up(off=0.1), "inconclusive"),
])  # fmt: skip
def test_each_prediction_is_judged_by_its_own_number(rows, verdict):
    assert judge(rows).verdict == verdict


def test_runs_that_have_not_ended_count_both_ways():
    rows = made_up()
    rows.loc[rows.extra == 2, "risk"] = 0.03  # neither at rest nor near 0
    some = (rows.teacher == 19) & (rows.extra == 0) & ~rows.stuck
    rows.loc[some & (rows.seed < 944), "risk"] = 0.06
    found = {finding.quantity: finding for finding in judge(rows).findings}
    none = found["share of spurious minima with m = k + 2, all k"]
    assert (tuple(none.measured), none.verdict) == ((0.0, 1.0), "inconclusive")
    share = found["share of spurious minima, k = 19, m = k"]
    assert share.value == pytest.approx(0.939)
    assert share.measured.low < 0.92
    assert share.measured.high > 0.955
    assert table(rows)["not ended"].tolist() == [0, 1000, 0, 0, 10, 0, 1000]


@pytest.mark.slow
def test_table_and_figure_show_every_size():
    shown = table(made_up())
    assert shown.spurious.tolist() == pytest.approx([0.346, 0.0, 0.803, 0.102, 0.934, 0.491, 0.0])
    assert len(draw(made_up()).axes) == 2
    assert len(draw(made_up(widest=0).query("extra == 2")).axes) == 2  # nothing is spurious


def test_risk_and_gradient_are_those_of_the_population_risk(basis):
    weights = torch.stack([first(seed, 5, 7) for seed in range(3)])
    whole = PopulationRisk(basis, relu_gaussian, scale=1.0)
    student = Particles(torch.ones(3, 7, 1, dtype=torch.float64), weights)
    assert_close(risk(weights, 5), whole.risk(student))
    assert_close(gradient(weights, 5), whole.gradient(student).input)


@pytest.mark.slow
def test_one_neuron_at_the_lowest_point_takes_its_square_off_the_risk():
    weights = torch.stack([first(seed, 5, 5) for seed in range(3)])
    value, where = worst(weights, 5, [0, 1, 2])
    assert (value < 0).all()
    assert_close(risk(weights, 5) - risk(grown(weights, where, 5), 5), value.square())
    # no random point is lower, and where h is above 0 a neuron is added that is 0
    points = torch.nn.functional.normalize(torch.randn(3, 2000, 5, dtype=torch.float64), dim=2)
    functional, measure = as_functional(weights, 5)
    h = functional.variation(measure, points)
    assert (value <= h.amin(1) + 1e-12).all()
    highest = points[torch.arange(3), h.argmax(1)]
    assert_close(risk(grown(weights, highest, 5), 5), risk(weights, 5))


def test_the_hessian_is_that_of_differences_of_the_risk():
    weights = first(0, 3, 3)
    moves = 1e-4 * torch.eye(9, dtype=torch.float64).view(9, 3, 3)
    pairs = weights + moves[:, None] + moves[None]
    crossed = weights + moves[:, None] - moves[None]
    both, apart = (risk(each.flatten(0, 1), 3).view(9, 9) for each in (pairs, crossed))
    opposite, other = (risk((2 * weights - each).flatten(0, 1), 3).view(9, 9) for each in (pairs, crossed))
    hessian = (both - apart - other + opposite) / 4e-8
    assert least_curvature(weights, 3) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[0]), abs=1e-6)


@pytest.mark.slow
def test_runs_that_have_ended_leave_without_changing_the_others(monkeypatch):
    monkeypatch.setattr("regimes.experiments.mean_field.spurious_minima.runs.BLOCK", 5)
    config = Config(iterations=15, found=1e-4)
    weights = torch.stack([first(0, 3, 3), torch.eye(3, dtype=torch.float64), first(1, 3, 3)])
    ends, steps = descend(weights, 3, config)
    assert steps.tolist() == [15, 5, 15]  # that of the teacher itself
    assert_close(ends[[0]], descend(weights[[0]], 3, config)[0], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_a_spurious_minimum_is_found_and_left_by_the_neuron_that_is_missing():
    config = Config(step=0.4, iterations=5_000, still=1e-5, found=1e-3, curvatures=1, cures=1, added=1)
    rows = pd.DataFrame(measure(config, [{"teacher": 8, "extra": 0, "seed": seed} for seed in (0, 4)]))
    other, stuck = (row for _, row in rows.iterrows())
    assert not other.stuck
    assert other.risk <= 1e-3
    assert stuck.stuck
    assert stuck.curvature > 1e-3
    assert -8 * stuck.lowest / stuck.risk >= 2
    assert stuck.after_worst <= 1e-3 < stuck.risk
    assert stuck.needed == 1
