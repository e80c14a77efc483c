import math

import pandas as pd
import pytest

from regimes.errors import UserError
from regimes.experiments.least_action import mnist_low_data
from regimes.experiments.least_action.low_data import comparison
from regimes.experiments.least_action.low_data.arms import read_arm
from regimes.experiments.least_action.low_data.comparison import quantity
from regimes.experiments.least_action.low_data.mnist import course
from regimes.lab.config import load
from regimes.lab.sweep import grid_points
from regimes.training.config import TrainConfig

pytestmark = pytest.mark.slow

VANILLA, LAP, CONTROL = mnist_low_data.VANILLA, mnist_low_data.LAP, mnist_low_data.CONTROL
TUNED = mnist_low_data.TUNED
PUBLISHED = {  # accuracy in percent for n = 100, 200, 300
    "vanilla": (56.4, 74.9, 83.5), "lap": (70.0, 82.0, 86.2), "control": (60.0, 78.0, 85.0),
    "vanilla_lr0.1": (61.0, 79.0, 85.5), "lap_lr0.1": (72.0, 83.0, 87.0), "control_lr0.1": (63.0, 79.0, 85.0),
}  # fmt: skip


def table(**changes):
    """Made-up rows of three seeds; a seed moves all arms alike, and one arm a little more."""
    rows = []
    for arm, accuracies in (PUBLISHED | changes).items():
        method, train = read_arm(arm, TrainConfig.model_validate({"lr": 0.01}))
        for size, accuracy in zip((100, 200, 300), accuracies, strict=True):
            for seed in range(3):
                share = (accuracy + 3 * (seed - 1) + 0.1 * (seed - 1) * (method == "lap")) / 100
                rows.append({
                    "seed": seed, "train_size": size, "arm": arm, "method": method, "learning_rate": train.lr,
                    "paper": share, "held_out": share, "last": share, "validation": share, "held_out_epoch": 30,
                    "refreshed": share + 0.1 * (method == "vanilla") if seed else None,
                    "train_accuracy": 1.0, "train_risk": 0.1, "transport": 0.1, "multiplier": 1.0,
                })  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in mnist_low_data.judge(rows).findings}


def test_the_published_table_with_a_worse_control_supports_the_statement():
    assert mnist_low_data.judge(table()).verdict == "supported"


def test_a_gain_over_a_plain_training_that_is_not_the_published_one_is_not_reproduced():
    judgement = mnist_low_data.judge(table(vanilla=(26.0, 50.0, 60.0), lap=(66.0, 82.0, 90.0)))
    found = {finding.quantity: finding for finding in judgement.findings}
    for size in (100, 200, 300):
        assert found[quantity(LAP, VANILLA, size, "paper")].verdict == "not reproduced"
    assert "vanilla, percent is 26 [" in found[quantity(LAP, VANILLA, 100, "paper")].reason
    assert found[quantity(LAP, CONTROL, 100, "held_out")].verdict == "supported"  # it has no baseline
    assert judgement.verdict == "not reproduced"


def test_a_control_that_does_better_refutes_that_transport_is_the_reason():
    found = verdicts(table(control=(72.0, 84.0, 89.0)))
    refuted = {name for name, verdict in found.items() if verdict == "refuted"}
    assert refuted == {quantity(LAP, CONTROL, size, "held_out") for size in (100, 200, 300)}


def test_a_tuned_vanilla_that_does_better_refutes_it_too():
    found = verdicts(table(**{"vanilla_lr0.1": (73.0, 80.0, 86.0)}))
    refuted = [name for name, verdict in found.items() if verdict == "refuted"]
    assert len(refuted) == 2  # at n = 100: against LAP, and against LAP tuned
    assert all(name.startswith("n = 100, held-out") and "vanilla, tuned" in name for name in refuted)


def test_another_gain_than_the_published_one_is_refuted_at_that_size_alone():
    found = verdicts(table(lap=(70.0, 90.0, 86.2)))
    assert found[quantity(LAP, VANILLA, 200, "paper")] == "refuted"
    assert found[quantity(LAP, VANILLA, 100, "paper")] == "supported"


def test_a_run_cut_short_is_judged_on_what_it_has():
    rows = table()
    cut = rows[(rows.train_size == 100) & ~((rows.seed == 2) & (rows.method == "control"))]
    found = verdicts(cut)
    assert found[quantity(LAP, VANILLA, 100, "paper")] == "supported"
    assert found[quantity(LAP, VANILLA, 200, "paper")] == "not measured"
    assert len(comparison.gains(cut, LAP, CONTROL, 100, "held_out")) == 2
    shown = mnist_low_data.table(cut)
    assert set(shown[shown.run == "yes"].n) == {100}
    assert set(shown[shown.run == "no"].n) == {200, 300, 400, 500}
    assert set(shown[shown.run == "no"].seeds) == {0}


def test_the_published_gain_has_the_half_widths_added_as_independent_ones():
    interval = comparison.published_gain(mnist_low_data.PUBLISHED, 100)
    half = math.hypot((58.0 - 54.9) / 2, (71.0 - 69.0) / 2)
    assert interval == pytest.approx((70.0 - 56.4 - half, 70.0 - 56.4 + half))


def test_gains_are_in_points_and_paired_by_seed():
    rows = table()
    found = comparison.gains(rows, LAP, VANILLA, 100, "held_out")
    assert found.to_dict() == pytest.approx({0: 13.5, 1: 13.6, 2: 13.7})  # the common 3 points a seed cancel
    mean = comparison.gain(rows, LAP, VANILLA, 100, "held_out")
    assert mean.interval.high - mean.value == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-3)


def test_the_rate_is_tuned_by_validation_and_not_by_test():
    rows = table()
    better = (rows.arm == "vanilla") & (rows.train_size == 100)
    rows.loc[better, "held_out"] = 0.99
    assert set(comparison.tuned(rows, "vanilla", 100).arm) == {"vanilla_lr0.1"}
    rows.loc[better, "validation"] = 0.99
    assert set(comparison.tuned(rows, "vanilla", 100).arm) == {"vanilla"}


def test_the_rate_is_tuned_on_seeds_that_have_all_rates():
    rows = table()
    rows.loc[(rows.arm == "vanilla") & (rows.seed == 2), "validation"] = 1.0
    rows = rows[~((rows.arm == "vanilla_lr0.1") & (rows.seed == 2))]
    assert comparison.tuned(rows, "vanilla", 100).seed.tolist() == [0, 1]
    assert set(comparison.tuned(rows, "vanilla", 100).arm) == {"vanilla_lr0.1"}


def test_a_method_with_one_rate_is_not_tuned():
    rows = table()
    assert comparison.tuned(rows[rows.arm == "lap"], "lap", 100).empty
    assert comparison.gain(rows[rows.method == "lap"], TUNED, LAP, 100, "held_out") is None


def test_seeds_are_outermost_so_that_a_cut_run_has_whole_ones():
    config = load(mnist_low_data.Config, "configs/mnist_low_data.yaml")
    points = grid_points(mnist_low_data, config)
    assert [point["seed"] for point in points] == sorted(point["seed"] for point in points)
    assert len(points) == 10 * (3 * 7 + 6) + 40 * 2 * 3 + 6 * 2 * 3


def test_more_points_join_those_of_their_seed_and_none_is_measured_twice():
    config = load(mnist_low_data.Config, overrides=[
        "seeds=1", "arm=[lap]", "extra_arm=[]",
        "more=[{first_seed: 0, seeds: 3, train_size: [100, 200], arm: [vanilla, lap]}, {first_seed: 2}]",
    ])  # fmt: skip
    found = [(point["seed"], point["train_size"], point["arm"]) for point in grid_points(mnist_low_data, config)]
    first = [(0, 100, "lap"), (0, 100, "vanilla"), (0, 200, "vanilla"), (0, 200, "lap")]
    pairs = [(seed, size, arm) for seed in (1, 2) for size in (100, 200) for arm in ("vanilla", "lap")]
    assert found == [*first, *pairs, (2, 100, "control")]


def test_the_real_size_is_the_protocol_of_2019():
    config = load(mnist_low_data.Config, "configs/mnist_low_data.yaml")
    assert (config.filters, config.blocks, config.gain, config.encoder_gain) == (32, 9, 0.01, 0.01)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.01, 0.9, 1e-4)
    assert (config.batch, config.epochs) == (128, 30)
    assert (config.multiplier, config.growth, config.every) == (5.0, 1.0, 5)


def test_the_table_has_published_and_measured_accuracy():
    lines = mnist_low_data.table(table()).set_index(["n", "arm"])
    assert lines.loc[(100, "LAP"), "published"] == 70.0
    assert lines.loc[(100, "LAP"), "held-out"] == pytest.approx(70.0)
    assert lines.loc[(100, "vanilla, tuned"), "learning rate"] == 0.1
    assert lines.loc[(200, "vanilla, tuned"), "published"] == ""
    assert lines.loc[(300, "control"), ["seeds", "seeds refreshed"]].tolist() == [3, 2]


def test_fresh_statistics_are_reported_for_the_seeds_that_have_them():
    merits = mnist_low_data.judge(table()).merits
    name = quantity(LAP, VANILLA, 100, "refreshed")
    assert merits[name] == pytest.approx(13.65 - 10)  # seeds 1 and 2
    assert merits[f"{name}, to"] == pytest.approx(13.65 - 10 + 12.7062 * 0.05, rel=1e-3)
    assert mnist_low_data.table(table()).refreshed.notna().all()


def lines_of(ax):
    """What is drawn with bars, by its label: places and values."""
    drawn = {bar.get_label(): bar.lines[0] for bar in ax.containers}
    return {label: (line.get_xdata(), line.get_ydata()) for label, line in drawn.items()}


def test_marks_stand_at_their_train_size_and_show_the_means():
    accuracy, gain, held_out, _ = mnist_low_data.draw(table()).axes
    assert set(lines_of(held_out)) >= {"LAP − vanilla", "LAP − control", "LAP − vanilla, tuned"}
    for ax in (accuracy, gain, held_out):
        for x, _ in lines_of(ax).values():
            places = [x[0]] if len(x) == 1 else x  # LAP and control were tuned at one size only
            for place, size in zip(places, (100, 200, 300), strict=False):
                assert abs(place - size) < 10, (ax.get_title(), place)
    x, y = lines_of(accuracy)["LAP"]
    assert y.tolist() == pytest.approx([70.0, 82.0, 86.2])
    assert lines_of(held_out)["LAP − control"][1].tolist() == pytest.approx([10.0, 4.0, 1.2])


def test_published_values_are_drawn_only_where_they_are_counted_as_published():
    accuracy, gain, held_out, refreshed = mnist_low_data.draw(table()).axes
    published = {label for ax in (held_out, refreshed) for label in lines_of(ax) if "published" in label}
    assert published == set()
    assert lines_of(accuracy)["vanilla, published"][1].tolist() == [56.4, 74.9, 83.5]
    assert lines_of(gain)["LAP − vanilla, published"][1].tolist() == pytest.approx([13.6, 7.1, 2.7])


def crossed(ax):
    """Places of the marks of what has diverged."""
    return [(x, y) for line in ax.lines if line.get_marker() == "x" for x, y in line.get_xydata().tolist()]


def test_a_mean_with_diverged_seeds_is_crossed_and_one_of_them_alone_is_no_mean():
    rows = table()
    assert [crossed(ax) for ax in mnist_low_data.draw(rows).axes] == [[]] * 4
    some = (rows.arm == "control") & (rows.train_size == 200)
    rows.loc[some & (rows.seed < 2), "train_risk"] = math.inf
    accuracy, _, held_out, _ = mnist_low_data.draw(rows).axes
    assert [round(y, 6) for _, y in crossed(accuracy)] == [78.0]
    assert [round(y, 6) for _, y in crossed(held_out)] == [4.0]
    assert len(lines_of(accuracy)["control"][0]) == 3
    rows.loc[some, "train_risk"] = math.nan
    accuracy, *_ = mnist_low_data.draw(rows).axes
    assert len(lines_of(accuracy)["control"][0]) == 2  # no line through what has diverged


def test_seeds_in_which_both_have_diverged_tell_nothing_of_their_difference():
    rows = table()
    lost = rows.arm.isin(["lap", "control"]) & (rows.train_size == 100) & (rows.seed == 0)
    rows.loc[lost, "train_risk"] = math.nan
    assert comparison.gains(rows, LAP, CONTROL, 100, "held_out").index.tolist() == [1, 2]
    assert comparison.gains(rows, LAP, VANILLA, 100, "held_out").index.tolist() == [0, 1, 2]


def test_the_table_says_how_many_runs_of_an_arm_have_diverged_and_counts_them():
    rows = table()
    rows.loc[(rows.arm == "lap") & (rows.train_size == 100) & (rows.seed < 2), ["train_risk", "held_out"]] = (
        math.nan,
        0.1,
    )
    shown = mnist_low_data.table(rows).query("n == 100 and run == 'yes'").set_index("arm")
    assert (shown.diverged["LAP"], shown.diverged["vanilla"]) == (2, 0)
    assert shown["held-out"]["LAP"] == pytest.approx((10 + 10 + 73.1) / 3)
    assert shown["lowest held-out"]["LAP"] == pytest.approx(10)
    assert mnist_low_data.judge(rows).merits["diverged runs"] == 2


def test_rows_of_older_runs_are_read_by_the_former_name_of_the_column():
    rows = table()
    old = rows.rename(columns={"held_out": "honest", "held_out_epoch": "honest_epoch"})
    assert mnist_low_data.judge(old) == mnist_low_data.judge(rows)
    pd.testing.assert_frame_equal(mnist_low_data.table(old), mnist_low_data.table(rows))
    resumed = pd.concat([old[old.seed < 1], rows[rows.seed >= 1]])  # a run begun with the old name, ended with the new
    assert mnist_low_data.judge(resumed) == mnist_low_data.judge(rows)


def test_the_table_is_trained_where_and_how_the_settings_say():
    given = course(load(mnist_low_data.Config, overrides=["device=cuda", "cuda_graphs=true"])).train
    assert (given.device, given.compile, given.cuda_graphs) == ("cuda", False, True)
    assert course(load(mnist_low_data.Config, overrides=["compile=true"])).train.compile
    for wrong, what in (
        (["cuda_graphs=true"], "cuda_graphs needs device cuda"),
        (["cuda_graphs=true", "device=cuda", "ensemble=2"], "has not been tried .*: set ensemble to 1"),
    ):
        with pytest.raises(UserError, match=what):
            load(mnist_low_data.Config, overrides=wrong)
