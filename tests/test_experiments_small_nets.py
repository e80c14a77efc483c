from itertools import pairwise

import pandas as pd
import pytest
import torch
from panels import colours
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from regimes.experiments.least_action import narrower_intervals, regular_map
from regimes.experiments.least_action.narrower_intervals.ratios import largest, ratio
from regimes.experiments.least_action.small_nets import contrasts, course, maps
from regimes.experiments.least_action.small_nets.settings import ARMS, CONTROL, LAP, VANILLA, SmallNets
from regimes.lab.statistics import pitman_morgan

pytestmark = pytest.mark.slow
SMALL = SmallNets(blocks=2, rate=0.002, test_size=20, steps=3, most_steps=9, multiplier=20.0, every=2, equal_risk=1.2)
STARTS = [course.Start(0, 0.5), course.Start(1, 0.3)]


def verdicts(experiment, rows):
    return {finding.quantity: finding.verdict for finding in experiment.judge(rows).findings}


@pytest.fixture(scope="module")
def trained():
    """Two nets of each arm, trained side by side."""
    return {arm: course.course(SMALL, arm, 30, 6, STARTS) for arm in ARMS}


def alone(arm, start, steps):
    """The same written out for one net: its weights, risks and λ before each step."""
    train, _ = course.samples(SMALL, 30, [start.seed])
    x, labels = train.x[0], train.labels[0]
    net = course.fresh(SMALL, tuple(x.shape[1:]), 10, 6, start)
    velocity = [torch.zeros_like(weight) for weight in net.parameters()]
    multiplier, seen = 20.0, []
    for step in range(steps + 1):
        trace = net(x, trace=True)
        risk = cross_entropy(trace.output, labels)
        if step % 2 == 0:
            multiplier += risk.item()
        weights = {name: value.detach().clone() for name, value in net.state_dict().items()}
        seen.append((weights, risk.item(), multiplier))
        loss = risk if arm == VANILLA else multiplier * risk
        if arm == LAP:
            loss = loss + sum(one.square().sum(1).mean() for one in trace.flat_steps)
        slopes = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for weight, slope, moved in zip(net.parameters(), slopes, velocity, strict=True):
                moved.mul_(0.9).add_(slope + 1e-4 * weight)
                weight.sub_(0.002 * moved)
    return seen


@pytest.mark.parametrize("arm", ARMS)
def test_nets_side_by_side_are_trained_as_alone(arm, trained):
    found = trained[arm]
    for number, start in enumerate(STARTS):
        seen = alone(arm, start, 9)
        weights, _, multiplier = seen[3]
        assert_close(
            {name.split(".", 1)[1]: value[number] for name, value in found.protocol.weights.items()},
            weights,
            rtol=1e-4,
            atol=1e-5,
        )
        if arm != VANILLA:
            assert float(found.protocol.multiplier[number]) == pytest.approx(multiplier, rel=1e-5)


def test_equal_risk_is_the_first_moment_at_which_a_net_is_there(trained):
    reached = 0
    for arm in ARMS:
        for number, start in enumerate(STARTS):
            seen, equal = alone(arm, start, 9), trained[arm].equal
            there = [step for step, (_, risk, _) in enumerate(seen) if risk <= 1.2]
            assert bool(equal.reached[number]) == bool(there)
            step = there[0] if there else 9
            assert int(equal.steps[number]) == step
            own = {name.split(".", 1)[1]: value[number] for name, value in equal.weights.items()}
            assert_close(own, seen[step][0], rtol=1e-4, atol=1e-5)
            reached += bool(there)
    assert 0 < reached < 6  # both kinds were seen


@torch.no_grad()
def test_rows_are_those_of_each_net(trained):
    found = trained[CONTROL]
    for number, row in enumerate(course.rows_of(found)):
        found.nets.load_state_dict(found.equal.weights)
        trace = found.nets.member(number)(found.test.x[number], trace=True)
        right = trace.output.argmax(1) == found.test.labels[number]
        assert row["equal_accuracy"] == pytest.approx(float(right.double().mean()))
        assert row["equal_risk"] == pytest.approx(float(cross_entropy(trace.output, found.test.labels[number])))
        (path,) = trace.paths
        moved = [after - before for before, after in pairwise(path)]
        assert row["equal_transport"] == pytest.approx(float(sum(one.square().sum() for one in moved)) / 20, rel=1e-4)
        sizes = [one.square().sum(1) / state.square().sum(1) for one, state in zip(moved, path, strict=False)]
        assert row["equal_relative"] == pytest.approx(float(sum(one.sum() for one in sizes)) / 20, rel=1e-4)


def test_a_map_is_differentiated_at_no_more_points_than_there_are():
    assert regular_map.Config(points=5, test_size=5).points == 5
    with pytest.raises(ValueError, match="points 20 is more than test_size 1"):
        regular_map.Config(test_size=1)


def test_a_linear_map_stretches_by_its_singular_values():
    matrix = torch.diag(torch.tensor([3.0, 1.0, 0.25])) @ torch.linalg.qr(torch.randn(3, 3)).Q
    most, least = maps.stretches(lambda z: z @ matrix.T + z.new_ones(3), torch.randn(5, 3))
    assert_close(most, torch.full((5,), 3.0).double(), rtol=1e-5, atol=0)
    assert_close(least, torch.full((5,), 0.25).double(), rtol=1e-5, atol=0)


def test_a_net_whose_blocks_do_nothing_stretches_nothing(trained):
    found = trained[CONTROL]
    still = {name: 0 * value if "segments" in name else value for name, value in found.equal.weights.items()}
    for number, values in enumerate(maps.regular(found, still, 10)):
        encoder = found.equal.weights["architecture.encoder.1.weight"][number]
        assert values.pop("encoder") == pytest.approx(float(torch.linalg.svdvals(encoder)[0]))
        assert list(values.values()) == pytest.approx([1.0] * 6)


def test_noise_of_size_zero_costs_nothing_and_is_the_same_for_all_arms(trained):
    found = trained[CONTROL]
    clean = course.looked_at(found.nets, found.equal.weights, found.test)["accuracy"]
    assert_close(maps.noisy(found, found.equal.weights, [0, 1], 0.0), clean)
    first, second = (maps.noisy(trained[arm], found.equal.weights, [0, 1], 2.0) for arm in (LAP, CONTROL))
    assert_close(first, second)
    assert not torch.equal(first, clean)


def regular(stretch=0.5, inverse=0.5, lost=-4.0, other=CONTROL, away=None):
    """Made-up rows of eight seeds: least action against the two others, of which all is well with one."""
    rows = []
    for seed in range(8):
        wobble = 1 + 0.01 * (seed - 3.5)
        for arm in ARMS:
            own = arm == other
            row = {"equal_stretch": 2.0, "equal_inverse_stretch": 2.0, "equal_noisy_1": 0.6, "equal_accuracy": 0.8}
            row |= {"equal_steps": 9.0, "equal_train_risk": 0.1}
            if arm != LAP:
                row["equal_stretch"] = wobble * 2 / (stretch if own else 0.5)
                row["equal_inverse_stretch"] = wobble * 2 / (inverse if own else 0.5)
                row["equal_noisy_1"] = 0.6 + wobble * (lost if own else -4.0) / 100
            more = dict.fromkeys(("equal_encoder", "equal_pair_stretch", "equal_pair_inverse_stretch"), 1.0)
            rows.append({"arm": arm, "seed": seed, "reached": 1.0, "equal_transport": 1.0, **row, **more})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("other", [VANILLA, CONTROL])
@pytest.mark.parametrize(
    ("change", "quantities"),
    [
        ({"stretch": 1.5}, regular_map.STRETCH),
        ({"inverse": 1.5}, regular_map.INVERSE),
        ({"lost": 3.0}, regular_map.NOISE),
    ],
)
def test_each_prediction_on_regular_maps_can_fail_alone(change, quantities, other):
    assert set(verdicts(regular_map, regular()).values()) == {"supported"}
    found = verdicts(regular_map, regular(**change, other=other))
    assert found.pop(quantities[other]) == "refuted"
    assert set(found.values()) == {"supported"}


def test_nets_that_did_not_reach_equal_risk_are_left_out():
    rows = regular()
    rows.loc[(rows.arm == CONTROL) & (rows.seed < 2), ["reached", "equal_stretch"]] = [0.0, 1e9]
    first, second = contrasts.pairs(rows, "equal_stretch", CONTROL)
    assert list(first.index) == list(second.index) == [2, 3, 4, 5, 6, 7]
    assert set(verdicts(regular_map, rows).values()) == {"supported"}
    drawn = colours(regular_map.draw(rows))
    assert (len(drawn), max(map(len, drawn.values()))) == (3, 1)  # a name has one colour in all panels
    for name, color in colours(narrower_intervals.draw(accuracies())).items():
        assert drawn[name] == color  # and in both figures
    lines = regular_map.table(rows).set_index("arm")
    assert list(lines["nets"]) == [8, 8, 6]
    assert lines["stretch of T"].to_dict() == pytest.approx(
        {"plain training": 4, "least action": 2, "control": 4}, rel=0.01
    )
    assert regular_map.judge(rows).merits["share of nets that reached equal risk, control"] == 0.75


def test_the_figure_of_regular_maps_tells_the_largest_stretch_that_its_panels_do_not_show():
    rows = regular()
    rows.loc[rows.arm == LAP, "equal_pair_inverse_stretch"] = 0.97
    said = " ".join(regular_map.draw(rows).get_supxlabel().split())
    assert "T 1.00 (plain training) and 1.00 (control)" in said
    assert "T⁻¹ 0.97 (plain training) and 0.97 (control)" in said
    assert "Largest stretch" not in regular_map.draw(rows[rows.arm == LAP]).get_supxlabel()


def test_a_table_of_one_arm_is_judged_and_drawn():
    rows = regular()
    alone = rows[rows.arm == LAP]
    assert set(verdicts(regular_map, alone).values()) == {"not measured"}
    regular_map.draw(alone)


def accuracies(ratio=0.3, column="accuracy", other=CONTROL, size=300):
    """Made-up rows: the variance of least action is 0.3 of the others', but of one comparison at one size."""
    draw, rows = torch.Generator().manual_seed(0), []
    for n in (100, size):
        values = torch.linalg.qr(torch.randn(30, 4, generator=draw)).Q
        values = values - values.mean(0)
        for seed in range(30):
            for number, arm in enumerate(ARMS):
                row = {"train_size": n, "arm": arm, "seed": seed, "reached": 1.0}
                for name in ("accuracy", "equal_accuracy"):
                    wide = 1.0 if arm == LAP else (1 / 0.3) ** 0.5
                    if (n, name, arm) == (size, column, other):
                        wide = (1 / ratio) ** 0.5
                    row[name] = 0.7 + 0.1 * wide * float(values[seed, number])
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("column", ["accuracy", "equal_accuracy"])
@pytest.mark.parametrize("other", [VANILLA, CONTROL])
def test_each_prediction_on_variances_can_fail_alone_at_any_size(column, other):
    assert set(verdicts(narrower_intervals, accuracies()).values()) == {"supported"}
    for size in (50, 300):
        rows = accuracies(ratio=5.0, column=column, other=other, size=size)
        found = verdicts(narrower_intervals, rows)
        assert found.pop(narrower_intervals.RATIO[column, other]) == "refuted"
        assert set(found.values()) == {"supported"}


def test_published_is_what_the_talk_compares():
    origins = {one.quantity: one.origin for one in narrower_intervals.STATEMENT.predictions}
    published = narrower_intervals.RATIO["accuracy", VANILLA]
    assert [quantity for quantity, origin in origins.items() if origin == "published"] == [published]


def test_the_interval_at_the_largest_ratio_is_for_all_sizes_together():
    rows = accuracies(ratio=0.9)
    size, found = largest(rows, "accuracy", CONTROL)
    assert size == 300
    assert found.interval == ratio(rows[rows.train_size == 300], "accuracy", CONTROL).estimate.at(0.975)


def test_the_table_of_variances_has_a_line_for_each_comparison():
    rows = accuracies()
    lines = narrower_intervals.table(rows)
    assert len(lines) == 8
    first, second = (rows[(rows.train_size == 100) & (rows.arm == arm)].accuracy.to_numpy() for arm in (LAP, VANILLA))
    line = lines.iloc[0]
    assert line["ratio of variances"] == pytest.approx(first.var() / second.var())
    assert line["p, Pitman-Morgan"] == pytest.approx(pitman_morgan(first, second)[1])
    assert line["least action, deviation, points"] == pytest.approx(100 * first.std(ddof=1))
    narrower_intervals.draw(rows)


def test_an_arm_that_never_came_to_equal_risk_has_no_line_there():
    rows = accuracies()
    rows.loc[rows.arm == CONTROL, "reached"] = 0.0
    assert len(narrower_intervals.table(rows)) == 6
    found = verdicts(narrower_intervals, rows)
    assert found.pop(narrower_intervals.RATIO["equal_accuracy", CONTROL]) == "not measured"
    assert set(found.values()) == {"supported"}
    narrower_intervals.draw(rows)


def test_two_seeds_have_no_ratio_of_variances():
    rows = accuracies()
    few = rows[rows.seed < 2]
    assert set(verdicts(narrower_intervals, few).values()) == {"not measured"}
    narrower_intervals.table(few)
    narrower_intervals.draw(few)
