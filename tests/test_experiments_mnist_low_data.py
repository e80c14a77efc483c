import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.data.batches import Batches
from regimes.data.classification import Labelled, Normalise
from regimes.experiments import mnist_low_data
from regimes.experiments.mnist_low_data import arms, comparison
from regimes.lab.config import load
from regimes.lab.sweep import grid_points
from regimes.models.residual import Trace

VANILLA, LAP, CONTROL = mnist_low_data.VANILLA, mnist_low_data.LAP, mnist_low_data.CONTROL
TUNED = mnist_low_data.TUNED
COURSE = arms.Course(
    learning_rate=0.05, epochs=2, batch=20, filters=4, blocks=2, gain=0.3, encoder_gain=1.0, momentum=0.9,
    weight_decay=1e-2, multiplier=2.0, growth=0.0, every=5, first_look=1, look_every=1, look_precision="float32",
)  # fmt: skip
PUBLISHED = {  # accuracy in percent for n = 100, 200, 300
    "vanilla": (56.4, 74.9, 83.5), "lap": (70.0, 82.0, 86.2), "control": (60.0, 78.0, 85.0),
    "vanilla_lr0.1": (61.0, 79.0, 85.5), "lap_lr0.1": (72.0, 83.0, 87.0), "control_lr0.1": (63.0, 79.0, 85.0),
}  # fmt: skip


def table(**changes):
    """Made-up rows of three seeds; a seed moves all arms alike, and one arm a little more."""
    rows = []
    for arm, accuracies in (PUBLISHED | changes).items():
        method, rate = arms.read_arm(arm, 0.01)
        for size, accuracy in zip((100, 200, 300), accuracies, strict=True):
            for seed in range(3):
                share = (accuracy + 5 * (seed - 1) + 0.1 * (seed - 1) * (method == "lap")) / 100
                rows.append({
                    "seed": seed, "train_size": size, "arm": arm, "method": method, "learning_rate": rate,
                    "paper": share, "honest": share, "last": share, "validation": share, "honest_epoch": 30,
                    "refreshed": share + 0.1 * (method == "vanilla") if seed else None,
                    "train_accuracy": 1.0, "transport": 0.1, "multiplier": 1.0,
                })  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in mnist_low_data.judge(rows).findings}


@pytest.fixture(scope="module")
def digits():
    return arms.data("digits", 3, 50, 30, (20, 40), None)


def test_the_published_table_with_a_worse_control_supports_the_statement():
    assert mnist_low_data.judge(table()).verdict == "supported"


def test_a_control_that_does_better_refutes_that_transport_is_the_reason():
    found = verdicts(table(control=(71.0, 83.0, 87.0)))
    refuted = {quantity for quantity, verdict in found.items() if verdict == "refuted"}
    assert refuted == {
        mnist_low_data.quantity(mnist_low_data.LAP, mnist_low_data.CONTROL, size, "honest") for size in (100, 200, 300)
    }


def test_a_tuned_vanilla_that_does_better_refutes_it_too():
    found = verdicts(table(**{"vanilla_lr0.1": (73.0, 80.0, 86.0)}))
    refuted = [quantity for quantity, verdict in found.items() if verdict == "refuted"]
    assert len(refuted) == 2  # at n = 100: against LAP, and against LAP tuned
    assert all(quantity.startswith("n = 100, honest") and "vanilla, tuned" in quantity for quantity in refuted)


def test_another_gain_than_the_published_one_is_refuted_at_that_size_alone():
    found = verdicts(table(lap=(70.0, 90.0, 86.2)))
    assert found[mnist_low_data.quantity(LAP, VANILLA, 200, "paper")] == "refuted"
    assert found[mnist_low_data.quantity(LAP, VANILLA, 100, "paper")] == "supported"


def test_a_run_cut_short_is_judged_on_what_it_has():
    rows = table()
    cut = rows[(rows.train_size == 100) & ~((rows.seed == 2) & (rows.method == "control"))]
    found = verdicts(cut)
    assert found[mnist_low_data.quantity(LAP, VANILLA, 100, "paper")] == "supported"
    assert found[mnist_low_data.quantity(LAP, VANILLA, 200, "paper")] == "inconclusive"
    assert len(comparison.gains(cut, LAP, CONTROL, 100, "honest")) == 2
    assert mnist_low_data.table(cut).n.unique().tolist() == [100]


def test_the_published_gain_has_the_half_widths_added_as_independent_ones():
    interval = mnist_low_data.published_gain(100)
    half = math.hypot((58.0 - 54.9) / 2, (71.0 - 69.0) / 2)
    assert interval == pytest.approx((70.0 - 56.4 - half, 70.0 - 56.4 + half))


def test_gains_are_in_points_and_paired_by_seed():
    rows = table()
    found = comparison.gains(rows, LAP, VANILLA, 100, "honest")
    assert found.to_dict() == pytest.approx({0: 13.5, 1: 13.6, 2: 13.7})  # the common 5 points a seed cancel
    mean = comparison.gain(rows, LAP, VANILLA, 100, "honest")
    assert mean.interval.high - mean.value == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)


def test_the_rate_is_tuned_by_validation_and_not_by_test():
    rows = table()
    better = (rows.arm == "vanilla") & (rows.train_size == 100)
    rows.loc[better, "honest"] = 0.99
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
    assert math.isnan(comparison.gain(rows[rows.method == "lap"], TUNED, LAP, 100, "honest").value)


def test_arms_are_read_from_their_names():
    assert arms.read_arm("lap_divided", 0.01) == ("lap_divided", 0.01)
    assert arms.read_arm("vanilla_lr0.3", 0.01) == ("vanilla", 0.3)
    for name in ("adam", "lap_lr", "lap_lrx", "lap_0.1"):
        with pytest.raises(ValueError, match=f"vanilla, lap, lap_divided, control.*{name}"):
            arms.read_arm(name, 0.01)


def test_accuracy_is_looked_at_from_an_epoch_on_and_at_the_end():
    course = COURSE._replace(epochs=30, first_look=12, look_every=4)
    assert [epoch for epoch in range(1, 31) if course.looks(epoch)] == [12, 16, 20, 24, 28, 30]


@pytest.mark.parametrize(
    ("method", "value"), [("lap", 5 * 2.0 + 3.0), ("lap_divided", 2.0 + 3.0 / 5), ("control", 5 * 2.0), ("vanilla", 2)]
)
def test_each_method_minimises_what_it_says(method, value):
    found = arms.objective(method, COURSE._replace(multiplier=5.0))
    found.risk = lambda outputs, targets: outputs.new_tensor(2.0)
    step = math.sqrt(3) * torch.ones(4, 6)  # mean of squares 3
    trace = Trace(torch.zeros(4, 3), ((step, step),), ((step,),))
    assert_close(found(trace, torch.zeros(4, dtype=torch.long)).value, torch.tensor(float(value)))


def test_the_multiplier_grows_by_the_risk_after_every_fifth_step():
    found = arms.objective("control", COURSE._replace(multiplier=5.0, growth=1.0, every=5))
    step = torch.ones(4, 6)
    trace = Trace(torch.zeros(4, 3), ((step, step),), ((step,),))
    values = []
    for _ in range(7):
        values.append(found(trace, torch.zeros(4, dtype=torch.long)).value / math.log(3))
        found.after_step(lambda: torch.tensor(0.25), lambda: torch.tensor(9.0))
    assert_close(torch.stack(values), torch.tensor([5.0, *[5.25] * 5, 5.5]))  # after the first and the sixth step


def rows_of(samples):
    return {tuple(x.flatten().tolist()) for x in samples.x}


def test_no_image_is_in_two_parts_and_all_arms_see_the_same(digits):
    parts = [digits.parts.train, digits.parts.validation, digits.first, digits.second]
    assert [len(part.labels) for part in parts] == [50, 30, 20, 40]
    images = [rows_of(part) for part in parts]
    assert len(set.union(*images)) == sum(map(len, images)) == 140
    arms.data.cache_clear()
    again = arms.data("digits", 3, 50, 30, (20, 40), None)
    assert_close(again.first.x, digits.first.x)
    larger = arms.data("digits", 3, 60, 30, (20, 40), None)
    assert rows_of(digits.parts.train) < rows_of(larger.parts.train)
    assert_close(larger.second.x, digits.second.x)


@pytest.mark.parametrize("size", [40, 130])
def test_accuracy_is_the_share_of_right_answers(size):
    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3)

    labels = torch.ones(size, dtype=torch.long)
    labels[: size // 4] = 2
    images = Labelled(torch.zeros(size, 1, 2, 2, dtype=torch.uint8), labels)
    normalise = Normalise(torch.zeros(1), torch.ones(1), 255)
    assert arms.accuracy(Constant(), images, normalise) == pytest.approx(1 - (size // 4) / size)


def by_hand(digits, seed, rate, epochs):
    """Vanilla training written out: the accuracies after each epoch."""
    torch.manual_seed(0)
    model = arms.build("resnet9", (1, 8, 8), 10, filters=4, blocks=2)
    arms.initialise(model, arms.orthogonal, 0.3, generator=arms.generator(seed, arms.WEIGHTS))
    arms.initialise(model.encoder, arms.orthogonal, 1.0, generator=arms.generator(seed, arms.ENCODER))
    velocity = {name: 0.0 for name, _ in model.named_parameters()}
    batches = Batches(digits.parts.train, 20, seed=seed, normalise=digits.parts.normalise)
    found = []
    for epoch in range(epochs):
        model.train()
        for x, labels in batches.epoch(epoch):
            risk = torch.nn.functional.cross_entropy(model(x), labels)
            gradients = torch.autograd.grad(risk, list(model.parameters()))
            with torch.no_grad():
                for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
                    velocity[name] = 0.9 * velocity[name] + gradient + 1e-2 * weight
                    weight -= rate * velocity[name]
        parts = (digits.first, digits.parts.validation, digits.second)
        found.append([arms.accuracy(model, part, digits.parts.normalise) for part in parts])
    return found


def test_a_run_is_training_written_out_with_both_protocols(digits):
    course = COURSE._replace(epochs=6)
    first, validation, second = zip(*by_hand(digits, 4, 0.3, 6), strict=True)
    row = arms.run(digits, "vanilla_lr0.3", course, 4)
    assert row["paper"] == max(first)
    assert row["paper_epoch"] == 1 + first.index(max(first))
    chosen = validation.index(max(validation))
    assert (row["validation"], row["honest_epoch"]) == (max(validation), chosen + 1)
    assert row["honest"] == second[chosen]
    assert row["last"] == second[-1]


def test_fresh_statistics_are_those_of_the_training_set_at_the_present_weights(digits):
    model = arms.build("resnet9", (1, 8, 8), 10, filters=4, blocks=2)
    train, normalise = digits.parts.train, digits.parts.normalise
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d)]
    for norm in norms:
        norm.running_mean.fill_(7.0)  # of other weights
        norm.running_var.fill_(1e-4)
    stale = arms.accuracy(model, train, normalise)
    fitted = arms.refresh(model, train, normalise)
    with torch.no_grad():
        by_batch = model.train()(normalise(train.x))
        by_statistics = model.eval()(normalise(train.x))
    assert fitted == float((by_batch.argmax(1) == train.labels).double().mean()) != stale
    # The statistics are unbiased, n/(n − 1), and the head's have n = 50.
    assert_close(by_statistics, by_batch, rtol=0.05, atol=0.05)
    assert [norm.momentum for norm in norms] == [0.1] * len(norms)


def test_a_control_with_fixed_multiplier_is_vanilla_with_a_larger_rate(digits):
    control = arms.run(digits, "control", COURSE._replace(epochs=4, multiplier=2.0), 1)
    larger = COURSE._replace(epochs=4, learning_rate=2 * COURSE.learning_rate, weight_decay=COURSE.weight_decay / 2)
    vanilla = arms.run(digits, "vanilla", larger, 1)
    for column in ("train_risk", "transport"):
        assert_close(control[column], vanilla[column], rtol=1e-4, atol=0.0)
    assert control["honest"] == vanilla["honest"]
    same_rate = arms.run(digits, "vanilla", COURSE._replace(epochs=4), 1)
    assert abs(same_rate["train_risk"] - control["train_risk"]) > 1e-2


def test_transport_shortens_the_steps(digits):
    course = COURSE._replace(epochs=8, multiplier=0.2)
    lap, control = (arms.run(digits, name, course, 2)["transport"] for name in ("lap", "control"))
    assert lap < 0.8 * control


def test_seeds_are_outermost_so_that_a_cut_run_has_whole_ones():
    config = load(mnist_low_data.Config, "configs/mnist_low_data.yaml")
    points = grid_points(mnist_low_data, config)
    assert [point["seed"] for point in points] == sorted(point["seed"] for point in points)
    assert len(points) == 10 * (3 * 7 + 6)


def test_the_real_size_is_the_protocol_of_2019():
    config = load(mnist_low_data.Config, "configs/mnist_low_data.yaml")
    assert (config.filters, config.blocks, config.gain, config.encoder_gain) == (32, 9, 0.01, 0.01)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.01, 0.9, 1e-4)
    assert (config.batch, config.epochs) == (128, 30)
    assert (config.multiplier, config.growth, config.every) == (5.0, 1.0, 5)


def test_the_table_has_published_and_measured_accuracy():
    lines = mnist_low_data.table(table()).set_index(["n", "arm"])
    assert lines.loc[(100, "LAP"), "published"] == 70.0
    assert lines.loc[(100, "LAP"), "honest"] == pytest.approx(70.0)
    assert lines.loc[(100, "vanilla, tuned"), "learning rate"] == 0.1
    assert lines.loc[(200, "vanilla, tuned"), "published"] == ""
    assert lines.loc[(300, "control"), ["seeds", "seeds refreshed"]].tolist() == [3, 2]


def test_fresh_statistics_are_reported_for_the_seeds_that_have_them():
    merits = mnist_low_data.judge(table()).merits
    name = mnist_low_data.quantity(LAP, VANILLA, 100, "refreshed")
    assert merits[name] == pytest.approx(13.65 - 10)  # seeds 1 and 2
    assert merits[f"± {name}"] == pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert mnist_low_data.table(table()).refreshed.notna().all()


def test_the_figure_shows_accuracy_and_differences():
    left, right, refreshed = mnist_low_data.draw(table()).axes
    assert left.get_ylabel().endswith("%")
    assert right.get_ylabel() == refreshed.get_ylabel() == "difference of test accuracy, points"
    assert right.get_ylim() == refreshed.get_ylim()
    assert {"LAP", "LAP, published", "vanilla, tuned"} <= {text.get_text() for text in left.get_legend().get_texts()}
    assert "LAP − control" in {text.get_text() for text in right.get_legend().get_texts()}
