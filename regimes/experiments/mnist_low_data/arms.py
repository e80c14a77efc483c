"""What is trained: arms by name, and the course of one arm on one small training set."""

import re
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Classification, Labelled, Normalise, classification
from regimes.models.build import build
from regimes.models.initialise import initialise, orthogonal
from regimes.training.loop import Training, descend
from regimes.training.objectives import FORMS, LeastAction, Objective, Plain
from regimes.transport.energy import mean_over_features, transport_cost

METHODS = {"vanilla": None, "lap": "multiplied", "lap_divided": "divided", "control": "risk_only"}
WEIGHTS, ENCODER, HALVES = 61, 62, 63  # random streams of one seed
CHUNK = 100  # images evaluated at once


class Course(NamedTuple):
    """How all arms are trained and looked at; λ starts at `multiplier`."""

    learning_rate: float
    epochs: int
    batch: int
    filters: int
    blocks: int
    gain: float
    encoder_gain: float
    momentum: float
    weight_decay: float
    multiplier: float
    growth: float
    every: int
    first_look: int
    look_every: int
    look_precision: str

    def looks(self, epoch: int) -> bool:
        """Whether accuracy is measured after this many epochs; always after the last."""
        since = epoch - self.first_look
        return epoch == self.epochs or (since >= 0 and since % self.look_every == 0)


class Data(NamedTuple):
    """Training and validation samples, and samples of the two random halves of the test set, as tensors."""

    parts: Classification
    first: Labelled
    second: Labelled


def read_arm(name: str, learning_rate: float) -> tuple[str, float]:
    """Method and learning rate of an arm: "lap" has the given rate, "lap_lr0.1" its own."""
    method, own, rate = name.partition("_lr")
    if method not in METHODS or (own and re.fullmatch(r"\d*\.?\d+", rate) is None):
        raise ValueError(f"an arm needs one of {', '.join(METHODS)}, or such a name and _lr0.1; got {name!r}.")
    return method, float(rate) if own else learning_rate


def objective(method: str, course: Course) -> Objective:
    """Plain cross-entropy, or a form of the least-action objective with λ updated after the step."""
    form = METHODS[method]
    if form is None:
        return Plain()
    scheme = {"multiplier": course.multiplier, "growth": course.growth, "every": course.every}
    return LeastAction(**scheme, convention=mean_over_features, form=FORMS[form], level="batch_after")


@lru_cache(maxsize=1)
def data(name: str, seed: int, train_size: int, validation: int, halves: tuple[int, int], folder: str | None) -> Data:
    """The data of one size and seed, the same for all arms."""
    parts = classification(
        name, train_size=train_size, validation=validation, test_size=sum(halves), seed=seed, data_dir=folder
    )
    order = torch.randperm(sum(halves), generator=generator(seed, HALVES))
    first, second = (Labelled(parts.test.x[some], parts.test.labels[some]) for some in order.split(list(halves)))
    return Data(parts, first, second)


@torch.no_grad()
def accuracy(model: nn.Module, samples: Labelled, normalise: Normalise, precision: str = "float32") -> float:
    """Share of samples classified correctly, in eval mode."""
    context = nullcontext() if precision == "float32" else torch.autocast("cpu", dtype=getattr(torch, precision))
    model.eval()
    with context:
        correct = sum(
            int((model(normalise(x)).argmax(1) == labels).sum())
            for x, labels in zip(samples.x.split(CHUNK), samples.labels.split(CHUNK), strict=True)
        )
    return correct / len(samples.labels)


def run(data: Data, name: str, course: Course, seed: int) -> dict[str, Any]:
    """Train one arm; its accuracies by both protocols, and its state after the last epoch.

    paper: largest accuracy on `first` over the epochs looked at. honest: accuracy on `second` after the epoch with
    the largest validation accuracy, the earliest of them. last: on `second`, after the last epoch. refreshed: the same
    with batch norm's statistics taken anew from the training set.
    """
    method, rate = read_arm(name, course.learning_rate)
    model = build("resnet9", data.parts.shape, data.parts.classes, filters=course.filters, blocks=course.blocks)
    initialise(model, orthogonal, course.gain, generator=generator(seed, WEIGHTS))
    if course.encoder_gain != course.gain:
        initialise(model.encoder, orthogonal, course.encoder_gain, generator=generator(seed, ENCODER))
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=course.momentum, weight_decay=course.weight_decay)
    normalise = data.parts.normalise
    training = Training(model, objective(method, course), optimiser)
    batches = Batches(data.parts.train, course.batch, seed=seed, normalise=normalise)
    validation = data.parts.validation
    assert validation is not None
    best = {"paper": (-1.0, 0), "validation": (-1.0, 0)}
    weights: dict[str, Tensor] = {}
    for _ in descend(training, batches, epochs=course.epochs):
        if training.step or not course.looks(training.epoch):
            continue
        for protocol, samples in (("paper", data.first), ("validation", validation)):
            found = accuracy(model, samples, normalise, course.look_precision)
            if found > best[protocol][0]:
                best[protocol] = (found, training.epoch)
                if protocol == "validation":
                    weights = {key: value.clone() for key, value in model.state_dict().items()}
    end = state(training, data.parts.train, normalise)
    last = honest = accuracy(model, data.second, normalise)
    end["fitted"] = refresh(model, data.parts.train, normalise)
    end["refreshed"] = accuracy(model, data.second, normalise, course.look_precision)
    if best["validation"][1] < course.epochs:
        model.load_state_dict(weights)
        honest = accuracy(model, data.second, normalise)
    return {
        "method": method,
        "learning_rate": rate,
        "paper": best["paper"][0],
        "honest": honest,
        "last": last,
        "validation": best["validation"][0],
        "paper_epoch": best["paper"][1],
        "honest_epoch": best["validation"][1],
        **end,
    }


@torch.no_grad()
def refresh(model: nn.Module, train: Labelled, normalise: Normalise) -> float:
    """Replace batch norm's running statistics by those of the training set at the present weights.

    The running ones are means over the last tens of steps: with few steps they are those of other weights.
    Returns the accuracy on the training set in training mode, the net normalised by this one batch.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that is seen
    output = model.train()(normalise(train.x))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return float((output.argmax(1) == train.labels).double().mean())


@torch.no_grad()
def state(training: Training, train: Labelled, normalise: Normalise) -> dict[str, float]:
    """On the training set in eval mode: risk, accuracy, transport cost; and λ (1 where there is none)."""
    trace = training.model.eval()(normalise(train.x), trace=True)
    multiplier = getattr(training.objective, "multiplier", torch.ones(()))
    return {
        "train_risk": float(training.objective.risk(trace.output, train.labels)),
        "train_accuracy": float((trace.output.argmax(1) == train.labels).double().mean()),
        "transport": float(transport_cost(trace.flat_steps, convention=mean_over_features)),
        "multiplier": float(multiplier),
    }
