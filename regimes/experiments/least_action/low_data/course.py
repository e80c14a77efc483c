"""The course of one arm on one small training set, and what is measured on the way."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Classification, Labelled, Normalise, classification
from regimes.data.digest import digest
from regimes.experiments.least_action.low_data.arms import read_arm
from regimes.experiments.least_action.low_data.following import follow
from regimes.lab.config import dump
from regimes.models.build import build
from regimes.models.initialise import LAWS, initialise
from regimes.models.layout import channels_last
from regimes.models.residual import ResidualNet
from regimes.streams import FewSamples
from regimes.threads import threads_for
from regimes.training.assemble import (
    make_augmentation,
    make_objective,
    make_optimiser,
    make_schedule,
    prepared_for,
    training_work,
)
from regimes.training.config import TrainConfig
from regimes.training.loop import Training
from regimes.training.metrics import evaluate, multiplier
from regimes.transport.energy import mean_over_features

CHUNK = {"cpu": 100, "cuda": 250}  # images evaluated at once


class Course(NamedTuple):
    """How all arms are trained, and when and how they are looked at."""

    train: TrainConfig
    encoder_gain: float | None = None  # None: that of all weights
    first_look: int = 1
    look_every: int = 1
    look_precision: str = "float32"
    refreshed: bool = False  # measure with fresh statistics of batch norm, too
    curve: bool = False  # keep the accuracy on the first half at every look

    def looks(self, epoch: int) -> bool:
        """Whether accuracy is measured after this many epochs; always after the last."""
        since = epoch - self.first_look
        return epoch == self.train.epochs or (since >= 0 and since % self.look_every == 0)


class Data(NamedTuple):
    """Training and validation samples, and samples of the two random halves of the test set, as tensors."""

    parts: Classification
    first: Labelled
    second: Labelled

    @property
    def validation(self) -> Labelled:
        """What chooses the epoch: the validation samples, or where there are none the first half of the test set."""
        return self.parts.validation or self.first

    def to(self, device: str) -> "Data":
        """The same on a device."""
        return Data(self.parts.to(device), self.first.to(device), self.second.to(device))


@lru_cache(maxsize=1)
def data(name: str, seed: int, train_size: int, validation: int, halves: tuple[int, int], folder: str | None) -> Data:
    """The data of one size and seed, the same for all arms."""
    parts = classification(
        name, train_size=train_size, validation=validation, test_size=sum(halves), seed=seed, data_dir=folder
    )
    order = torch.randperm(sum(halves), generator=generator(seed, FewSamples.HALVES))
    first, second = (Labelled(parts.test.x[some], parts.test.labels[some]) for some in order.split(list(halves)))
    return Data(parts, first, second)


@torch.no_grad()
def accuracy(model: nn.Module, samples: Labelled, normalise: Normalise, precision: str = "float32") -> float:
    """Share of samples classified correctly, in eval mode."""
    device = samples.labels.device.type
    context = nullcontext() if precision == "float32" else torch.autocast(device, dtype=getattr(torch, precision))
    model.eval()
    correct = torch.zeros((), dtype=torch.long, device=device)
    with context:
        for x, labels in zip(samples.x.split(CHUNK[device]), samples.labels.split(CHUNK[device]), strict=True):
            correct += (model(normalise(x)).argmax(1) == labels).sum()
    return int(correct) / len(samples.labels)


def fresh_model(course: Course, data: Data, seed: int) -> ResidualNet:
    """The network with the initial weights of a seed, the same for all arms."""
    train = course.train
    model = build(train.arch, data.parts.shape, data.parts.classes, **train.arch_options)
    law = LAWS[train.init]
    initialise(model, law, train.gain, generator=generator(seed, FewSamples.WEIGHTS), biases=train.init_biases)
    if course.encoder_gain not in (None, train.gain):
        initialise(model.encoder, law, course.encoder_gain, generator=generator(seed, FewSamples.ENCODER))
    model = model.to(train.device)
    return channels_last(model) if train.channels_last and len(data.parts.shape) == 3 else model


def fresh_batches(course: Course, data: Sequence[Data], seeds: Sequence[int]) -> list[Batches]:
    """The training samples in the order and with the augmentation of each seed, the same for all arms."""
    train, augment = course.train, make_augmentation(course.train)
    return [
        Batches(own.parts.train, train.batch, seed=seed, normalise=own.parts.normalise, augment=augment)
        for own, seed in zip(data, seeds, strict=True)
    ]


class Looks:
    """What is seen of one net along training: its largest accuracies, and the weights that validation chooses."""

    def __init__(self, data: Data, course: Course) -> None:
        self.data, self.course = data, course
        self.best = {"paper": (-1.0, 0), "validation": (-1.0, 0)}  # and the number of epochs done by then
        self.curve: list[tuple[int, float]] = []
        self.weights: dict[str, Tensor] = {}

    done = False  # before the last epoch

    def stepped(self, risk: Tensor, samples: int) -> None:
        """Nothing is seen of a step."""

    def epoch_ended(self, net: Training) -> None:
        """A look, where it is time for one."""
        if self.course.looks(net.epoch):
            self.look(net.model, net.epoch)

    def look(self, model: nn.Module, epoch: int) -> None:
        """Measure the accuracies after an epoch, and keep what is the best so far."""
        data, precision = self.data, self.course.look_precision
        looks = {"paper": accuracy(model, data.first, data.parts.normalise, precision)}
        same = data.validation is data.first
        looks["validation"] = (
            looks["paper"] if same else accuracy(model, data.validation, data.parts.normalise, precision)
        )
        self.curve.append((epoch, looks["paper"]))
        for protocol, found in looks.items():
            if found > self.best[protocol][0]:
                self.best[protocol] = (found, epoch)
                if protocol == "validation":
                    self.weights = {key: value.clone() for key, value in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {"best": self.best, "curve": self.curve, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.best = {protocol: (found, epoch) for protocol, (found, epoch) in state["best"].items()}
        self.curve = [(epoch, found) for epoch, found in state["curve"]]
        self.weights = dict(state["weights"])

    def row(self, model: nn.Module, multiplier: float) -> dict[str, Any]:
        """All figures of the run, given the net after the last epoch and its λ (1 where there is none).

        paper: largest accuracy on `first` over the epochs looked at. held_out: accuracy on `second` after the epoch
        with the largest validation accuracy, the earliest of them. last: on `second`, after the last epoch. refreshed:
        the same with batch norm's statistics taken anew from the training set.

        A net that diverges is trained to the end all the same, and has the accuracies that it has: without finite
        outputs every image counts as one of class 0, which is guessing. Its train_risk is not finite, and says so.
        """
        data, course, normalise = self.data, self.course, self.data.parts.normalise
        last = held_out = accuracy(model, data.second, normalise)
        end = state(model, data.parts.train, normalise) | {"multiplier": multiplier}
        if course.refreshed:
            end["fitted"] = refresh(model, data.parts.train, normalise)
            end["refreshed"] = accuracy(model, data.second, normalise, course.look_precision)
        if self.best["validation"][1] < course.train.epochs:
            model.load_state_dict(self.weights)
            held_out = accuracy(model, data.second, normalise)
        found = {
            "paper": self.best["paper"][0],
            "held_out": held_out,
            "last": last,
            "validation": self.best["validation"][0],
            "paper_epoch": self.best["paper"][1],
            "held_out_epoch": self.best["validation"][1],
            **end,
        }
        return found | ({"curve": json.dumps(self.curve)} if course.curve else {})


def run(data: Data, name: str, course: Course, seed: int) -> dict[str, Any]:
    """Train one arm; its accuracies by both protocols, and its state after the last epoch: see `Looks.row`."""
    return run_all([data], name, course, [seed])[0]


def run_all(
    data: Sequence[Data], name: str, course: Course, seeds: Sequence[int], unfinished: Path | None = None
) -> list[dict[str, Any]]:
    """`run` for each of these seeds, their nets trained side by side if there are several; the same up to rounding.

    unfinished: folder of what these trainings go on from where they were stopped.
    """
    method, train = read_arm(name, course.train)
    with prepared_for(train, seeds[0]):
        rows = _train([own.to(train.device) for own in data], course._replace(train=train), seeds, unfinished)
    return [{"method": method, "learning_rate": train.lr} | row for row in rows]


def _train(data: Sequence[Data], course: Course, seeds: Sequence[int], folder: Path | None) -> list[dict[str, Any]]:
    train = course.train
    seen, batches = [Looks(own, course) for own in data], fresh_batches(course, data, seeds)
    nets = [_fresh_training(course, own, seed) for own, seed in zip(data, seeds, strict=True)]
    whose = {} if folder is None else _whose(course, data, seeds)
    follow(train, nets, batches, seen, whose, folder, epochs=train.epochs)
    with threads_for(training_work(nets[0].model, batches[0])):
        return [look.row(net.model, multiplier(net) or 1.0) for look, net in zip(seen, nets, strict=True)]


def _whose(course: Course, data: Sequence[Data], seeds: Sequence[int]) -> dict[str, Any]:
    """What is trained and looked at: by this a kept state is known as one of the same."""
    samples = [digest((own.parts.train, own.validation, own.first, own.second)) for own in data]
    return {**course._asdict(), "train": dump(course.train), "seeds": list(seeds), "data": samples}


def _fresh_training(course: Course, data: Data, seed: int) -> Training:
    model = fresh_model(course, data, seed)
    optimiser = make_optimiser(course.train, model)
    return Training(model, make_objective(course.train), optimiser, make_schedule(course.train, optimiser))


@torch.no_grad()
def refresh(model: nn.Module, train: Labelled, normalise: Normalise) -> float:
    """Replace batch norm's running statistics by those of the training set, one batch, at the present weights.

    The running ones are means over the last tens of steps: with few steps they are those of other weights.
    Returns the accuracy on the training set in training mode, the net normalised by this one batch.
    """
    x = normalise(train.x)
    fitted = (model.train()(x).argmax(1) == train.labels).double().mean()
    update_bn([x], model)
    return float(fitted)


def state(model: nn.Module, train: Labelled, normalise: Normalise) -> dict[str, float | None]:
    """On the training set in eval mode: risk, accuracy, transport cost."""
    whole = Batches(train, CHUNK[train.labels.device.type], normalise=normalise, shuffle=False)
    found = evaluate(model, whole, convention=mean_over_features)
    return {"train_risk": found.risk, "train_accuracy": found.accuracy, "transport": found.transport}
