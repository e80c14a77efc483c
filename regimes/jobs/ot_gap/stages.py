"""From a checkpoint and a data set to the clouds that its stages transport, and the maps as callables."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regimes.conventions import generator
from regimes.data.classification import Classification, Labelled
from regimes.errors import UserError
from regimes.jobs.ot_gap.config import DEFAULT_POINTS, Config
from regimes.models.costs import typical_work
from regimes.models.residual import ResidualNet, cloud
from regimes.models.weights import refuse_not_finite
from regimes.streams import GapJob
from regimes.threads import threads_for
from regimes.training.checkpoint import data_of, load_checkpoint, model_of
from regimes.transport.energy import measure

BATCH = 16  # convolutions in float64 are several times slower on larger batches
ENERGIES: tuple[str, ...] = ("transport", "action", "distance", "length")
Map = Callable[[Tensor], Tensor]


class Case(NamedTuple):
    """One checkpoint, its network in eval mode, and the points it is judged on, normalised."""

    path: str
    network: ResidualNet
    config: dict[str, Any]
    inputs: Tensor
    labels: Tensor
    stages: tuple[int, ...]


class Stage(NamedTuple):
    """What one segment of blocks does to the points: clouds (n, d) in float64, steps' lengths (n, L), energies."""

    number: int
    x: np.ndarray
    t: np.ndarray
    shape: tuple[int, ...]
    steps: np.ndarray
    energies: dict[str, float]


def open_case(path: str, config: Config) -> Case:
    """Load a checkpoint and draw its points; every mistake of the user is a ValueError that names the file."""
    checkpoint = load_checkpoint(path)
    network = model_of(checkpoint)
    refuse_not_finite(Path(path), network)
    try:
        data = data_of(checkpoint.config, data_dir=config.data_dir)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the points of {path}: {error}") from None
    chosen = _choose(data, config, Path(path))
    inputs = data.normalise(chosen.x)
    return Case(path, network, checkpoint.config, inputs, chosen.labels, _stages(network, config.stage, path))


def _choose(data: Classification, config: Config, path: Path) -> Labelled:
    part = getattr(data, config.split)
    if part is None:
        raise UserError(f"the run of {path} kept no validation samples; pass --split test or --split train")
    there = len(part.labels)
    count = min(DEFAULT_POINTS, there) if config.points is None else config.points
    if count > there:
        raise UserError(
            f"the {config.split} part that {path} was trained with has {there} samples; got --points {count}. "
            f"Pass --points {there} or fewer"
        )
    order = torch.randperm(there, generator=generator(config.seed, GapJob.CHOICE))[:count]
    return Labelled(part.x[order], part.labels[order])


def _stages(network: ResidualNet, stage: int | None, path: str) -> tuple[int, ...]:
    """The stages asked for that have a map within one space."""
    count = len(network.segments)
    if count == 0:
        raise UserError(
            f"the network in {path} has no residual blocks, so no map within a space to judge; "
            "give a checkpoint of another architecture, for example resnet9"
        )
    if stage is not None and not 0 <= stage < count:
        known = "stage 0 only" if count == 1 else f"stages 0 to {count - 1}"
        raise UserError(f"the network in {path} has {known}; got --stage {stage}")
    wanted = range(count) if stage is None else (stage,)
    found = tuple(index for index in wanted if len(blocks(network, index)) > 0)
    if not found:
        raise UserError(
            f"stage {stage if stage is not None else 0} of the network in {path} is one block that changes the space: "
            "there is no map within a space to judge; choose another --stage or checkpoint"
        )
    return found


def blocks(network: ResidualNet, index: int) -> list[Map]:
    """The blocks of a stage that act within its space."""
    return network.segment(index).maps()


def entry(network: ResidualNet, index: int) -> Map:
    """Inputs of the network → states where the map of a stage starts."""

    def enter(inputs: Tensor) -> Tensor:
        z = network.encoder(inputs)
        for segment in list(network.segments)[:index]:
            z = segment(z)
        segment = network.segment(index)
        return segment.blocks[0](z) if segment.changes_space else z

    return enter


@torch.no_grad()
def transported(case: Case, p: float, device: str) -> tuple[list[Stage], float]:
    """Run all points through the network in float64: the stages, and the share of points it classifies rightly."""
    network = case.network.double().to(device)
    work = typical_work(network, case.inputs[:1].double().to(device), min(BATCH, len(case.inputs)))
    with threads_for(work):
        return _transported(case, network, p, device)


def _transported(case: Case, network: ResidualNet, p: float, device: str) -> tuple[list[Stage], float]:
    parts: dict[int, list[tuple[np.ndarray, ...]]] = {index: [] for index in case.stages}
    energies: dict[int, dict[str, float]] = {index: dict.fromkeys(ENERGIES, 0.0) for index in case.stages}
    shapes: dict[int, tuple[int, ...]] = {}
    right = 0
    for inputs, labels in _batches(case, device):
        trace = network(inputs.double(), trace=True)
        right += int((trace.output.argmax(1) == labels).sum())
        for index in case.stages:
            path = cloud(trace, network, index)
            _refuse_nan(path, case.path, index)
            found = measure([path], p=p)
            for name in ENERGIES:
                energies[index][name] += float(getattr(found, name)) * len(inputs) / len(case.labels)
            shapes[index] = tuple(path[0].shape[1:])
            lengths = [(after - before).flatten(1).norm(dim=1) for before, after in pairwise(path)]
            arrays = (path[0].flatten(1), path[-1].flatten(1), torch.stack(lengths, dim=1))
            parts[index].append(tuple(array.cpu().numpy() for array in arrays))
    stages = []
    for index in case.stages:
        x, t, steps = (np.concatenate(pieces) for pieces in zip(*parts.pop(index), strict=True))
        stages.append(Stage(index, x, t, shapes[index], steps, energies[index]))
    return stages, right / len(case.labels)


def _batches(case: Case, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    for inputs, labels in zip(case.inputs.split(BATCH), case.labels.split(BATCH), strict=True):
        yield inputs.to(device), labels.to(device)


def _refuse_nan(path: tuple[Tensor, ...], name: str, index: int) -> None:
    for number, state in enumerate(path):
        if not bool(torch.isfinite(state).all()):
            raise UserError(
                f"the states of {name} are NaN or infinite (stage {index}, after block {number}): its training has "
                "diverged; give a checkpoint from before that"
            )
