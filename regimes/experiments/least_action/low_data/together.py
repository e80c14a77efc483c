"""The seeds of one arm, one after the other or trained side by side: rows that are the same up to rounding."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from regimes.experiments.least_action.low_data.arms import read_arm
from regimes.experiments.least_action.low_data.course import Course, Data, Looks, data, fresh_batches, fresh_model, run
from regimes.machine import autocast, prepared
from regimes.threads import threads_for
from regimes.training.assemble import make_objective, make_optimiser, make_schedule, training_work
from regimes.training.ensemble import Ensemble, descend_together


def measured(config: Any, points: Sequence[dict[str, Any]], course: Course, train_size: int) -> list[dict[str, Any]]:
    """A row for each of some points that differ in their seeds alone, in training of the sizes of a configuration."""
    seeds, halves = tuple(point["seed"] for point in points), (config.first_half, config.second_half)
    sets = shared(config.dataset, seeds, train_size, config.validation, halves, config.data_dir)
    return run_all(sets, points[0]["arm"], course, seeds)


@lru_cache(maxsize=1)
def shared(name: str, seeds: tuple[int, ...], *sizes: Any) -> tuple[Data, ...]:
    """The data of each seed, the same for all arms."""
    return tuple(data(name, seed, *sizes) for seed in seeds)


def run_all(data: Sequence[Data], name: str, course: Course, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """`run` for each of these seeds, their nets trained side by side if there are several."""
    if len(seeds) == 1:
        return [run(data[0], name, course, seeds[0])]
    method, train = read_arm(name, course.train)
    course = course._replace(train=train)
    rows = _train([own.to(train.device) for own in data], course, seeds)
    return [{"method": method, "learning_rate": train.lr} | row for row in rows]


def _train(data: Sequence[Data], course: Course, seeds: Sequence[int]) -> list[dict[str, Any]]:
    train, nets = course.train, []
    for own, seed in zip(data, seeds, strict=True):
        with prepared(seed, train.device):
            nets.append(fresh_model(course, own, seed))
    batches = [fresh_batches(course, own, seed) for own, seed in zip(data, seeds, strict=True)]
    seen = [Looks(own, course) for own in data]
    work = len(nets) * training_work(nets[0], batches[0])
    own = {"precision": train.precision, "cudnn_benchmark": train.cudnn_benchmark}
    with prepared(seeds[0], train.device, **own), threads_for(work):
        ensemble, objective = Ensemble(nets), make_objective(train)
        optimiser = make_optimiser(train, ensemble)
        steps = descend_together(
            ensemble,
            objective,
            optimiser,
            batches,
            epochs=train.epochs,
            scheduler=make_schedule(train, optimiser),
            autocast=autocast(train.device, train.bf16),
        )
        for step in steps:
            epoch = step.epoch + 1
            if step.number == len(batches[0]) - 1 and course.looks(epoch):
                for index, one in enumerate(seen):
                    one.look(ensemble.member(index), epoch)
        multiplier = torch.as_tensor(getattr(objective, "multiplier", 1.0), dtype=torch.float64)
        multipliers = multiplier.expand(len(seen)).tolist()
        return [one.row(ensemble.member(index), multipliers[index]) for index, one in enumerate(seen)]
