"""Settings of published and of small training runs, as data: what a data set takes where nothing else is said."""

from typing import Any

POOL = {"circles": 800, "digits": 1438, "mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}  # train and validation
TEST = {"circles": 200, "digits": 359, "mnist": 10_000, "cifar10": 10_000, "cifar100": 10_000}
SHAPES = {"circles": (2,), "digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}
CLASSES = {"circles": 2, "digits": 10, "mnist": 10, "cifar10": 10, "cifar100": 100}

_COMMON: dict[str, Any] = {
    "optimiser": "sgd",
    "momentum": 0.9,
    "betas": [0.9, 0.999],
    "weight_decay": 1e-4,
    "schedule": "multistep",
    "milestones": [],
    "gamma": 0.1,
    "init": "kaiming",
    "gain": 1.0,
    "augment": False,
    "multiplier": 1.0,
    "growth": 1.0,
    "every": 1,
    "form": "divided",
    "level": "batch",
}
# Source: author code of [Karkar2020], 2020.
_CIFAR: dict[str, Any] = {
    **_COMMON,
    "lr": 0.1,
    "batch": 128,
    "epochs": 300,
    "milestones": [150, 225, 250],
    "augment": True,
}
RECIPES: dict[str, dict[str, Any]] = {
    # Source: author code of [Karkar2020], circles; the final layer is learned here.
    "circles": {
        **_COMMON,
        "arch": "dense",
        "optimiser": "adam",
        "lr": 0.01,
        "betas": [0.9, 0.99],
        "weight_decay": 0.0,
        "batch": 10,
        "epochs": 100,
        "schedule": "constant",
    },
    "digits": {
        **_COMMON,
        "arch": "resnet9",
        "lr": 0.05,
        "batch": 32,
        "epochs": 15,
        "schedule": "cosine",
    },
    # Source: author code of [Karkar2020], 2019.
    "mnist": {
        **_COMMON,
        "arch": "resnet9",
        "lr": 0.01,
        "batch": 128,
        "epochs": 30,
        "milestones": [120, 160, 200],
        "gamma": 0.2,
        "init": "orthogonal",
        "gain": 0.01,
        "multiplier": 5.0,
        "growth": 1.0,
        "every": 5,
        "form": "multiplied",
        "level": "batch_after",
    },
    "cifar10": {**_CIFAR, "arch": "resnet9"},
    "cifar100": {**_CIFAR, "arch": "resnext50"},
}
OWN: dict[str, Any] = {  # of a network and samples of one's own
    **{name: value for name, value in _COMMON.items() if name not in ("init", "gain", "augment")},
    "lr": 0.05,
    "batch": 32,
    "epochs": 10,
    "schedule": "constant",
}
ARCH_OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("digits", "resnet9"): {"filters": 16},
    ("mnist", "resnet9"): {"filters": 32},
    ("cifar10", "resnet9"): {"filters": 64},
    ("cifar100", "resnet9"): {"filters": 64},
}
SPARE = 1000  # validation samples beside a training subset


def resolve(given: dict[str, Any]) -> dict[str, Any]:
    """All settings: those given, and those of the data set's recipe where nothing (or None) is given.

    Validation samples: 10 % of the pool, or beside a training subset SPARE of the rest (what there is, if less). With
    `max_steps`, no more validation and test samples than the steps train on, but 100; the training samples are those
    of the whole run.
    """
    dataset = given.get("dataset")
    if not isinstance(dataset, str):  # nothing, or what validation will refuse
        dataset = "digits"
    recipe = RECIPES.get(dataset, RECIPES["digits"])
    options = given.get("arch_options") or {}
    values = {**recipe, **{key: value for key, value in given.items() if value is not None}}
    if isinstance(options, dict) and isinstance(values["arch"], str):
        values["arch_options"] = {**ARCH_OPTIONS.get((dataset, values["arch"]), {}), **options}
    pool, train, steps = POOL.get(dataset, 0), given.get("train_size"), given.get("max_steps")
    most = max(100, steps * values["batch"]) if isinstance(steps, int) and isinstance(values["batch"], int) else None
    if given.get("validation") is None:
        spare = max(0, pool - train) if isinstance(train, int) else pool
        held = min(SPARE, spare) if isinstance(train, int) else pool // 10
        values["validation"] = held if most is None else min(held, most)
        if values["validation"] < held and not isinstance(train, int):
            values["train_size"] = pool - held
    if given.get("test_size") is None and most is not None:
        values["test_size"] = min(most, TEST.get(dataset, most))
    return values
