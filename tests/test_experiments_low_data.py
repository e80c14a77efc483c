import json
import math
from types import SimpleNamespace

import pandas
import pytest
import torch
from published_rows import published_rows
from torch.testing import assert_close

from regimes import experiments
from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Labelled, Normalise
from regimes.experiments.least_action.low_data import comparison, course, together
from regimes.experiments.least_action.low_data.arms import read_arm
from regimes.experiments.least_action.low_data.comparison import VANILLA
from regimes.experiments.least_action.low_data.config import TableConfig
from regimes.experiments.least_action.low_data.course import Course
from regimes.lab.config import dump, load
from regimes.lab.folders import what
from regimes.lab.merging import merge
from regimes.lab.runs import RunFolder
from regimes.lab.stamps import config_digest
from regimes.lab.sweep import sweep
from regimes.models.build import build
from regimes.models.initialise import initialise, orthogonal
from regimes.models.residual import Trace
from regimes.streams import FewSamples
from regimes.training.assemble import compiled, make_objective
from regimes.training.config import TrainConfig

TRAIN = TrainConfig.model_validate({
    "dataset": "digits", "arch": "resnet9", "arch_options": {"filters": 4, "blocks": 2}, "init": "orthogonal",
    "gain": 0.3, "lr": 0.05, "epochs": 2, "batch": 20, "weight_decay": 1e-2, "schedule": "constant",
    "multiplier": 2.0, "growth": 0.0, "every": 5, "level": "batch_after",
})  # fmt: skip


def trained(*, encoder_gain=1.0, **changes):
    """How an arm is trained here, with changes."""
    return Course(TrainConfig.model_validate({**dump(TRAIN), **changes}), encoder_gain, refreshed=True)


def objective(method, **changes):
    return make_objective(read_arm(method, trained(**changes).train).train)


@pytest.fixture(scope="module")
def digits():
    return course.data("digits", 3, 50, 30, (20, 40), None)


def test_arms_are_read_from_their_names():
    assert read_arm("vanilla", TRAIN) == ("vanilla", TRAIN)
    assert read_arm("vanilla_lr0.3", TRAIN) == ("vanilla", TRAIN.model_copy(update={"lr": 0.3}))
    method, train = read_arm("lap_divided_multiplier5_growth.1_every50", TRAIN)
    assert (method, train.lap, train.form) == ("lap_divided", True, "divided")
    assert (train.multiplier, train.growth, train.every) == (5.0, 0.1, 50)
    for name in ("adam", "lap_lr", "lap_lrx", "lap_0.1"):
        with pytest.raises(ValueError, match=f"vanilla, lap, lap_divided, control.*{name}"):
            read_arm(name, TRAIN)
    for name in ("lap_lr0.1_lr0.2", "lap_every2.5"):
        with pytest.raises(ValueError, match=f"once and as a number of its kind; got '{name}'"):
            read_arm(name, TRAIN)


def test_accuracy_is_looked_at_from_an_epoch_on_and_at_the_end():
    made = trained(epochs=30)._replace(first_look=12, look_every=4)
    assert [epoch for epoch in range(1, 31) if made.looks(epoch)] == [12, 16, 20, 24, 28, 30]


@pytest.mark.parametrize(
    ("method", "value"), [("lap", 5 * 2.0 + 3.0), ("lap_divided", 2.0 + 3.0 / 5), ("control", 5 * 2.0), ("vanilla", 2)]
)
def test_each_method_minimises_what_it_says(method, value):
    found = objective(method, multiplier=5.0)
    found.risk = lambda outputs, targets: outputs.new_tensor(2.0)
    step = math.sqrt(3) * torch.ones(4, 6)  # mean of squares 3
    trace = Trace(torch.zeros(4, 3), ((step, step),), ((step,),))
    assert_close(found(trace, torch.zeros(4, dtype=torch.long)).value, torch.tensor(float(value)))


def test_the_multiplier_grows_by_the_risk_after_every_fifth_step():
    found = objective("control", multiplier=5.0, growth=1.0)
    step = torch.ones(4, 6)
    trace = Trace(torch.zeros(4, 3), ((step, step),), ((step,),))
    values = []
    for _ in range(7):
        values.append(found(trace, torch.zeros(4, dtype=torch.long)).value / math.log(3))
        found.after_step(lambda: torch.tensor(0.25), lambda: torch.tensor(9.0))
    assert_close(torch.stack(values), torch.tensor([*[5.0] * 5, 5.25, 5.25]))  # after the fifth step


def rows_of(samples):
    return {tuple(x.flatten().tolist()) for x in samples.x}


def test_no_image_is_in_two_parts_and_all_arms_see_the_same(digits):
    parts = [digits.parts.train, digits.parts.validation, digits.first, digits.second]
    assert [len(part.labels) for part in parts] == [50, 30, 20, 40]
    images = [rows_of(part) for part in parts]
    assert len(set.union(*images)) == sum(map(len, images)) == 140
    course.data.cache_clear()
    again = course.data("digits", 3, 50, 30, (20, 40), None)
    assert_close(again.first.x, digits.first.x)
    larger = course.data("digits", 3, 60, 30, (20, 40), None)
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
    assert course.accuracy(Constant(), images, normalise) == pytest.approx(1 - (size // 4) / size)


def by_hand(digits, seed, rate, epochs):
    """Vanilla training written out: the accuracies after each epoch."""
    torch.manual_seed(0)
    model = build("resnet9", (1, 8, 8), 10, filters=4, blocks=2)
    initialise(model, orthogonal, 0.3, generator=generator(seed, FewSamples.WEIGHTS))
    initialise(model.encoder, orthogonal, 1.0, generator=generator(seed, FewSamples.ENCODER))
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
        found.append([course.accuracy(model, part, digits.parts.normalise) for part in parts])
    return found


@pytest.mark.slow
def test_a_run_is_training_written_out_with_both_protocols(digits):
    first, validation, second = zip(*by_hand(digits, 4, 0.3, 6), strict=True)
    row = course.run(digits, "vanilla_lr0.3", trained(epochs=6), 4)
    assert row["paper"] == max(first)
    assert row["paper_epoch"] == 1 + first.index(max(first))
    chosen = validation.index(max(validation))
    assert (row["validation"], row["held_out_epoch"]) == (max(validation), chosen + 1)
    assert row["held_out"] == second[chosen]
    assert row["last"] == second[-1]


def test_fresh_statistics_are_those_of_the_training_set_at_the_present_weights(digits):
    model = build("resnet9", (1, 8, 8), 10, filters=4, blocks=2)
    train, normalise = digits.parts.train, digits.parts.normalise
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d)]
    for norm in norms:
        norm.running_mean.fill_(7.0)  # of other weights
        norm.running_var.fill_(1e-4)
    stale = course.accuracy(model, train, normalise)
    fitted = course.refresh(model, train, normalise)
    with torch.no_grad():
        by_batch = model.train()(normalise(train.x))
        by_statistics = model.eval()(normalise(train.x))
    assert fitted == float((by_batch.argmax(1) == train.labels).double().mean()) != stale
    # The statistics are unbiased, n/(n − 1), and the head's have n = 50.
    assert_close(by_statistics, by_batch, rtol=0.05, atol=0.05)
    assert [norm.momentum for norm in norms] == [0.1] * len(norms)


def test_a_control_with_fixed_multiplier_is_vanilla_with_a_larger_rate(digits):
    control = course.run(digits, "control", trained(epochs=4), 1)
    larger = trained(epochs=4, lr=2 * TRAIN.lr, weight_decay=TRAIN.weight_decay / 2)
    vanilla = course.run(digits, "vanilla", larger, 1)
    for column in ("train_risk", "transport"):
        assert_close(control[column], vanilla[column], rtol=1e-4, atol=0.0)
    assert control["held_out"] == vanilla["held_out"]
    same_rate = course.run(digits, "vanilla", trained(epochs=4), 1)
    assert abs(same_rate["train_risk"] - control["train_risk"]) > 1e-2


def test_transport_shortens_the_steps(digits):
    made = trained(epochs=8, multiplier=0.2)
    lap, control = (course.run(digits, name, made, 2)["transport"] for name in ("lap", "control"))
    assert lap < 0.8 * control


def test_an_arm_that_diverges_says_so_by_its_risk_and_has_the_accuracy_of_guessing(digits):
    row = course.run(digits, "vanilla_lr100000", trained(epochs=6), 1)
    assert not math.isfinite(row["train_risk"])
    guessing = float((digits.second.labels == 0).double().mean())  # without finite outputs every image is of class 0
    assert row["last"] == guessing
    assert math.isfinite(course.run(digits, "vanilla", trained(epochs=1), 1)["train_risk"])


def test_without_validation_samples_the_first_half_of_the_test_set_chooses_the_epoch():
    data = course.data("digits", 3, 50, 0, (20, 40), None)
    row = course.run(data, "vanilla", trained(epochs=4), 1)
    assert (row["validation"], row["held_out_epoch"]) == (row["paper"], row["paper_epoch"])


def test_the_curve_is_the_accuracy_at_every_look(digits):
    made = trained(epochs=4)._replace(look_every=2, curve=True)
    row = course.run(digits, "vanilla", made, 1)
    curve = json.loads(row["curve"])
    assert [epoch for epoch, _ in curve] == [1, 3, 4]
    assert max(share for _, share in curve) == row["paper"]
    assert "curve" not in course.run(digits, "vanilla", made._replace(curve=False), 1)


def test_the_state_at_the_end_is_that_of_the_whole_training_set():
    data = course.data("digits", 3, 150, 30, (20, 40), None)  # more than is evaluated at once
    row = course.run(data, "vanilla", trained(epochs=1, lr=1e-12), 1)  # weights as they were drawn
    model = course.fresh_model(trained(), data, 1)
    with torch.no_grad():
        for x, _ in Batches(data.parts.train, 20, seed=1, normalise=data.parts.normalise).epoch(0):
            model.train()(x)  # moves the statistics of batch norm
        trace = model.eval()(data.parts.normalise(data.parts.train.x), trace=True)
    assert_close(row["transport"], sum(float(step.square().mean()) for step in trace.flat_steps), rtol=1e-4, atol=0)
    assert row["multiplier"] == 1.0


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_a_table_trains_by_the_recipe_of_its_data_set(dataset):
    config = load(TableConfig, overrides=[f"dataset={dataset}"])
    recipe = TrainConfig.model_validate({"dataset": dataset})
    assert config.course().train == recipe.model_copy(update={"validation": config.course().train.validation})
    assert (recipe.lr, recipe.milestones, recipe.gamma, recipe.epochs) == (0.1, [150, 225, 250], 0.1, 300)
    assert recipe.augment


def test_settings_of_training_are_read_one_by_one_and_written_in_full():
    config = load(TableConfig, overrides=["dataset=cifar10", "training.epochs=7", "training.arch_options.filters=4"])
    assert (config.training["epochs"], config.training["lr"]) == (7, 0.1)
    assert config.training["arch_options"] == {"filters": 4}
    assert TableConfig.model_validate(dump(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.seed=1", "training cannot set seed: the table decides it"),
        ("training.epocs=1", "Did you mean 'epochs'"),
        ("training.lr=-1", "lr: should be greater than 0"),
    ],
)
def test_settings_of_training_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        load(TableConfig, overrides=[change])


def test_a_run_fills_a_published_table_only_if_it_is_trained_and_looked_at_so():
    whole = ["dataset=cifar10", "first_half=5000", "second_half=5000"]
    assert load(TableConfig, overrides=whole).as_published
    assert load(TableConfig, overrides=[*whole, "device=cuda", "seeds=1", "train_size=[4000]"]).as_published
    for change in ("training.epochs=1", "dataset=digits", "look_every=2", "first_half=100", "training.batch=64"):
        assert not load(TableConfig, overrides=[*whole, change]).as_published


def test_products_in_bfloat16_change_the_course_a_little_and_leave_the_weights_in_float32(digits):
    seen = {}
    for bf16 in (False, True):
        made = trained(epochs=2, precision="bf16" if bf16 else "tf32")._replace(
            look_precision="bfloat16" if bf16 else "float32"
        )
        seen[bf16] = course.run(digits, "lap_divided", made, 1)
    risks = [seen[bf16]["train_risk"] for bf16 in (False, True)]
    assert risks[0] != risks[1]
    assert_close(risks[1], risks[0], rtol=0.1, atol=0)  # bfloat16 has 8 digits of 2, 10 steps


def test_arms_of_one_seed_start_from_the_same_weights_and_seeds_from_others(digits):
    first, again, other = (course.fresh_model(trained(), digits, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.1.weight"], other["head.1.weight"])


@pytest.fixture
def exact():
    """Everything in float64, so that two orders of summing part by rounding too small to change an answer."""
    torch.set_default_dtype(torch.float64)
    together.shared.cache_clear()
    yield
    together.shared.cache_clear()
    torch.set_default_dtype(torch.float32)


def exactly(data):
    return data._replace(parts=data.parts.to(dtype=torch.float64))


def equal_rows(found, expected):
    assert list(found) == list(expected)
    for column, value in expected.items():
        if column in ("train_risk", "transport", "multiplier"):
            assert_close(found[column], value, rtol=1e-6, atol=0, msg=lambda text, column=column: f"{column}: {text}")
        else:
            assert found[column] == value, column


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("method", "epochs"),
    [
        ("lap", 2),
        *(
            pytest.param(name, 5, marks=pytest.mark.slow)
            for name in ("vanilla", "lap", "lap_divided_lr0.03", "control")
        ),
    ],
)
def test_seeds_trained_side_by_side_have_the_rows_of_single_runs(method, epochs):
    made = trained(epochs=epochs, growth=1.0, schedule="multistep", milestones=[epochs - 1], gamma=0.1, augment=True)
    made = made._replace(look_every=2, curve=True)
    seeds = (2, 5, 7)
    data = [exactly(course.data("digits", seed, 50, 30, (20, 40), None)) for seed in seeds]
    rows = course.run_all(data, method, made, seeds)
    for own, seed, row in zip(data, seeds, rows, strict=True):
        equal_rows(row, course.run(own, method, made, seed))
    assert len({row["train_risk"] for row in rows}) == 3


@pytest.mark.slow
def test_side_by_side_products_are_in_bfloat16_where_asked_for(digits):
    risks = {}
    for bf16 in (False, True):
        made = trained(epochs=2, precision="bf16" if bf16 else "tf32")
        rows = course.run_all([digits, digits], "lap_divided", made, (1, 2))
        single = course.run(digits, "lap_divided", made, 1)["train_risk"]
        assert_close(rows[0]["train_risk"], single, rtol=0.1 if bf16 else 1e-4, atol=0)  # 8 digits of 2, 6 steps
        risks[bf16] = rows[0]["train_risk"]
    assert risks[False] != risks[True]


SMALL = ["train_size=[40]", "first_half=20", "second_half=30", "seeds=3", "arm=[vanilla,lap]"]
OWN = {
    "mnist_low_data": ["epochs=3", "filters=4", "blocks=2", "groups=2", "first_look=1", "batch=20", "encoder=[gain_1]"],
    "cifar10_low_data": ["validation=20", "training.epochs=2", "training.arch_options.blocks=2"],
    "cifar100_resnext50": ["validation=20", "training.epochs=1", "arm=[lap]"],
    "depth_without_batch_norm": ["validation=20", "depth=[1,2]", "block=[last_convolution]", "training.epochs=2"],
}
tables = pytest.mark.parametrize("name", OWN)


@pytest.mark.usefixtures("exact")
@pytest.mark.slow
@tables
def test_a_table_is_the_same_whichever_number_of_seeds_is_trained_side_by_side(name, tmp_path, monkeypatch):
    monkeypatch.setattr(together, "data", lambda *key: exactly(course.data(*key)))
    experiment = experiments.load(name)
    calls = []

    def counted(config, points, *folder):
        calls.append(len(points))
        return experiment.measure(config, points, *folder)

    def measured(path, config):
        counting = SimpleNamespace(**{**vars(experiment), "measure": counted})
        with RunFolder.open(path, name, config) as folder:
            return sweep(counting, config, folder)

    configs = [load(experiment.Config, overrides=[*SMALL, *OWN[name], f"ensemble={size}"]) for size in (1, 2)]
    single, grouped = (measured(tmp_path / str(config.ensemble), config) for config in configs)
    assert calls[: len(single)] == [1] * len(single)
    assert set(calls[len(single) :]) == {1, 2}
    pandas.testing.assert_frame_equal(grouped, single, rtol=1e-6)
    if hasattr(experiment, "PLAN"):  # then runs of either kind are parts of one
        merge(experiment, name, [tmp_path / "1"], tmp_path / "merged", configs[1])
        calls.clear()
        measured(tmp_path / "merged", configs[1])
        assert calls == []


@tables
def test_seeds_trained_side_by_side_cannot_be_none(name):
    with pytest.raises(ValueError, match=r"ensemble: should be greater than or equal to 1; got 0"):
        load(experiments.load(name).Config, overrides=["ensemble=0"])


@tables
def test_an_unknown_arm_is_refused_before_anything_is_measured(name):
    with pytest.raises(ValueError, match=r"an arm needs one of vanilla, lap.*got 'magic'"):
        load(experiments.load(name).Config, overrides=["arm=[vanilla,magic]"])


@pytest.mark.parametrize(("given", "mode"), [("compile=true", None), ("cuda_graphs=true", "reduce-overhead")])
def test_a_table_compiles_its_networks_where_it_is_asked(monkeypatch, given, mode):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net, mode=None: asked.append(mode))
    compiled(load(TableConfig, overrides=["device=cuda", given]).course().train, torch.nn.Identity())
    compiled(load(TableConfig).course().train, torch.nn.Identity())
    assert asked == [mode]


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_an_arm_of_a_table_is_compiled_as_one_network_and_gives_the_same_row(monkeypatch, seeds):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net, mode=None: asked.append(mode))
    data = [course.data("digits", seed, 20, 0, (10, 10), None) for seed in seeds]
    rows = [course.run_all(data, "vanilla", trained(epochs=1, **more), seeds) for more in ({}, {"compile": True})]
    assert (asked, rows[0]) == ([None], rows[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["cuda_graphs=true"], "cuda_graphs needs device cuda"),
        (["cuda_graphs=true", "device=cuda", "ensemble=2"], "not been tried with seeds side by side"),
        (["training.compile=true"], "training cannot set compile"),
    ],
)
def test_what_a_table_cannot_compile_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        load(TableConfig, overrides=given)


def test_how_fast_a_table_is_measured_is_no_other_configuration():
    table = experiments.load("cifar10_low_data")
    plain, fast = (load(table.Config, overrides=given) for given in ([], ["compile=true"]))
    assert config_digest(table, plain) == config_digest(table, fast)
    assert what(plain) == what(fast)


PUBLISHED = {"vanilla": {100: (50.0, 49.0, 51.0)}, "lap_divided": {100: (56.0, 55.0, 57.0)}}


def test_a_baseline_may_be_off_by_half_of_the_published_gain():
    (baseline,) = comparison.baselines(PUBLISHED, comparison.of_table(PUBLISHED))
    assert (baseline.published, baseline.tolerance) == ((49.0, 51.0), pytest.approx(3.0))


def test_only_what_is_compared_with_plain_training_needs_it():
    rows = published_rows(PUBLISHED, first=0)
    whole = comparison.of_table(PUBLISHED)
    assert comparison.plain(100) in comparison.measured(rows, whole)
    assert comparison.plain(100) not in comparison.measured(rows, [one for one in whole if one.other != VANILLA])


def test_the_tuned_arm_has_the_best_mean_at_its_own_size():
    rows = pandas.DataFrame([
        {"seed": seed, "train_size": size, "arm": arm, "method": "lap", "validation": accuracy}
        for size, arms in ((100, {"lap": (0.5, 0.5, 0.5), "lap_lr0.1": (0.6, 0.6, 0.1)}), (200, {"lap": (0.5,) * 3}))
        for arm, three in arms.items()
        for seed, accuracy in enumerate(three)
    ])  # fmt: skip
    assert set(comparison.tuned(rows, "lap", 100).arm) == {"lap"}
    assert comparison.tuned_keys(rows, 100) == [("lap", True)]
    assert comparison.tuned_keys(rows, 200) == []


def test_nothing_is_said_of_the_tuned_arm_where_one_validation_accuracy_is_not_known():
    """Which arm is best is not known then: the accuracies, transport and settings of the others are not those of it."""
    rows = published_rows(PUBLISHED, first=0)
    again = rows[rows.arm == "lap_divided"].assign(arm="lap_divided_lr0.1", learning_rate=0.1, transport=7.0)
    again = again.assign(train_risk=math.inf, validation=0.1)
    rows = pandas.concat([rows.assign(validation=0.5), again], ignore_index=True)
    lost = rows.assign(validation=rows.validation.where(rows.arm != "lap_divided"))
    (known,), (unknown,) = (
        [line for line in comparison.lines(some, PUBLISHED, ("paper", "held_out")) if "tuned" in line["arm"]]
        for some in (rows, lost)
    )
    assert known["diverged"] == 0
    assert known["held-out"] == known["held-out"]
    gain = comparison.gain(lost, ("lap_divided", True), VANILLA, 100, "held_out")
    assert gain is not None
    assert math.isnan(gain.value)
    said = {name: cell for name, cell in unknown.items() if cell == cell and cell != ""}
    assert said == {"n": 100, "arm": "LAP, divided, tuned", "run": "yes", "seeds": len(again)}
