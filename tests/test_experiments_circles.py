import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.experiments.least_action import circles
from regimes.experiments.least_action.circles import outcome, protocol
from regimes.lab.config import load
from regimes.training.objectives import Plain
from regimes.transport.energy import transport_cost
from regimes.transport.pairing import exact_gap

TINY = circles.Config(epochs=1, blocks=2, batch=200)


def table(cost=0.2, relative=-0.05, lost=-0.2, straight=0.3, accuracy=0.0, wild=1e6, tamed=1e-4):
    """Runs of four arms and five seeds; the numbers are arm 4 against arm 3, arm 2 over arm 1, arm 3 over arm 2."""
    rows = []
    for seed in range(5):
        wobble = 1 + 0.01 * seed
        plain = {"relative_gap": 0.1, "lost_covariance": 0.5, "straightness": 0.5, "test_accuracy": 0.99}
        changes = {"relative_gap": relative, "lost_covariance": lost, "straightness": straight}
        changes["test_accuracy"] = accuracy
        changed = {name: value + changes[name] * wobble for name, value in plain.items()}
        costs = (100.0, 100.0 * wild, 100.0 * wild * tamed, 100.0 * wild * tamed * cost * wobble)
        for arm, transport in zip(protocol.ARMS, costs, strict=True):
            figures = changed if arm == "normal_bn_transport" else plain
            common = {"arm": arm, "seed": seed, "kind": "run", "stopped": True, "least": 10.0}
            rows.append({**common, "transport": transport, "gap": 10 * figures["relative_gap"], **figures})
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in circles.judge(rows).findings}


def test_a_penalty_that_tames_the_map_supports_the_statement():
    assert circles.judge(table()).verdict == "supported"


@pytest.mark.parametrize(("change", "quantity"), [
    ({"cost": 3.0}, circles.COST),
    ({"relative": 0.1}, circles.RELATIVE),
    ({"lost": 0.1}, circles.LOST),
    ({"straight": -0.1}, circles.STRAIGHT),
    ({"accuracy": -0.2}, circles.ACCURACY),
    ({"wild": 10.0, "tamed": 1e-4}, circles.WILD),
    ({"tamed": 0.5}, circles.TAMED),
])  # fmt: skip
def test_a_table_that_breaks_one_prediction_refutes_it_alone(change, quantity):
    found = verdicts(table(**change))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}


def test_arms_are_paired_by_seed_and_not_by_place():
    rows = table()
    assert verdicts(rows.sample(frac=1, random_state=0)) == verdicts(rows)
    assert circles.judge(rows.sample(frac=1, random_state=0)).merits == pytest.approx(circles.judge(rows).merits)


def test_ratios_are_geometric_means_the_right_way_round():
    rows = table()
    for arm, factor in (("normal_bn_transport", 0.5), ("normal_bn", 1.0)):
        for seed in range(5):
            rows.loc[(rows.arm == arm) & (rows.seed == seed), "transport"] = (
                40 * factor * (2**seed if factor < 1 else 1)
            )
            rows.loc[(rows.arm == arm) & (rows.seed == seed), ["gap", "stopped"]] = [8 * factor, seed == 0]
    judged = circles.judge(rows)
    found = {finding.quantity: finding.value for finding in judged.findings}
    assert found[circles.COST] == pytest.approx(0.5 * 2**2)
    name = "OT gap with the penalty / without, geometric mean"
    assert judged.merits[name] == pytest.approx(0.5)
    assert judged.merits[f"{name}, 95 % from"] <= 0.5 <= judged.merits[f"{name}, to"]
    name = "normal_bn_transport: transport cost over the least possible, geometric mean"
    assert judged.merits[name] == pytest.approx(20 * 2**2 / 10)
    assert judged.merits["normal_bn: runs stopped by perfect accuracy"] == pytest.approx(0.2)


def test_the_cheapest_right_map_is_that_of_the_first_input_kept():
    angles = torch.arange(6).double()
    x = torch.cat([torch.stack([angles.cos(), angles.sin()], 1), 0.3 * torch.stack([angles.sin(), angles.cos()], 1)])
    labels = torch.tensor([0] * 6 + [1] * 6)
    sizes = {(0, "kaiming", 0): 1.0, (0, "normal", 0): 9.0, (0, "kaiming", 3): 8.0, (1, "kaiming", 0): 7.0}
    clouds = [
        {"kind": "cloud", "seed": seed, "arm": arm, "block": block, "x": size * a, "y": size * b, "label": label}
        for (seed, arm, block), size in sizes.items()
        for (a, b), label in zip(x.tolist(), labels.tolist(), strict=True)
    ]
    goal = outcome.cheapest_map(x, labels)
    gap = exact_gap(x, goal)
    merits = circles.judge(pd.concat([table(), pd.DataFrame(clouds)])).merits
    assert merits["relative OT gap of the cheapest right map"] == pytest.approx(gap.relative_gap)
    lost = outcome.lost_covariance(x, goal, gap.gap)
    assert merits["share of covariance lost by the cheapest right map"] == pytest.approx(lost)
    assert lost > 0


def test_an_undefined_figure_leaves_its_prediction_open():
    rows = table()
    rows.loc[(rows.seed == 0) & (rows.arm == "normal_bn"), "relative_gap"] = math.nan
    assert verdicts(rows)[circles.RELATIVE] == "inconclusive"


def test_the_penalty_is_one_norm_over_the_whole_batch_neither_squared_nor_averaged():
    steps = [torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[6.0, 8.0], [0.0, 0.0]])]
    assert_close(transport_cost(steps, p=1.0, convention=protocol.frobenius), torch.tensor(15.0))
    twice = [torch.cat([step, step]) for step in steps]
    assert_close(transport_cost(twice, p=1.0, convention=protocol.frobenius), torch.tensor(15.0 * math.sqrt(2)))


def test_the_objective_multiplies_the_risk_and_grows_by_the_risk_after_the_step():
    objective = protocol.objective(TINY, "normal_bn_transport")
    trace = protocol.net(TINY, "normal_bn_transport", 0)(torch.ones(3, 2).double(), trace=True)
    loss = objective(trace, torch.zeros(3).long())
    assert_close(loss.transport, sum(step.detach().norm() for step in trace.flat_steps))
    assert_close(loss.value.detach(), 0.1 * loss.risk + loss.transport)
    for step in range(6):
        if step > 0:
            objective(trace, torch.zeros(3).long())
        objective.after_step(lambda step=step: torch.tensor(10.0 + step), lambda: pytest.fail("the whole risk"))
    assert_close(objective.multiplier, torch.tensor(0.1 + 0.1 * 14, dtype=torch.float64))  # the fifth step
    for arm in protocol.ARMS[:3]:
        assert isinstance(protocol.objective(TINY, arm), Plain)


def test_the_classifier_separates_at_the_line_and_is_not_trained():
    trained = protocol.train(TINY, "kaiming", 0)
    head = trained.model.head
    z = torch.tensor([[-10.1, -10.0], [-9.9, -10.0], [0.0, -21.0], [0.0, 0.0]]).double()
    assert head(z).argmax(1).tolist() == [1, 0, 1, 0]
    assert head.weight.tolist() == [[1, 1], [0, 0]]
    assert head.bias.tolist() == [20, 0]


def linear_parameters(net, *names):
    layers = [module for module in net.segments.modules() if isinstance(module, torch.nn.Linear)]
    return torch.cat([getattr(layer, name).detach().flatten() for layer in layers for name in names])


def test_the_arms_of_a_seed_start_from_the_same_weights():
    nets = {arm: protocol.net(TINY, arm, 3) for arm in protocol.ARMS}
    linear = {arm: linear_parameters(net, "weight", "bias") for arm, net in nets.items()}
    assert torch.equal(linear["normal"], linear["normal_bn"])
    assert torch.equal(linear["normal"], linear["normal_bn_transport"])
    kinds = {arm: any(isinstance(m, torch.nn.BatchNorm1d) for m in net.modules()) for arm, net in nets.items()}
    assert kinds == {"kaiming": False, "normal": False, "normal_bn": True, "normal_bn_transport": True}


@pytest.mark.slow
def test_the_wild_law_has_deviation_five_in_weights_and_biases():
    wild, default = (protocol.net(circles.Config(blocks=400), arm, 0) for arm in ("normal", "kaiming"))
    for net, name, deviation in ((wild, "weight", 5), (wild, "bias", 5), (default, "weight", 1)):
        drawn = linear_parameters(net, name)
        assert abs(drawn.std() / deviation - 1) < 5 / math.sqrt(2 * len(drawn))  # five standard errors
    assert not linear_parameters(default, "bias").any()


@pytest.mark.parametrize(("accuracies", "epochs", "stopped"), [
    ([1, 1, 1, 1], 3, True),
    ([1, 1, 0.5, 1, 1, 1, 0], 6, True),
    ([1, 1, 0.5, 1, 1, 0.5], 6, False),
])  # fmt: skip
def test_training_stops_after_three_perfect_epochs_in_a_row(monkeypatch, accuracies, epochs, stopped):
    train = iter(accuracies)
    monkeypatch.setattr(protocol, "accuracy", lambda model, data, part: next(train) if part is data.train else 1.0)
    config = circles.Config(epochs=6, blocks=1, batch=400)
    trained = protocol.train(config, "kaiming", 0)
    assert (trained.epochs, trained.stopped) == (epochs, stopped)


def test_perfect_test_accuracy_alone_does_not_stop(monkeypatch):
    monkeypatch.setattr(protocol, "accuracy", lambda model, data, part: 0.9 if part is data.train else 1.0)
    assert not protocol.train(circles.Config(epochs=4, blocks=1, batch=400), "kaiming", 0).stopped


def test_the_least_cost_is_that_of_straight_even_walks_to_the_line():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, -1.0], [-20.0, -20.0]]).double()
    labels = torch.tensor([1, 0, 1, 0])
    # Only wrongly classified points have to go: 20/√2, 22/√2, and −20/√2 back.
    needed = (20**2 / 2 + 22**2 / 2 + 20**2 / 2) / 4
    assert outcome.least_cost(x, labels, 1) == pytest.approx(needed)
    assert outcome.least_cost(x, labels, 5) == pytest.approx(needed / 5)
    goal = torch.tensor([[-10.0, -10.0], [1.0, 1.0], [-8.0, -12.0], [-10.0, -10.0]]).double()
    assert_close(outcome.cheapest_map(x, labels), goal)
    steps = [(goal - x) / 5] * 5
    assert float(transport_cost(steps)) == pytest.approx(needed / 5)


def test_lost_covariance_is_zero_for_optimal_pairings_and_blind_to_shifts_and_dilations():
    x = torch.randn(60, 2, dtype=torch.float64, generator=generator(1))
    turn = torch.tensor([[math.cos(1.0), -math.sin(1.0)], [math.sin(1.0), math.cos(1.0)]]).double()

    def lost(y):
        return outcome.lost_covariance(x, y, exact_gap(x, y).gap)

    assert lost(3 * x + 100) == pytest.approx(0, abs=1e-9)
    turned = lost(x @ turn.T)
    assert 0.1 < turned < 0.9
    assert lost(7 * x @ turn.T - 50) == pytest.approx(turned, rel=1e-6)
    shuffled = torch.stack([x[torch.randperm(60, generator=generator(2, k))] for k in range(16)])
    assert sum(map(lost, shuffled)) / 16 == pytest.approx(1, abs=5 * 0.1 / 4)  # std 0.1 a shuffle
    assert math.isnan(outcome.lost_covariance(x, x, None))


def test_slopes_of_the_loss_are_those_of_each_point_alone():
    model = protocol.net(TINY, "kaiming", 0)
    x = torch.randn(5, 2, dtype=torch.float64, generator=generator(4)).requires_grad_()
    labels = torch.tensor([0, 1, 1, 0, 1])
    slopes = outcome._loss_slopes(model(x, trace=True), labels)
    assert len(slopes) == 2
    for i in range(5):
        one = x[i : i + 1].detach().requires_grad_()
        torch.nn.functional.cross_entropy(model(one), labels[i : i + 1]).backward()
        assert_close(slopes[0][i], one.grad[0])


@pytest.mark.slow
def test_rows_of_a_run_agree_with_its_path():
    trained = protocol.train(TINY, "normal_bn", 0)
    rows = outcome.rows_of(trained, clouds=True)
    run = pd.Series(rows[0])
    blocks = pd.DataFrame([row for row in rows if row["kind"] == "block"])
    clouds = pd.DataFrame([row for row in rows if row["kind"] == "cloud"])
    with torch.no_grad():
        path = torch.stack(trained.model(trained.data.test.x, trace=True).paths[0])
    squares = (path[1:] - path[:-1]).square().sum(2)
    assert float(run.transport) == pytest.approx(float(squares.mean(1).sum()))
    assert blocks.displacement.astype(float).tolist() == pytest.approx(squares.sqrt().mean(1).tolist())
    assert (blocks.w1 <= blocks.displacement.astype(float) * (1 + 1e-9)).all()
    assert run.step_over_w1 >= 1 - 1e-9
    assert run.transport >= run.map_cost / 2
    assert run.relative_gap == pytest.approx(run.gap / float(run.map_cost))
    assert sorted(clouds.block.unique()) == [0, 1, 2]
    last = clouds[clouds.block == 2]
    assert_close(torch.tensor(last[["x", "y"]].to_numpy()), path[-1], rtol=1e-4, atol=0)  # five digits are kept
    assert last.label.tolist() == trained.data.test.labels.tolist()
    assert {row["kind"] for row in outcome.rows_of(trained, clouds=False)} == {"run", "block"}


def test_the_configuration_file_is_the_published_protocol():
    config = load(circles.Config, "configs/circles.yaml")
    assert (config.epochs, config.blocks, config.batch, config.rate, config.deviation) == (100, 9, 10, 0.01, 5.0)
    assert (config.multiplier, config.growth, config.every) == (0.1, 0.1, 5)
    assert config.arm == protocol.ARMS


def with_clouds(rows):
    """The runs with a small input and output cloud of the first seed of each arm."""
    points = [(0.9, 0.1, 0), (-0.8, 0.6, 0), (0.2, 0.1, 1), (-0.1, -0.3, 1)]
    clouds = [
        {"arm": arm, "seed": 0, "kind": "cloud", "block": block, "x": x - 10 * block * label, "y": y, "label": label}
        for arm in protocol.ARMS
        for block in (0, 1)
        for x, y, label in points
    ]
    return pd.concat([rows, pd.DataFrame(clouds)])


def test_figure_and_table_show_every_arm():
    rows = with_clouds(table(wild=1e3, tamed=1e-3))
    above, below = circles.draw(rows).subfigs
    assert [ax.get_title() for ax in above.axes[:2]] == ["input", "after block 1"]
    assert len(above.axes) == 4 * 2
    assert [ax.get_title() for ax in below.axes[1:4]] == ["OT gap of T", "OT gap / cost of T", "covariance lost"]
    shown = circles.table(rows)
    assert shown["medians of the arm"].tolist() == list(protocol.ARMS)
    assert {"OT gap", "OT gap, 95 %"} <= set(shown)
    merits = circles.judge(rows).merits
    assert 0 < merits["relative OT gap of the cheapest right map"] < 0.2


@pytest.mark.parametrize(("wild", "arms"), [(1e3, 4), (1e6, 3)])
def test_the_gap_over_a_huge_cost_is_not_drawn(wild, arms):
    _, below = circles.draw(with_clouds(table(wild=wild, tamed=1 / wild))).subfigs
    relative = below.axes[2]
    assert sum(line.get_color() == "black" for line in relative.lines) == arms  # a median an arm
    assert [text.get_text() for text in relative.texts] == ["left out"] * (4 - arms)


def test_seeds_without_kept_clouds_have_a_figure_that_says_so():
    above, below = circles.draw(table()).subfigs
    assert [text.get_text() for text in above.texts] == ["no clouds were kept of these seeds"]
    assert len(below.axes) == 5
