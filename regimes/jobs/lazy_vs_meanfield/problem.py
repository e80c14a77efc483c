"""The data and the initial particles that all models of one comparison share."""

from typing import NamedTuple

import torch
from torch import Tensor

from regimes.conventions import generator, square_risk
from regimes.data.catalogue import dataset
from regimes.data.dataset import Dataset, classification_error
from regimes.data.teacher import Teacher
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.streams import LazyNet

NETS = ("lazy", "mean_field")  # the α-scaled net and the net at α = 1


class Problem(NamedTuple):
    """Data and initial particles of all seeds, stacked along the first axis; `classes` is None for a regression."""

    x: Tensor  # (seeds, n, d)
    y: Tensor  # (seeds, n, k)
    x_test: Tensor
    y_test: Tensor
    start: Particles  # (seeds, m, ·)
    classes: int | None
    teacher: Teacher | None  # of the seed whose particles are drawn
    drawn: int


def refuse_missing_samples(config: Config) -> None:
    """UserError if the images are not there, are fewer than are asked for, or of other classes."""
    if config.dataset in ("digits", "mnist") or config.classes is not None:  # the others are drawn, however many
        _drawn(config, 0)


def problem(config: Config) -> Problem:
    """Draw the data and the doubled particles, seed by seed; regression targets are scaled to unit mean square."""
    sets, starts = [], []
    for seed in range(config.seeds):
        data = _drawn(config, seed)
        if data.classes is None:
            unit = data.y_train.square().sum(1).mean().sqrt()
            data = data._replace(y_train=data.y_train / unit, y_test=data.y_test / unit)
        half = gaussian(
            config.width // 2,
            data.x_train.shape[1],
            data.y_train.shape[1],
            generators=[generator(seed, LazyNet.WEIGHTS)],
            std=config.init_std,
        )
        sets.append(data)
        starts.append(double(half))
    names = ("x_train", "y_train", "x_test", "y_test")
    x, y, x_test, y_test = (torch.stack([getattr(data, name) for data in sets]).to(config.device) for name in names)
    start = Particles(*(torch.cat(parts).to(config.device) for parts in zip(*starts, strict=True)))
    drawn = next((seed for seed, data in enumerate(sets) if _both_signs(data.teacher)), 0)
    return Problem(x, y, x_test, y_test, start, sets[0].classes, sets[drawn].teacher, drawn)


def _drawn(config: Config, seed: int) -> Dataset:
    """The samples of one seed."""
    return dataset(
        config.dataset,
        train=config.train_size,
        test=config.test_size,
        classes=config.classes,
        seed=seed,
        data_dir=config.data_dir,
    )


def _both_signs(teacher: Teacher | None) -> bool:
    """Whether a teacher has neurons of either sign, so that a picture of them shows both."""
    return teacher is not None and teacher.output[:, 0].sign().unique().numel() > 1


def losses(outputs: Tensor, targets: Tensor, classes: int | None) -> tuple[Tensor, Tensor]:
    """Square risk and share of wrong classes (NaN for a regression) of each run."""
    risk = square_risk(outputs, targets)
    if classes is None:
        return risk, torch.full_like(risk, torch.nan)
    error = [classification_error(one, target) for one, target in zip(outputs, targets, strict=True)]
    return risk, torch.stack(error)
