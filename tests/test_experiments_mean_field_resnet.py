import math
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from regimes.experiments.mean_field import mean_field_resnet
from regimes.experiments.mean_field.mean_field_resnet import GAIN, MEAN_FIELD, USUAL_RATE, VANILLA, Config, arms
from regimes.experiments.mean_field.mean_field_resnet.config import SMOKE
from regimes.lab.config import load
from regimes.lab.grid import grid_points
from regimes.training.config import TrainConfig

USUAL = {"tau_lr_factor": 1.0}  # of the statement; not the default of `train`
SETTINGS = {"dataset": "digits", "train_size": 40, "validation": 30, "test_size": 50, **SMOKE, "epochs": 2, "batch": 20}


def rows_of(errors, seeds=5):
    """Made-up rows; a seed moves all arms alike, and mean-field a little more."""
    made = []
    for arm, error in errors.items():
        for seed in range(seeds):
            value = error + 2 * seed + 0.1 * (seed - (seeds - 1) / 2) * (arm == MEAN_FIELD)
            figures = {f"{part}_error": value for part in ("test", "validation", "train")}
            weights = {"weight_1": 1.0, "weight_2": 1.0 if arm == VANILLA else 0.5 + 0.1 * seed}
            made.append({"seed": seed, "arm": arm, "learning_rate": 0.1, "exchanges": 0, **figures, **weights})
    return pd.DataFrame(made)


def test_a_lower_error_in_every_seed_supports_the_claim():
    judged = mean_field_resnet.judge(rows_of({VANILLA: 4.0, MEAN_FIELD: 3.4, "mean_field_default": 3.5}))
    assert judged.verdict == "supported"
    assert judged.merits[USUAL_RATE] == pytest.approx(0.5)
    assert judged.merits[GAIN] == pytest.approx(0.6)
    half = 2.776445 * 0.1 * math.sqrt(2.5) / math.sqrt(5)  # the 2 points a seed that both have cancel
    assert judged.findings[0].measured == pytest.approx((0.6 - half, 0.6 + half), rel=1e-4)  # kept to ± 100 points


def test_a_higher_error_in_every_seed_refutes_it():
    assert mean_field_resnet.judge(rows_of({VANILLA: 4.0, MEAN_FIELD: 4.6})).verdict == "refuted"


def test_a_difference_within_its_scatter_is_inconclusive():
    assert mean_field_resnet.judge(rows_of({VANILLA: 4.0, MEAN_FIELD: 3.99})).verdict == "inconclusive"
    assert mean_field_resnet.judge(rows_of({VANILLA: 4.0, MEAN_FIELD: 2.0}, seeds=1)).verdict == "inconclusive"


def test_plain_nets_that_err_otherwise_than_published_reproduce_nothing():
    judged = mean_field_resnet.judge(rows_of({VANILLA: 57.0, MEAN_FIELD: 60.0, "mean_field_default": 60.0}))
    assert judged.verdict == "not reproduced"
    assert {finding.verdict for finding in judged.findings} == {"not reproduced"}


def test_only_the_direction_of_the_paper_is_published():
    origins = {
        finding.quantity: finding.origin for finding in mean_field_resnet.judge(rows_of({VANILLA: 4.0})).findings
    }
    assert origins == {GAIN: "published", USUAL_RATE: "after a pilot"}


def test_without_the_default_rate_its_prediction_is_not_measured():
    found = mean_field_resnet.judge(rows_of({VANILLA: 4.0, MEAN_FIELD: 3.4})).findings
    assert [finding.verdict for finding in found] == ["supported", "not measured"]


def test_only_seeds_that_have_both_count():
    rows = rows_of({VANILLA: 4.0, MEAN_FIELD: 3.0})
    cut = rows[(rows.arm == VANILLA) | (rows.seed < 3)]
    assert mean_field_resnet.difference(cut, VANILLA, MEAN_FIELD).value == pytest.approx(1.1)  # seeds 0, 1, 2
    assert mean_field_resnet.judge(cut).merits["seeds"] == 3
    alone = mean_field_resnet.judge(rows[rows.arm == VANILLA])
    assert (alone.verdict, math.isnan(alone.findings[0].measured.low)) == ("not measured", True)


def test_every_other_arm_is_set_against_mean_field():
    merits = mean_field_resnet.judge(rows_of({VANILLA: 4.0, MEAN_FIELD: 3.0, "mean_field_never": 5.0})).merits
    assert merits["trained times, never sorted − trained times, points"] == pytest.approx(2.0)
    assert merits["trained times, never sorted − trained times, points, to"] > 2.0


def test_the_table_marks_what_the_paper_quotes():
    lines = mean_field_resnet.table(rows_of({VANILLA: 4.0, MEAN_FIELD: 3.4})).set_index("arm")
    name = "trained times"
    assert lines.loc["published, ResNet20: vanilla (quoted from other papers)", "test error, %"] == 8.75
    assert lines.loc["published, ResNet20: mean-field", "vanilla − arm, points"] == pytest.approx(0.56)
    assert lines.loc[name, "vanilla − arm, points"] == pytest.approx(0.6)
    assert lines.loc[name, "setting"] == MEAN_FIELD
    assert lines.loc[name, "block weights"] == "0.50 to 1.00"


def test_the_figure_has_a_mark_for_every_arm_and_the_published_range():
    made = mean_field_resnet.draw(rows_of({VANILLA: 4.0, MEAN_FIELD: 3.4, "mean_field_never": 5.0}))
    left, right = made.axes
    names = ["trained times\n(5 seeds)", "never sorted\n(5 seeds)"]
    assert [tick.get_text() for tick in left.get_yticklabels()] == names
    assert "published" in left.get_legend().get_texts()[0].get_text()
    assert {
        line.get_linestyle() for line in right.get_lines() if len(line.get_xdata()) == 2 and line.get_label()[0] != "v"
    } == {"None"}
    (line,) = [line for line in right.get_lines() if line.get_label() == "trained times"]
    assert_close(torch.tensor(np.asarray(line.get_ydata())), torch.tensor([1.0, 0.7], dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vanilla", {"mean_field": False}),
        ("vanilla_lr0.2", {"mean_field": False, "lr": 0.2}),
        ("mean_field", {"mean_field": True, "tau_lr_factor": 1.0}),
        ("mean_field_default", {"mean_field": True, "tau_lr_factor": None}),
        ("mean_field_never", {"mean_field": True, "tau_sort": "never", **USUAL}),
        ("mean_field_epoch_tau0.1", {"mean_field": True, "tau_sort": "epoch", "tau_lr_factor": 0.1}),
        ("mean_field_nofirst_random", {"mean_field": True, "tau_first_gap": False, "tau_start": "random", **USUAL}),
        ("mean_field_clip2_decay0.01", {"mean_field": True, "tau_clip": 2.0, "tau_weight_decay": 0.01, **USUAL}),
    ],
)
def test_an_arm_is_its_settings(name, settings):
    assert arms.read_arm(name) == settings
    read = TrainConfig.model_validate({**SETTINGS, **settings})
    assert settings.items() <= read.model_dump().items()


@pytest.mark.parametrize(
    "name",
    ["lap", "mean_field_", "mean_field_tau", "vanilla_never", "mean_field_epoch_never", "mean_field_default_tau1"],
)
def test_what_is_no_arm_is_refused_before_anything_is_trained(name):
    with pytest.raises(ValueError, match=f"an arm needs .*; got '{name}'"):
        arms.read_arm(name)
    with pytest.raises(ValidationError, match="an arm needs"):
        Config(arm=[name])


def test_training_cannot_set_what_the_statement_decides():
    with pytest.raises(ValidationError, match="training cannot set mean_field"):
        Config(training={"mean_field": True})
    with pytest.raises(ValueError, match="epoch"):
        mean_field_resnet.measure(Config(training={"epoch": 3}), [{"seed": 0, "arm": VANILLA}])


@pytest.mark.slow
def test_frozen_times_are_vanilla_and_arms_of_a_seed_are_paired():
    vanilla, frozen, moved = (arms.run(SETTINGS, name, 1, 1) for name in (VANILLA, "mean_field_tau0.0", MEAN_FIELD))
    assert vanilla["test_error"] == frozen["test_error"]
    assert_close(vanilla["train_risk"], frozen["train_risk"], rtol=1e-4, atol=0)
    assert abs(vanilla["train_risk"] - moved["train_risk"]) > 1e-4
    assert [vanilla[f"weight_{k}"] for k in range(1, 5)] == [1.0] * 4
    assert vanilla.keys() == moved.keys()
    assert any(abs(moved[f"weight_{k}"] - 1) > 1e-3 for k in range(1, 5))


def test_pooled_images_are_seen_as_means_over_squares():
    plain, pooled = (arms.run({**SETTINGS, "epochs": 1}, VANILLA, 1, pool) for pool in (1, 2))
    assert plain["train_risk"] != pooled["train_risk"]


def test_main_arms_come_first_so_that_a_cut_run_has_whole_seeds():
    config = load(Config, "configs/mean_field_resnet.yaml")
    points = grid_points(mean_field_resnet, config)
    main = config.seeds * len(config.arm)
    assert {point["arm"] for point in points[:main]} == set(config.arm)
    assert len(points) == main + config.extra_seeds * len(config.extra_arm)
    assert [point["seed"] for point in points[:main]] == sorted(point["seed"] for point in points[:main])


def test_the_real_size_trains_what_its_comment_says():
    config = load(Config, "configs/mean_field_resnet.yaml")
    train = TrainConfig.model_validate(config.settings())
    assert (train.arch, train.arch_options, train.augment) == ("resnet20", {}, True)
    assert (train.momentum, train.weight_decay, train.gamma) == (0.9, 1e-4, 0.1)
    assert train.milestones == [train.epochs // 2, 3 * train.epochs // 4]


def test_the_published_size_is_the_published_recipe():
    """As the command in the comment of the configuration sets it."""
    text = Path("configs/mean_field_resnet.yaml").read_text()
    lines = [line.removeprefix("#").strip().removesuffix("\\") for line in text.splitlines() if line.startswith("#   ")]
    words = shlex.split(" ".join(lines))
    assert words[:4] == ["python", "cli.py", "verify", "mean_field_resnet"]
    changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    config = load(Config, words[words.index("--config") + 1], changes)
    assert (config.pool, config.train_size, config.validation, config.device, config.bf16) == (
        1,
        None,
        0,
        "cuda",
        False,
    )
    train = TrainConfig.model_validate(config.settings())
    assert (train.epochs, train.milestones, train.batch, train.lr) == (160, [80, 120], 128, 0.1)
    assert (train.train_size, train.validation, train.test_size, train.augment) == (None, 0, None, True)
