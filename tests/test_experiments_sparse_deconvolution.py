import pandas as pd
import pytest
import torch

from regimes.experiments.mean_field.sparse_deconvolution import Config, draw, judge, measure, points, table
from regimes.experiments.mean_field.sparse_deconvolution.config import BIRTHS, CONE, PARTICLES, SLIDING
from regimes.experiments.mean_field.sparse_deconvolution.runs import distance, problems
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.sliding import first_order_shift, sliding_frank_wolfe

TRIALS = 100


def made_up(many=1.0, few=0.4, torus=1.0, born=1.0, slid=1.0, away=5e-4, held=1e-7, broken=0.3):
    """Rows in which the given shares of trials succeed, with the given distance and certificates."""
    shares = {(1, 6): few, (1, 100): many, (2, 7): few, (2, 100): torus}
    ways = [
        (dim, way, m, share)
        for (dim, m), share in shares.items()
        for way in (PARTICLES, CONE)
        if dim == 1 or way == CONE
    ]
    ways += [(dim, BIRTHS, 7, born) for dim in (1, 2)] + [(dim, SLIDING, 0, slid) for dim in (1, 2)]
    return pd.DataFrame([
        {"dim": dim, "spikes": spikes, "way": way, "m": m, "seed": seed, "value": 2.0 + 3.0 * (not good), "lower": 2.0,
         "largest": 1 + held if good else 9.0, "attained": 1 + (held if good else broken), "found": 5.0,
         "distance": away if good else 0.3, "shift": 4e-4, "work": 100.0, "born": 0.0}
        for dim, way, m, share in ways for spikes in ("positive", "signed") for seed in range(TRIALS)
        for good in [seed < share * TRIALS]
    ])  # fmt: skip


@pytest.mark.parametrize(("change", "verdict"), [
    ({}, "supported"), ({"many": 0.8}, "refuted"), ({"few": 0.95}, "refuted"), ({"torus": 0.8}, "refuted"),
    ({"born": 0.8}, "refuted"), ({"slid": 0.9}, "refuted"), ({"away": 2e-3}, "refuted"), ({"held": 2e-4}, "refuted"),
    ({"broken": 0.0}, "refuted"), ({"many": 0.95}, "inconclusive"),
])  # fmt: skip
def test_each_prediction_is_judged_by_its_own_number(change, verdict):
    assert judge(made_up(**change)).verdict == verdict


def test_success_is_measured_from_the_lower_bound_of_the_same_problem():
    rows = made_up()
    rows.loc[(rows.way == SLIDING) & (rows.seed == 3), "lower"] -= 1e-3
    lines = table(rows)
    assert lines[lines.way == SLIDING]["successes"].tolist() == [0.99] * 4
    assert lines[lines.way == BIRTHS]["successes"].tolist() == [0.99] * 4
    assert judge(rows[rows.way != SLIDING]).verdict == "not measured"


def on_circle(*pairs: tuple[float, float]) -> Measure:
    both = torch.tensor(pairs, dtype=torch.float64)[None]
    return Measure(both[..., :1], both[..., 1])


def test_the_distance_is_that_of_the_cheapest_pairing_on_the_circle():
    truth = on_circle((0.99, 1.0), (0.4, 0.6))
    assert distance(truth, on_circle((0.41, 2.0), (0.02, 1.0))) == pytest.approx(0.03)
    assert distance(truth, on_circle((0.39, 1.0), (0.99, -1.0))) == 0.5  # of another sign
    assert distance(truth, on_circle((0.99, 1.0))) == pytest.approx(0.41)
    assert distance(truth, Measure(torch.zeros(1, 0, 1), torch.zeros(1, 0))) == 0.5


@pytest.mark.slow
def test_the_first_order_shift_is_the_limit_of_small_penalties():
    shifts = []
    for share in (1e-2, 1e-3):
        truth, risk = problems(Config(m0=3, share=share), 1, "signed", [5])
        *_, (found, _) = sliding_frank_wolfe(risk)
        exact = distance(truth, found.measure())
        shifts.append((exact, first_order_shift(risk, truth.position[0], truth.mass[0])))
    assert shifts[1][1] == pytest.approx(shifts[0][1] / 10, rel=1e-6)
    errors = [abs(exact / first - 1) for exact, first in shifts]
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 5


@pytest.mark.slow
def test_certificates_tell_what_was_found():
    config = Config(dim=(1,), spikes=("signed",), particles_1d=(2, 16), seeds=2, iterations=3000)
    planned = points(config)
    ways = {(point["way"], point["m"]) for point in planned}
    assert ways == {(SLIDING, 0), (BIRTHS, 5), (PARTICLES, 2), (CONE, 2), (PARTICLES, 16), (CONE, 16)}
    calls = [
        [point for point in planned if (point["way"], point["m"]) == way]
        for way in ((SLIDING, 0), (CONE, 2), (CONE, 16))
    ]
    rows = pd.DataFrame([point | row for call in calls for point, row in zip(call, measure(config, call), strict=True)])
    solved, few, many = (rows.iloc[place : place + 2] for place in (0, 2, 4))
    assert (solved.value - solved.lower < 1e-10).all()
    assert (few.found <= 2).all()
    assert (few.attained > 1.1).all()
    assert (many.value.to_numpy() - solved.lower.to_numpy() < 1e-5).all()
    assert (many.distance < 1e-3).all()
    assert len(draw(rows).axes) == 4
