"""One vanilla training from one initialisation, and how far its nets move the data before and after."""

from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import update_bn

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Classification, Labelled, classification
from regimes.lab.config import Settings
from regimes.models.image_nets import resnet9
from regimes.models.initialise import LAWS, initialise
from regimes.models.layout import channels_last
from regimes.models.residual import ResidualNet
from regimes.streams import Bias
from regimes.threads import threads_for
from regimes.training.assemble import training_work
from regimes.training.loop import Training, descend
from regimes.training.objectives import Plain

Gain = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Data, net, training and the gains of each law; configs/low_energy_bias.yaml is the real size."""

    dataset: Literal["digits", "mnist", "cifar10", "cifar100"] = Field(
        "digits", description="data set; digits needs no files"
    )
    orthogonal: tuple[Gain, ...] = Field((0.01, 0.1, 1.0), description="gains of orthogonal initial weights")
    kaiming: tuple[Gain, ...] = Field((0.3, 1.0, 2.0), description="gains of Kaiming normal initial weights")
    normal: tuple[Gain, ...] = Field((0.01, 0.1), description="standard deviations of normal initial weights")
    xavier: tuple[Gain, ...] = Field((), description="gains of Xavier normal initial weights")
    lecun: tuple[Gain, ...] = Field((), description="gains of LeCun's initial weights, N(0, 1/fan_in)")
    kaiming_uniform: tuple[Gain, ...] = Field((), description="gains of Kaiming uniform initial weights")
    uniform: tuple[Gain, ...] = Field((), description="standard deviations of uniform initial weights")
    truncated: tuple[Gain, ...] = Field((), description="standard deviations of normal initial weights, cut at two")
    seeds: int = Field(2, ge=2, description="number of seeds: training sets, test sets, orders of batches")
    train_size: int = Field(100, ge=2, description="training samples")
    test_size: int | None = Field(None, ge=1, description="test samples; none: the whole test set")
    filters: int = Field(4, ge=2, description="filters of each convolution")
    blocks: int = Field(9, ge=1, description="residual blocks")
    epochs: int = Field(4, ge=1, description="epochs of training")
    batch: int = Field(50, ge=2, description="samples a batch")
    rate: float = Field(0.1, gt=0, description="learning rate, divided by 10 after 1/2, 3/4 and 5/6 of the epochs")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    decay: float = Field(1e-4, ge=0, description="weight decay")


class Moved(NamedTuple):
    """Of a set of samples: accuracy, Σ_k ‖v_k‖² and Σ_k ‖v_k‖²/‖z_{k−1}‖², means over samples."""

    accuracy: float
    transport: float
    relative: float


def run(config: Config, law: str, gain: float, seed: int) -> dict[str, float]:
    """Accuracies and transport costs before and after training.

    Before training batch norm has the statistics of one epoch, so that eval mode is that of the initial weights.
    """
    data = classification(config.dataset, train_size=config.train_size, test_size=config.test_size, seed=seed)
    model = resnet9(data.shape, data.classes, filters=config.filters, blocks=config.blocks)
    initialise(model, LAWS[law], gain, generator=generator(seed, Bias.WEIGHTS))
    channels_last(model)
    batches = Batches(data.train, config.batch, seed=seed, normalise=data.normalise)
    with threads_for(training_work(model, batches)):
        return _train(config, data, model, batches)


def _train(config: Config, data: Classification, model: ResidualNet, batches: Batches) -> dict[str, float]:
    update_bn(batches.epoch(0), model)
    first = moved(model, data, data.train)
    optimizer = torch.optim.SGD(model.parameters(), config.rate, config.momentum, weight_decay=config.decay)
    milestones = [max(1, round(share * config.epochs)) for share in (1 / 2, 3 / 4, 5 / 6)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    for _ in descend(Training(model, Plain(), optimizer, schedule), batches, epochs=config.epochs):
        pass
    train, test = moved(model, data, data.train), moved(model, data, data.test)
    return {
        "train_accuracy": train.accuracy,
        "test_accuracy": test.accuracy,
        "transport": test.transport,
        "transport_train": train.transport,
        "relative": test.relative,
        "transport_start": first.transport,
        "relative_start": first.relative,
    }


@torch.no_grad()
def moved(model: ResidualNet, data: Classification, part: Labelled) -> Moved:
    """Accuracy and transport of one part of the data, in eval mode."""
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64)
    for x, labels in Batches(part, 500, normalise=data.normalise, shuffle=False).epoch(0):
        trace = model(x, trace=True)
        squares = torch.stack([_squares(step) for step in trace.flat_steps])
        sizes = torch.stack([_squares(state) for path in trace.paths for state in path[:-1]])
        correct = (trace.output.argmax(1) == labels).double()
        relative = squares / sizes.clamp(min=torch.finfo(torch.float64).tiny)
        totals += torch.stack([correct.sum(), squares.sum(), relative.sum()])
    return Moved(*(totals / len(part.labels)).tolist())


def _squares(step: Tensor) -> Tensor:
    return step.flatten(1).double().square().sum(1)


def points(config: Config) -> list[dict[str, Any]]:
    """Every gain of every law; seed after seed, so that a run cut short is a whole one of fewer seeds."""
    return [
        {"law": law, "gain": gain, "seed": seed}
        for seed in range(config.seeds)
        for law in LAWS
        for gain in getattr(config, law)
    ]


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run: accuracies and transport costs before and after training."""
    return [run(config, point["law"], point["gain"], point["seed"]) for point in points]
