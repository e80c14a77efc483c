"""The data sets that `train` knows, and the settings that each takes where nothing else is given."""

from typing import Any

PLANE = ("circles", "donut1d", "donut2d", "squares2d", "spiral2d")
# Samples for training and validation.
POOL = {**dict.fromkeys(PLANE, 800), "digits": 1438, "mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
TEST = {**dict.fromkeys(PLANE, 200), "digits": 359, "mnist": 10_000, "cifar10": 10_000, "cifar100": 10_000}
SHAPES: dict[str, tuple[int, ...]] = {**dict.fromkeys(PLANE, (2,)), "digits": (1, 8, 8), "mnist": (1, 28, 28)}
SHAPES |= {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}
CLASSES = {**dict.fromkeys(PLANE, 2), "digits": 10, "mnist": 10, "cifar10": 10, "cifar100": 100}

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
# Source: author code of [Karkar2020], circles; the final layer is learned here.
_PLANE: dict[str, Any] = {
    **_COMMON,
    "arch": "dense",
    "optimiser": "adam",
    "lr": 0.01,
    "betas": [0.9, 0.99],
    "weight_decay": 0.0,
    "batch": 10,
    "epochs": 100,
    "schedule": "constant",
}
# Without batch norm a net diverges within a few steps at the rates of SGD below. The weights of contractive steps have
# no scale, as the step makes up for it, but their biases do: weights of norm 1 fit them.
CALMER: dict[str, dict[str, Any]] = {
    "dense": {"optimiser": "adam", "lr": 0.01},
    "hamiltonian": {"lr": 0.01},  # at 0.1 on CIFAR-10 its transport cost grows by a factor of 1,000 in twelve steps
    "contractive": {"optimiser": "adam", "lr": 0.004, "init": "orthogonal", "gain": 1.0, "weight_decay": 0.0},
}
RECIPES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(PLANE, _PLANE),
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
FIT_RECIPE: dict[str, Any] = {  # of regimes.fit: the caller's network and samples
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
