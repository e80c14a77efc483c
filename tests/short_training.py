"""Training runs of a second, for the tests."""

from pathlib import Path
from typing import Any

from regimes.training.config import TrainConfig
from regimes.training.run import Outcome, train_one

# Batches of 16 and a last one of 8; batch norm, momentum, a schedule and λ all have a state.
SETTINGS: dict[str, Any] = {
    "dataset": "digits",
    "arch": "dense",
    "arch_options": {"blocks": 2, "width": 6, "batch_norm": True},
    "train_size": 56,
    "validation": 30,
    "test_size": 40,
    "batch": 16,
    "epochs": 4,
    "lr": 0.05,
    "schedule": "multistep",
    "milestones": [2],
    "lap": True,
    "every": 3,
}
STEPS = 4  # an epoch


def short(**changes: Any) -> TrainConfig:
    """The settings, some of them changed."""
    return TrainConfig(**{**SETTINGS, **changes})


def train(path: Path, **changes: Any) -> Outcome:
    """A short run in a folder."""
    return train_one(short(**changes), path)
