import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.errors import Diverged
from regimes.experiments.least_action import complexity_adapts, minimal_maps_are_not_unique, multiplier_diverges
from regimes.experiments.least_action.known_least import courses, mirrored
from regimes.experiments.least_action.known_least.exact import RISKS, SCORES, band, below, least, line, logistic
from regimes.experiments.least_action.known_least.nets import net, train
from regimes.training.objectives import LeastAction


def verdicts(experiment, rows):
    return {finding.quantity: finding.verdict for finding in experiment.judge(rows).findings}


@pytest.mark.parametrize("risk", ["hinge", "square"])
def test_the_least_objective_is_the_closed_form_where_there_is_one(risk):
    """One point at height −1 under 4 y: hinge, r = max(0, 1 − 4y); square, r = ½ (1 − 4y)²; both plus (y + 1)²/λ."""
    y, signs = -torch.ones(2, 1).double(), torch.ones(2, 1).double()
    multiplier = torch.tensor([0.3, 2.0], dtype=torch.float64)
    place = {
        "hinge": torch.minimum(-1 + 2 * multiplier, torch.tensor(0.25).double()),
        "square": (4 - 2 / multiplier) / (16 + 2 / multiplier),
    }[risk]
    found = least(y, signs, line, RISKS[risk], multiplier)
    expected = RISKS[risk](4 * place) + (place + 1) ** 2 / multiplier
    assert_close(found.objective, expected)
    assert_close(found.transport, (place + 1) ** 2, rtol=1e-5, atol=0)


def test_no_map_is_below_the_least_objective():
    x, signs = mirrored.cloud(12, 3)
    multiplier = torch.tensor(5.0).double()
    known = least(x[:, 1], signs, band, logistic, multiplier).objective
    draw = torch.Generator().manual_seed(0)
    for size in (0.0, 0.1, 1.0):
        to = x[:, 1] + signs.clamp(min=0) * 1.2 + size * torch.randn(12, generator=draw, dtype=torch.float64)
        assert logistic(signs * band(to)).mean() + (to - x[:, 1]).square().mean() / multiplier >= known


@pytest.mark.parametrize("samples", [8, 10, 32])
def test_the_cloud_is_its_own_mirror_image(samples):
    x, signs = mirrored.cloud(samples, 1)
    image = x * torch.tensor([1.0, -1.0]).double()

    def ordered(points):
        return sorted(map(tuple, torch.cat([points, signs[:, None]], 1).add(0.0).tolist()))

    assert_close(torch.tensor(ordered(image)), torch.tensor(ordered(x)))
    assert_close(SCORES["band"](x[:, 1]), SCORES["band"](image[:, 1]))


def test_nets_trained_together_are_each_trained_by_least_action():
    """One step of Adam written out for one net, with the objective of `train`."""
    x, signs = below(8, 1.0, 0)
    made = [net(seed, blocks=2, hidden=3) for seed in (1, 2)]
    alone = net(2, blocks=2, hidden=3)
    both = train(
        made, torch.stack([x, x]), torch.stack([signs, signs]), logistic, line, torch.tensor([1.0, 5.0]).double(),
        steps=1, rate=0.1,
    )  # fmt: skip
    objective = LeastAction(
        lambda out, s: logistic(s[:, 1] * line(out[:, 1])).mean(),
        multiplier=2.5,
        growth=0.0,
        convention="sum_over_features",
    )
    optimizer = torch.optim.Adam(alone.parameters(), lr=0.1)
    objective(alone(x, trace=True), torch.stack([signs, signs], 1)).value.backward()  # L Σ‖v‖²/λ with L = 2, λ = 5
    optimizer.step()
    assert_close(both.ends[1], alone(x).detach())


def test_the_multiplier_grows_by_the_risk_after_the_warm_steps():
    x, signs = below(8, 1.0, 0)
    start = torch.tensor([1.0]).double()
    still = train([net(0, blocks=1, hidden=2)], x[None], signs[None], logistic, line, start, steps=3, rate=0.0)
    grown = train(
        [net(0, blocks=1, hidden=2)], x[None], signs[None], logistic, line, start,
        steps=5, warm=2, rate=0.0, growth=0.5, looks=[1, 3],
    )  # fmt: skip
    assert_close(grown.multiplier[:, 0], 1 + 0.5 * still.risk * torch.tensor([1.0, 3.0]).double())


def clouds(excess=0.001, spread=0.01, distance=1.0, same=0.02):
    rows = []
    for score, apart in (("band", distance), ("raised", same)):
        for seed in range(4):
            wobble = 1 + 0.02 * (seed - 1.5)
            row = {"excess": excess, "spread": spread, "distance": apart, "cost": 1.0, "up": 0.5}
            rows.append({"score": score, "seed": seed, **{name: value * wobble for name, value in row.items()}})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        ({"excess": 0.2}, minimal_maps_are_not_unique.EXCESS),
        ({"spread": 0.2}, minimal_maps_are_not_unique.SPREAD),
        ({"distance": 0.2}, minimal_maps_are_not_unique.DIFFERENT),
        ({"same": 0.3}, minimal_maps_are_not_unique.SAME),
    ],
)
def test_each_prediction_on_equal_costs_and_different_maps_can_fail_alone(change, quantity):
    assert set(verdicts(minimal_maps_are_not_unique, clouds()).values()) == {"supported"}
    found = verdicts(minimal_maps_are_not_unique, clouds(**change))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}
    minimal_maps_are_not_unique.draw(clouds())


def tasks(power=1.0, factor=1.05, alone=4.0):
    rows = []
    for seed in range(4):
        for distance in (0.25, 1.0, 4.0):
            known = (distance + 0.3) ** 2 / 2
            for method, value in (("least_action", factor * known**power), ("risk", alone)):
                row = {"method": method, "distance": distance, "seed": seed, "least_transport": known, "excess": 0.0}
                rows.append(row | {"transport": value * (1 + 0.01 * (seed - 1.5))})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"power": 0.8, "factor": 1.0}, {complexity_adapts.SLOPE}),
        ({"factor": 1.5}, {complexity_adapts.RATIO}),
        ({"alone": 0.2}, {complexity_adapts.ALONE}),
    ],
)
def test_each_prediction_on_adapted_costs_can_fail(change, broken):
    assert set(verdicts(complexity_adapts, tasks()).values()) == {"supported"}
    found = verdicts(complexity_adapts, tasks(**change))
    assert broken <= {name for name, verdict in found.items() if verdict == "refuted"}
    complexity_adapts.draw(tasks())


def test_tasks_that_do_not_span_the_range_of_the_claim_measure_nothing_of_it():
    rows = tasks()
    assert set(verdicts(complexity_adapts, rows[rows.distance > 0.25]).values()) == {"not measured"}
    short = verdicts(complexity_adapts, rows[rows.distance < 4.0])
    assert short.pop(complexity_adapts.ALONE) == "supported"
    assert set(short.values()) == {"not measured"}


def test_the_worst_distance_is_one_that_is_not_well_known():
    rows = tasks()
    where = (rows.method == "least_action") & (rows.distance == 1.0)
    rows.loc[where, "transport"] = rows[where].least_transport * [0.6, 1.3, 0.6, 1.3]  # 0.88 in the mean
    assert verdicts(complexity_adapts, rows)[complexity_adapts.RATIO] == "inconclusive"


def grown(powers, residual=0.001, factor=1.0):
    rows = []
    for risk, power in powers.items():
        for seed in range(4):
            wobble = 1 + 0.01 * (seed - 1.5)
            parts = {"quarter": 0.25, "half": 0.5, "end": 1.0}
            row = {f"exact_{part}": 1 + at**power if power else 2.0 for part, at in parts.items()}
            own = {name.replace("exact", "multiplier"): value for name, value in row.items()}
            own["multiplier_end"] += (0.02 * own["multiplier_end"] * (seed - 1.5)) * bool(power) * 0.01
            row |= {name: factor * value for name, value in own.items()}
            rows.append({"risk": risk, "seed": seed, **row, "risk_end": 0.1, "excess": residual * wobble})
    return pd.DataFrame(rows)


RESTS = {"hinge": 0.0, "square": 1 / 3, "logistic": 0.55}


@pytest.mark.parametrize(("risk", "power"), [("hinge", 0.5), ("square", 1.0), ("logistic", 0.1)])
def test_the_octave_ratio_tells_the_laws_of_the_multiplier_apart(risk, power):
    assert set(verdicts(multiplier_diverges, grown(RESTS)).values()) == {"supported"}
    found = verdicts(multiplier_diverges, grown(RESTS | {risk: power}))
    assert found[multiplier_diverges.OCTAVE[risk]] == "refuted"
    rows = grown(RESTS)
    power_law = multiplier_diverges.octaves(rows[rows.risk == "square"], "exact")
    assert power_law.tolist() == pytest.approx([2 ** (1 / 3)] * 4)
    multiplier_diverges.draw(rows)


def test_a_multiplier_off_the_exact_course_and_a_residual_are_refuted():
    assert verdicts(multiplier_diverges, grown(RESTS, factor=1.3))[multiplier_diverges.COURSE] == "refuted"
    assert verdicts(multiplier_diverges, grown(RESTS, residual=0.2))[multiplier_diverges.RESIDUAL] == "refuted"


@pytest.mark.parametrize("left_out", list(RESTS))
def test_the_worst_course_is_not_measured_where_a_risk_was_not_run(left_out):
    rows = grown(RESTS)
    found = verdicts(multiplier_diverges, rows[rows.risk != left_out])
    assert found[multiplier_diverges.COURSE] == found[multiplier_diverges.OCTAVE[left_out]] == "not measured"


def test_a_course_that_is_near_in_the_mean_and_not_well_known_is_the_worst():
    rows = grown(RESTS)
    where = rows.risk == "square"
    rows.loc[where, "multiplier_end"] = rows[where].exact_end * [0.9, 1.1, 0.9, 1.1]
    rows.loc[rows.risk == "logistic", "multiplier_end"] *= 1.05
    assert verdicts(multiplier_diverges, rows)[multiplier_diverges.COURSE] == "inconclusive"


def with_nan(rows, where, column):
    """The same rows, unknown at one seed."""
    rows.loc[where & (rows.seed == 2), column] = float("nan")
    return rows


@pytest.mark.parametrize("risk", list(RESTS))
@pytest.mark.parametrize("part", ["quarter", "half", "end"])
def test_a_multiplier_that_is_not_known_is_not_said_to_rest(risk, part):
    rows = grown(RESTS)
    found = verdicts(multiplier_diverges, with_nan(rows, rows.risk == risk, f"multiplier_{part}"))
    assert found[multiplier_diverges.OCTAVE[risk]] == "inconclusive"
    assert (found[multiplier_diverges.COURSE] == "inconclusive") == (part == "end")


def test_a_multiplier_rests_only_if_it_moves_in_neither_octave():
    rows = pd.DataFrame({"multiplier_quarter": [2.0, 2.0, 2.0], "multiplier_half": [2.0, 2.0, 1.0]})
    rows["multiplier_end"] = [2.0, 3.0, 3.0]
    assert multiplier_diverges.octaves(rows).tolist() == pytest.approx([0.0, float("inf"), float("nan")], nan_ok=True)


@pytest.mark.parametrize("distance", [0.25, 1.0, 4.0])
def test_a_transport_that_is_not_known_is_not_passed_over_for_the_worst(distance):
    rows = tasks()
    where = (rows.method == "least_action") & (rows.distance == distance)
    assert verdicts(complexity_adapts, with_nan(rows, where, "transport"))[complexity_adapts.RATIO] == "inconclusive"


def test_a_training_that_diverges_ends_in_a_line():
    x, signs = below(8, 1.0, 0)
    start = torch.tensor([1.0]).double()
    with pytest.raises(Diverged, match="take a smaller rate"):
        train([net(0, blocks=1, hidden=2)], x[None], signs[None], logistic, line, start, steps=3, rate=1e300)


def test_the_exact_course_adds_the_least_risk_step_by_step():
    x, signs = below(6, 1.0, 0)
    found = courses.exact_course(x[None, :, 1], signs[None], "logistic", [1, 2])
    multiplier = torch.tensor([1.0]).double()
    for place in range(2):
        multiplier = multiplier + 0.05 * least(x[None, :, 1], signs[None], line, logistic, multiplier).risk
        assert_close(found[place], multiplier)
    assert math.isfinite(float(found.sum()))
