"""Transport-regularised transformers: the verdict on made-up courses, and the nets against torch's own layers."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.experiments.least_action import ot_transformer as statement
from regimes.experiments.least_action.ot_transformer import nets, runs
from regimes.experiments.least_action.ot_transformer.config import ARMS, LAST, LOOKS, Config

GOOD = {"vanilla": (0.5, 1.0), "deep": (0.5, 1.1), "passes": (0.5, 0.9), "steps": (0.5, 0.8), "transport": (0.4, 0.5)}


def courses(early=0.45, **changes):
    """Made-up rows: each arm falls to its best loss in the middle, rises to its final one and stays there."""
    times = [1, LOOKS // 5, LOOKS // 2, LOOKS - LAST]
    rows = []
    for arm, (best, final) in (GOOD | changes).items():
        for seed in range(6):
            wobble = 1 + 0.02 * (seed - 2.5) + 0.001 * len(arm)
            course = np.interp(np.arange(1, LOOKS + 1), times, [2.0, max(best, early), best, final])
            row = {f"test_{look}": wobble * loss for look, loss in enumerate(course, 1)}
            rows.append({"arm": arm, "seed": seed, "train_loss": 0.01, "accuracy": 0.9, "transport": 1.0} | row)
            rows[-1]["multiply_adds"] = 1.0
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in statement.judge(rows).findings}


@pytest.mark.parametrize(
    ("changes", "refuted"),
    [
        ({}, set()),
        ({"steps": (0.3, 0.45)}, {statement.STEPS}),
        ({"passes": (0.3, 0.45)}, {statement.SHARED}),
        ({"deep": (0.3, 0.45)}, {statement.DEEP}),
        ({"early": 0.6}, {statement.EQUAL}),
        ({"vanilla": (0.5, 0.55)}, {statement.SHIFT}),
        ({"vanilla": (0.3, 0.6)}, {statement.BEST, statement.EQUAL}),
        ({"vanilla": (0.3, 0.45)}, {statement.FINAL, statement.BEST, statement.EQUAL}),
    ],
)
def test_each_prediction_can_fail(changes, refuted):
    found = verdicts(courses(**changes))
    assert {name for name, verdict in found.items() if verdict == "refuted"} == refuted
    assert set(found.values()) <= {"supported", "refuted"}


def test_the_final_loss_is_no_single_look():
    rows = courses()
    before = statement.of(rows, "transport", last=True)
    rows[f"test_{LOOKS}"] *= 1 + LAST
    assert_close(torch.tensor((statement.of(rows, "transport", last=True) / before).to_list()), torch.full((6,), 2.0))
    assert set(statement.table(rows).columns) >= {"test loss after 10 %", "test loss after 100 %", "accuracy"}


def test_rows_of_some_arms_are_judged_and_drawn():
    some = courses()
    some = some[some.arm.isin(["steps", "transport"])]
    found = verdicts(some)
    assert found.pop(statement.STEPS) == "supported"
    assert set(found.values()) == {"not measured"}
    statement.draw(some)


def test_marks_of_the_figure_stand_apart_and_its_axis_has_more_than_two_labels():
    (axis,) = statement.draw(courses()).axes
    marked = [line.get_xdata()[line.get_markevery()[0] :: line.get_markevery()[1]] for line in axis.lines]
    assert len(marked) == len(ARMS)
    places = sorted(place for some in marked for place in some)
    assert min(np.diff(places)) > 100 / LOOKS  # none at the same look as another, nor at the next
    low, high = axis.get_ylim()
    assert sum(low < tick < high for tick in axis.get_yticks()) >= 3


def plain(config, arm, params, x, seed):
    """The same net of one seed, by torch's layers."""
    own = {name: value[seed] for name, value in params.items()}
    z = x @ own["embed"] + own["place"]
    transport = 0.0
    for number in range(arm.passes):
        start, f = z, z
        for block in range(config.blocks):
            key = f"{block + (config.blocks * number if arm.own_weights else 0)}."
            attention = nn.MultiheadAttention(config.width, config.heads, bias=False, batch_first=True)
            with torch.no_grad():
                attention.in_proj_weight.copy_(own[key + "attend"].T)
                attention.out_proj.weight.copy_(own[key + "project"].T)
            first = nn.functional.layer_norm(f, (config.width,)) * own[key + "first"]
            f = f + attention(first, first, first, need_weights=False)[0]
            second = nn.functional.layer_norm(f, (config.width,)) * own[key + "second"]
            f = f + nn.functional.gelu(second @ own[key + "widen"]) @ own[key + "narrow"]
        z = f
        if arm.as_steps:
            transport = transport + (f**2).mean() / arm.passes
            z = start + f / arm.passes
    z = nn.functional.layer_norm(z, (config.width,)) * own["last"]
    return z.mean(1) @ own["head"], transport


@pytest.mark.parametrize("name", list(ARMS))
def test_an_ensemble_is_the_nets_of_its_seeds(name):
    config, arm = Config(blocks=2), ARMS[name]
    params = nets.weights(config, arm, [generator(seed, 0) for seed in range(2)])
    x = torch.rand(2, 3, 8, 8, generator=generator(0, 1))
    found, transport = nets.outputs(config, arm, params, x)
    for seed in range(2):
        expected, cost = plain(config, arm, params, x[seed], seed)
        assert_close(found[seed], expected, rtol=1e-4, atol=1e-5)
        assert_close(transport[seed], torch.as_tensor(cost), rtol=1e-4, atol=1e-5)


def test_all_arms_of_a_seed_begin_with_the_same_stack():
    config = Config()
    made = {name: nets.weights(config, arm, [generator(3, 0)]) for name, arm in ARMS.items()}
    for params in made.values():
        assert_close({name: params[name] for name in made["vanilla"]}, made["vanilla"], rtol=0, atol=0)


def test_a_fifth_of_the_steps_costs_as_much_as_one_pass_in_all():
    config = Config(width=16)
    cost = {name: nets.multiply_adds(config, arm) for name, arm in ARMS.items()}
    assert cost["deep"] == cost["passes"] == cost["steps"] == cost["transport"]
    assert abs(cost["transport"] / (5 * cost["vanilla"]) - 1) < 0.05


@pytest.mark.slow
def test_seeds_trained_together_are_those_trained_alone_and_the_penalty_shortens_steps():
    config = Config(arm=("steps", "transport"), spacing=1, train=12, test=20)
    both = {name: runs.measure(config, [{"arm": name, "seed": seed} for seed in (0, 1)]) for name in config.arm}
    (alone,) = runs.measure(config, [{"arm": "transport", "seed": 1}])
    assert alone == pytest.approx(both["transport"][1], rel=1e-3)
    later = config.model_copy(update={"first_seed": 1})
    assert runs.measure(later, [{"arm": "transport", "seed": 0}]) == [alone]
    assert both["transport"][0]["transport"] < both["steps"][0]["transport"]


def test_training_and_test_images_are_disjoint_and_of_each_seed():
    config = Config(train=40, test=60)
    x, _, x_test, _ = runs.samples(config, 0)
    other = runs.samples(config, 1)[0]
    assert not any(bool((image == x_test).flatten(1).all(1).any()) for image in x)
    assert not torch.equal(x, other)


@pytest.mark.parametrize(
    ("changes", "message"), [({"width": 9}, "not divisible"), ({"batch": 31}, "larger than train")]
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)
