"""Settings of training runs: recipes, what is given wins, mistakes are refused; the objects made from them."""

from pathlib import Path

import pytest
import torch
from first_calls import forget_all
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.classification import CONSTANTS, NAMES
from regimes.data.classification import SHAPES as KNOWN_SHAPES
from regimes.errors import UserError
from regimes.lab.config import dump, load
from regimes.models.build import ARCHITECTURES
from regimes.training.assemble import assemble, check, make_augmentation, make_objective, make_optimiser, make_schedule
from regimes.training.checkpoint import data_of
from regimes.training.config import TrainConfig, resolve
from regimes.training.objectives import LeastAction, Plain
from regimes.training.recipes import CLASSES, POOL, RECIPES, SHAPES, TEST
from regimes.transport.energy import sum_over_features

CONFIGS = sorted((Path(__file__).parent.parent / "configs" / "train").glob("*.yaml"))
SMALL = {"dataset": "digits", "arch": "dense", "arch_options": {"blocks": 2, "width": 6}, "train_size": 40}


def settings(*overrides: str) -> TrainConfig:
    return load(TrainConfig, None, overrides)


@pytest.mark.parametrize("dataset", NAMES)
def test_every_data_set_has_a_recipe_that_can_be_assembled(dataset):
    config = TrainConfig(dataset=dataset)
    check(config)
    assert config.arch == RECIPES[dataset]["arch"]
    assert TrainConfig.model_validate(dump(config)) == config


@pytest.mark.parametrize("dataset", ["circles", "digits"])
def test_the_sizes_of_the_recipes_are_those_of_the_data(dataset):
    data = data_of(TrainConfig(dataset=dataset))
    assert data.shape == SHAPES[dataset]
    assert data.classes == CLASSES[dataset]
    assert len(data.train.labels) + len(data.validation.labels) == POOL[dataset]
    assert len(data.test.labels) == TEST[dataset]


def test_the_shapes_of_the_recipes_are_those_of_the_data_package():
    assert {name: shape for name, shape in SHAPES.items() if shape != (2,)} == KNOWN_SHAPES
    assert CONSTANTS.keys() < POOL.keys() == TEST.keys() == CLASSES.keys() == RECIPES.keys() == set(NAMES)


def test_published_settings_of_mnist_and_cifar():
    mnist, cifar = TrainConfig(dataset="mnist"), TrainConfig(dataset="cifar10")
    assert (mnist.lr, mnist.batch, mnist.epochs, mnist.milestones, mnist.gamma) == (0.01, 128, 30, [120, 160, 200], 0.2)
    assert (mnist.init, mnist.gain, mnist.arch_options) == ("orthogonal", 0.01, {"filters": 32})
    assert (mnist.multiplier, mnist.growth, mnist.every, mnist.form, mnist.level) == (
        5.0,
        1.0,
        5,
        "multiplied",
        "batch_after",
    )
    assert (cifar.lr, cifar.batch, cifar.epochs, cifar.milestones, cifar.gamma) == (0.1, 128, 300, [150, 225, 250], 0.1)
    assert (cifar.multiplier, cifar.growth, cifar.every, cifar.form, cifar.level) == (1.0, 1.0, 1, "divided", "batch")
    assert cifar.augment
    assert not mnist.augment
    assert (mnist.momentum, mnist.weight_decay, cifar.momentum, cifar.weight_decay) == (0.9, 1e-4, 0.9, 1e-4)


def test_what_is_given_wins_over_the_recipe_and_none_does_not():
    config = settings("dataset=mnist", "lr=0.5", "arch_options.blocks=3", "milestones=[2]", "epochs=null")
    assert (config.lr, config.milestones, config.epochs) == (0.5, [2], 30)
    assert config.arch_options == {"filters": 32, "blocks": 3}


def test_an_architecture_that_is_not_the_recipes_has_its_own_defaults():
    assert settings("dataset=mnist", "arch=dense").arch_options == {}


def test_a_net_without_batch_norm_does_not_take_the_rate_of_one_that_has_it():
    dense = settings("dataset=digits", "arch=dense")
    assert (dense.optimiser, dense.lr) == ("adam", 0.01)
    given = settings("dataset=digits", "arch=dense", "lr=0.02"), settings("arch=dense", "optimiser=sgd")
    assert [(one.optimiser, one.lr) for one in given] == [("sgd", 0.02), ("sgd", RECIPES["digits"]["lr"])]


@pytest.mark.parametrize(
    ("given", "validation"),
    [
        ({}, 6000),
        ({"train_size": 300}, 1000),
        ({"train_size": 59_500}, 500),
        ({"train_size": 60_000}, 0),
        ({"train_size": 300, "validation": 17}, 17),
        ({"max_steps": 2, "batch": 8}, 6000),
    ],
)
def test_validation_samples_by_default(given, validation):
    assert TrainConfig(dataset="mnist", **given).validation == validation


@pytest.mark.parametrize(("steps", "most"), [(1, 100), (5, 160), (44, 300), (45, None), (500, None), (None, None)])
def test_a_run_within_its_first_epoch_measures_no_more_than_it_trained_on(steps, most):
    config = TrainConfig(dataset="digits", arch="dense", arch_options={"blocks": 1, "width": 2}, max_steps=steps)
    setup = assemble(config)
    assert len(setup.batches) == 41
    assert len(data_of(config).validation.labels) == len(setup.data.validation.labels) == 143
    sizes = [part.samples for part in (setup.measured, setup.fitted, setup.test)]
    whole = [143, 1295, 359]
    assert sizes == (whole if most is None or steps > 40 else [min(most, size) for size in whole])


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("lr=0", "lr"),
        ("lr=-0.1", "lr"),
        ("lr=.inf", "lr"),
        ("multiplier=0", "multiplier"),
        ("multiplier=-1", "multiplier"),
        ("growth=-1", "growth"),
        ("every=0", "every"),
        ("p=0.5", "p"),
        ("epochs=0", "epochs"),
        ("max_steps=0", "max_steps"),
        ("batch=0", "batch"),
        ("train_size=0", "train_size"),
        ("momentum=1", "momentum"),
        ("gamma=0", "gamma"),
        ("betas=[0.9]", "betas"),
        ("form=added", "multiplied"),
        ("level=sample", "batch_after"),
        ("optimiser=sgdm", "adamw"),
        ("schedule=step", "cosine"),
        ("dataset=imagenet", "cifar100"),
        ("seed=-1", "seed"),
        ("lrr=0.1", "'lr'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(override, part):
    with pytest.raises(ValueError, match=part) as caught:
        settings(override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["arch=resnet10"], "resnet9"),
        (["arch_options.filtres=3"], "filters"),
        (["arch_options.filters=0"], "filters"),
        (["batch=1"], "batch normalisation"),
        (["dataset=circles", "arch=resnet9"], "arch=dense"),
        (["dataset=circles", "augment=true"], "augment"),
        (["dataset=circles", "cutout=4"], "cutout"),
        (["nesterov=true", "momentum=0"], "nesterov"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_data_is_read(overrides, part):
    with pytest.raises(ValueError, match=part) as caught:
        check(settings(*overrides))
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_is_fine_without_batch_norm():
    check(settings("dataset=circles", "batch=1"))


def test_all_settings_of_least_action_arrive():
    given = {"multiplier": 3.0, "growth": 0.5, "every": 7, "p": 1.5, "level": "running", "memory": 0.25}
    config = TrainConfig(**SMALL, lap=True, **given, form="risk_only", convention="sum_over_features")
    objective = make_objective(config)
    assert isinstance(objective, LeastAction)
    found = (float(objective.multiplier), objective.growth, objective.every, objective.p, objective.level)
    assert (*found, objective.memory) == tuple(given.values())
    assert objective.form.__name__ == "risk_only"
    assert objective.convention is sum_over_features
    assert isinstance(make_objective(TrainConfig(**SMALL)), Plain)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sgd", {"momentum": 0.3}), ("adam", {"betas": (0.5, 0.6)}), ("adamw", {"betas": (0.5, 0.6)})],
)
def test_all_settings_of_the_optimiser_arrive(name, expected):
    config = TrainConfig(**SMALL, optimiser=name, lr=0.7, momentum=0.3, betas=[0.5, 0.6], weight_decay=0.2)
    optimiser = make_optimiser(config, assemble(config).training.model)
    assert type(optimiser).__name__.lower() == name
    group = optimiser.param_groups[0]
    assert {"lr": 0.7, "weight_decay": 0.2, **expected}.items() <= group.items()


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("multistep", [1.0, 0.1, 0.1, 0.01]),
        ("cosine", [1.0, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]),
    ],
)
def test_learning_rates_by_epoch(schedule, rates):
    config = TrainConfig(**SMALL, lr=1.0, epochs=4, schedule=schedule, milestones=[1, 3], gamma=0.1)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], config.lr)
    plan = make_schedule(config, optimiser)
    found = []
    for _ in rates:
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if plan is not None:
            plan.step()
    assert_close(torch.tensor(found), torch.tensor(rates))


def test_weights_depend_on_the_seed_alone():
    def weights(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)  # the global state plays no part
        model = assemble(TrainConfig(**SMALL, seed=seed)).training.model
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert_close(weights(3), weights(3), rtol=0, atol=0)
    assert not torch.equal(weights(3), weights(4))


def test_images_have_their_channels_last_unless_told_otherwise():
    few = {"dataset": "digits", "arch_options": {"filters": 4, "blocks": 1}, "train_size": 40}

    def weight(**given: object) -> torch.Tensor:
        return next(
            p for p in assemble(TrainConfig(**few, **given)).training.model.parameters() if p.shape[1:2] == (4,)
        )

    assert weight().is_contiguous(memory_format=torch.channels_last)
    assert weight(channels_last=False).is_contiguous()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configuration_files_are_valid(file):
    config = load(TrainConfig, file, ["device=cpu"])
    check(config)


def test_there_are_configuration_files():
    assert {"circles", "digits", "mnist_300", "cifar10", "cifar100"} <= {file.stem for file in CONFIGS}


def test_augmentation_is_crop_and_flip_then_cutout_as_far_as_asked_for():
    images = torch.full((40, 1, 8, 8), 255, dtype=torch.uint8)
    black = {}
    for overrides in ("augment=false", "cutout=2", "augment=true", "[both]"):
        given = ["augment=true", "cutout=2"] if overrides == "[both]" else [overrides]
        made = make_augmentation(load(TrainConfig, overrides=["dataset=digits", *given]))
        black[overrides] = 0.0 if made is None else float((made(images, generator(0)) == 0).double().mean())
    assert black["augment=false"] == 0
    assert 2 / 64 < black["cutout=2"] <= 4 / 64  # a square of 2 × 2, cut off at the border
    assert black["[both]"] > black["augment=true"] > 0.2


@pytest.mark.parametrize("given", ["compile", "cuda_graphs"])
def test_times_sorted_within_the_network_are_not_compiled(given, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    config = {"arch": "resnet20", "mean_field": True, "device": "cuda", given: True}
    with pytest.raises(ValueError, match=r"cannot be compiled.*tau_sort=epoch"):
        check(TrainConfig(**config))
    for sort in ("epoch", "never"):
        check(TrainConfig(**config, tau_sort=sort))
    check(TrainConfig(**{**config, "mean_field": False}))


def test_a_hamiltonian_net_has_a_rate_of_its_own_unless_one_is_given():
    assert resolve({"dataset": "cifar10", "arch": "hamiltonian"})["lr"] == 0.01
    assert resolve({"dataset": "cifar10", "arch": "hamiltonian"})["optimiser"] == "sgd"
    assert resolve({"dataset": "cifar10", "arch": "hamiltonian", "lr": 0.2})["lr"] == 0.2
    assert resolve({"dataset": "cifar10", "arch": "resnet9"})["lr"] == 0.1


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_can_be_made_by_the_first_call_of_a_process(arch):
    assert forget_all() > 0
    check(TrainConfig(dataset="digits", arch=arch))


def test_a_cutout_that_leaves_nothing_of_an_image_is_refused():
    with pytest.raises(UserError, match="have 8, so that nothing would be left"):
        check(TrainConfig(dataset="digits", cutout=8))
    check(TrainConfig(dataset="digits", cutout=7))


def test_milestones_ask_for_their_schedule_where_no_other_one_is_given():
    assert settings("dataset=circles", "milestones=[1]").schedule == "multistep"
    assert settings("dataset=circles", "milestones=[1]", "schedule=cosine").schedule == "cosine"
    assert settings("dataset=circles").schedule == "constant"
