from pathlib import Path

import pandas as pd
import pytest

from regimes.experiments.least_action import depth_without_batch_norm as depth
from regimes.experiments.least_action.depth_without_batch_norm.config import course
from regimes.experiments.least_action.low_data.arms import read_arm
from regimes.experiments.least_action.low_data.comparison import DIVIDED, VANILLA
from regimes.experiments.least_action.low_data.course import data, fresh_model
from regimes.lab.config import load
from regimes.models.residual import parameter_count

CONFIG = Path(__file__).parent.parent / "configs" / "depth_without_batch_norm.yaml"
TUNED = ("vanilla", True)
ACCURACY = {  # percent at depths 3, 9, 15
    "vanilla": (70.0, 60.0, 40.0), "lap_divided": (70.0, 68.0, 65.0),
    "vanilla_lr0.01": (60.0, 62.0, 55.0), "lap_divided_lr0.01": (50.0, 51.0, 52.0),
    **{f"{method}_lr{rate}": (11.0, 11.0, 11.0) for method in ("vanilla", "lap_divided") for rate in (0.001, 1.0)},
}  # fmt: skip
TRAIN = load(depth.Config, CONFIG).course().train


def rows(**changes):
    """Made-up rows of three seeds; a seed moves all alike, the deepest nets of vanilla a little more."""
    return pd.DataFrame([
        {
            "seed": seed, "depth": deep, "block": block, "arm": arm, "method": arm.split("_lr")[0], "train_size": 100,
            "learning_rate": read_arm(arm, TRAIN).train.lr, "transport": 0.1, "train_accuracy": 1.0, "train_risk": 0.1,
            **dict.fromkeys(
                ("paper", "held_out", "validation"),
                (accuracy + 3 * seed + 0.1 * seed * (deep == 15 and arm.startswith("vanilla"))) / 100,
            ),
        }
        for seed in range(3) for block in depth.BLOCKS for arm, three in (ACCURACY | changes).items()
        for deep, accuracy in zip((3, 9, 15), three, strict=True)
    ])  # fmt: skip


def verdicts(made):
    return {finding.quantity: finding.verdict for finding in depth.judge(made).findings}


def test_a_vanilla_that_falls_more_supports_the_statement():
    assert depth.judge(rows()).verdict == "supported"


def test_a_lap_that_falls_more_refutes_it_for_both_blocks():
    found = verdicts(rows(lap_divided=(70.0, 50.0, 20.0), **{"lap_divided_lr0.01": (60.0, 40.0, 10.0)}))
    assert {name for name, verdict in found.items() if verdict == "refuted"} == {
        depth.spared(block, key) for block in depth.BLOCKS for key in (VANILLA, TUNED)
    }


def test_a_vanilla_that_gains_with_depth_refutes_its_fall():
    found = verdicts(rows(vanilla=(40.0, 60.0, 70.0)))
    assert found[depth.fall("two_convolutions", VANILLA)] == "refuted"


def test_falls_are_paired_by_seed_and_tuned_at_each_depth():
    made = rows()
    falls = depth.Falls.read(made)
    assert falls.by_seed("two_convolutions", VANILLA).to_dict() == pytest.approx({0: 30.0, 1: 29.9, 2: 29.8})
    assert falls.by_seed("two_convolutions", TUNED).to_dict() == pytest.approx({0: 15.0, 1: 14.9, 2: 14.8})
    merits = depth.judge(made).merits
    assert merits[depth.spared("last_convolution", VANILLA)] == pytest.approx(29.9 - 5.0)
    assert merits[depth.fall("last_convolution", DIVIDED)] == pytest.approx(5.0)
    assert merits["two_convolutions, depth 15: LAP, divided − vanilla, points"] == pytest.approx(24.9)


@pytest.mark.parametrize(
    ("arms", "unknown"),
    [
        ({"vanilla_lr1.0": (80.0, 80.0, 80.0)}, {depth.fall, depth.spared}),
        ({"lap_divided_lr0.001": (11.0, 11.0, 80.0)}, {depth.spared}),
        ({"lap_divided_lr0.001": (11.0, 80.0, 11.0)}, set()),  # a depth that no fall speaks of
        ({"lap_divided_lr0.1_multiplier100": (11.0, 11.0, 80.0)}, {depth.spared}),
        ({f"lap_divided_lr0.1_multiplier{power}": (80.0 + 2 * (power == 100),) * 3 for power in (100, 10000)}, set()),
    ],
)
def test_where_a_tuned_method_is_best_at_an_end_of_what_was_run_its_fall_is_not_known(arms, unknown):
    judged = depth.judge(rows(**arms))
    assert {one.quantity for one in judged.findings if one.reason == "the number is not known"} == {
        words(block, TUNED) for block in depth.BLOCKS for words in unknown
    }
    assert (depth.AT_END in judged.notes) == bool(unknown)
    assert {depth.spared(block, TUNED) for block in depth.BLOCKS} <= set(judged.merits)


def test_a_block_that_was_not_run_is_not_measured():
    some = rows()
    found = verdicts(some[some.block == "two_convolutions"])
    assert found[depth.fall("two_convolutions", VANILLA)] == "supported"
    assert found[depth.fall("last_convolution", VANILLA)] == "not measured"


@pytest.mark.parametrize("deep", [2, 5])
def test_the_two_blocks_have_two_convolutions_and_one_and_no_batch_norm(deep):
    config = depth.Config()
    digits = data("digits", 0, 20, 0, (10, 10), None)
    counts, kinds = {}, {}
    for block in depth.BLOCKS:
        model = fresh_model(course(config, deep, block), digits, 0)
        counts[block] = parameter_count(model)
        kinds[block] = [type(layer).__name__ for layer in model.segments[0].blocks[1].residual]
    assert kinds["two_convolutions"] == ["ReLU", "Conv2d", "ReLU", "Conv2d"]
    assert kinds["last_convolution"] == ["ReLU", "Conv2d"]
    encoder = (1 * 9 * 2 + 2) + (2 * 25 * 4 + 4)
    head = (4 * 4 * 4 * 100 + 100) + 200 + (100 * 10 + 10)
    assert counts["two_convolutions"] == encoder + deep * 2 * 4 * 9 * 4 + head
    assert counts["last_convolution"] == encoder + deep * 4 * 9 * 4 + head


def test_the_size_that_was_run_keeps_the_shares_of_the_schedule():
    config = load(depth.Config, CONFIG)
    train = course(config, 9, "last_convolution").train
    assert (train.lr, train.init, train.gain, train.augment) == (0.1, "kaiming", 1.0, True)
    assert [round(300 * mark / train.epochs) for mark in train.milestones] == pytest.approx([150, 225, 250], abs=10)
    assert train.arch_options == {"filters": 8, "blocks": 9, "batch_norm": False, "compat": True}


def test_the_table_and_the_figure_show_both_blocks_and_rates():
    shown = depth.table(rows()).set_index(["block", "depth", "method"])
    assert shown.loc[("last_convolution", 15, "vanilla, tuned"), ["learning rate", "seeds"]].tolist() == [0.01, 3]
    assert shown.loc[("two_convolutions", 3, "LAP, divided"), "held-out"] == pytest.approx(73.0)
    made = depth.draw(rows())
    left, right = made.axes
    assert {left.get_title(), right.get_title()} == set(depth.BLOCKS.values())
    assert {text.get_text() for text in made.legends[0].get_texts()} == {
        "vanilla", "LAP, divided", "vanilla, tuned", "LAP, divided, tuned", "guessing one of ten",
    }  # fmt: skip


def test_the_penalty_is_tuned_as_the_rate_is_and_the_table_names_the_arm():
    shown = depth.table(rows(**{"lap_divided_lr0.01_multiplier100": (71.0, 72.0, 73.0)}))
    shown = shown.set_index(["block", "depth", "method"])
    tuned = shown.loc[("last_convolution", 15, "LAP, divided, tuned"), ["arm", "held-out"]]
    assert tuned.tolist() == ["lap_divided_lr0.01_multiplier100", pytest.approx(76.0)]


def test_the_run_has_four_rates_and_five_penalties_and_may_take_up_one_with_fewer_arms():
    config = load(depth.Config, CONFIG)
    trained = [read_arm(arm, course(config, 2, "two_convolutions").train).train for arm in config.arm]
    assert [train.multiplier for train in trained if train.lap and train.lr == 0.01] == [1.0, 1e2, 1e4, 1e6, 1e8]
    for lap in (True, False):
        assert {train.lr for train in trained if train.lap == lap} == {0.1, 0.03, 0.01, 0.003}
    assert "arm" in depth.PLAN


def test_the_figure_names_no_method_that_was_not_run():
    some = rows()
    made = depth.draw(some[some.arm == "lap_divided"])
    assert {text.get_text() for text in made.legends[0].get_texts()} == {"guessing one of ten", "LAP, divided"}


def test_the_figure_crosses_what_has_diverged_and_says_how_many_seeds():
    some = rows()
    lost = (some.block == "last_convolution") & (some.depth == 9) & (some.arm == "vanilla") & (some.seed > 0)
    some.loc[lost, "train_risk"] = float("inf")
    left, right = depth.draw(some).axes
    assert [line for line in left.lines if line.get_marker() == "x"] == []
    (cross,) = (line for line in right.lines if line.get_marker() == "x")
    assert cross.get_ydata()[0] == pytest.approx(63.0)  # they count in the mean
    assert [text.get_text() for text in right.texts] == ["2/3"]
    shown = depth.table(some).set_index(["block", "depth", "method"])
    assert shown.loc[("last_convolution", 9, "vanilla"), ["seeds", "diverged"]].tolist() == [3, 2]
