"""One training of α-scaled VGG-11 or of its tangent model, and what is seen of it on data."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from regimes.conventions import generator
from regimes.data.augment import compose, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import Classification, Labelled, classification
from regimes.data.digest import digest
from regimes.errors import UserError
from regimes.experiments.lazy.lazy_cnn.config import Config
from regimes.lab.config import dump
from regimes.models.initialise import initialise, xavier
from regimes.models.layout import channels_last
from regimes.models.residual import ResidualNet
from regimes.models.scaling import Centred
from regimes.models.vgg import vgg11
from regimes.streams import Classifier
from regimes.tangent.laziness import activation_flips
from regimes.threads import threads_for
from regimes.training.assemble import training_work
from regimes.training.loop import Training, descend
from regimes.training.objectives import Plain, Risk
from regimes.training.unfinished import Unfinished

CHUNK = 250  # images evaluated at once


class Seen(NamedTuple):
    """What a trained model says: accuracies on training and test samples, its outputs on the latter."""

    train_accuracy: float
    test_accuracy: float
    outputs: Tensor


def data(config: Config, seed: int, dtype: torch.dtype) -> Classification:
    """The samples of one seed on the device, to be normalised in the given precision."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' needs a CUDA graphics card and a torch built for it: pass --set device=cpu")
    parts = classification(
        config.dataset,
        train_size=config.train_size,
        test_size=config.test_size,
        seed=seed,
        data_dir=config.data_dir,
    )
    return parts.to(config.device, dtype)


def centred(config: Config, parts: Classification, alpha: float, seed: int, dtype: torch.dtype) -> Centred:
    """α(h(w) − h(w0)) at w = w0; the same weights for every α, drawn in float32."""
    net = vgg11(parts.shape, parts.classes, width=config.width)
    initialise(net, xavier, config.gain, generator=generator(seed, Classifier.WEIGHTS))
    return Centred(channels_last(net.to(config.device, dtype)), alpha)


def mean_square(alpha: float) -> Risk:
    """Mean over samples and outputs of (f − y)², y the one-hot labels, over α²."""

    def risk(output: Tensor, labels: Tensor) -> Tensor:
        target = one_hot(labels, output.shape[1]).to(output.dtype)
        return (output - target).square().mean() / alpha**2

    return risk


def train(
    model: nn.Module, parts: Classification, config: Config, alpha: float, seed: int, unfinished: Path | None = None
) -> None:
    """SGD with momentum and rate/(1 + β·epoch); all models of one seed see the same batches.

    unfinished: folder of what this training goes on from where it was stopped.
    """
    optimiser = SGD(model.parameters(), config.rate, momentum=config.momentum)
    schedule = LambdaLR(optimiser, lambda epoch: 1 / (1 + config.decay * epoch))
    augment = compose(random_crop(4), flip()) if config.augment else None
    batches = Batches(parts.train, config.batch, seed=seed, normalise=parts.normalise, augment=augment)
    training = Training(model, Plain(mean_square(alpha)), optimiser, schedule)
    kept = Unfinished(unfinished, {} if unfinished is None else _whose(config, parts, alpha, seed), [training])
    kept.take_up()
    with threads_for(training_work(model, batches)), kept.watched(list) as stepped:
        for _ in descend(training, batches, epochs=config.epochs):
            stepped()


def _whose(config: Config, parts: Classification, alpha: float, seed: int) -> dict[str, Any]:
    """What is trained: by this a kept state is known as one of the same."""
    plan = ("alpha", "alpha_float32", "seeds", "data_dir")
    settings = {name: value for name, value in dump(config).items() if name not in plan}
    return {**settings, "output_scale": alpha, "seed": seed, "data": digest([parts.train])}


@torch.no_grad()
def see(model: nn.Module, parts: Classification) -> Seen:
    """Outputs and accuracies of the present weights; NaN where an output is not finite."""
    model.eval()
    train, test = (
        torch.cat([model(parts.normalise(x)) for x in part.x.split(CHUNK)]) for part in (parts.train, parts.test)
    )
    return Seen(_accuracy(train, parts.train), _accuracy(test, parts.test), test.double())


def _accuracy(output: Tensor, part: Labelled) -> float:
    if not bool(output.isfinite().all()):
        return float("nan")
    return float((output.argmax(1) == part.labels).double().mean())


@torch.no_grad()
def stability(model: Centred, parts: Classification) -> float:
    """Share of (unit, test image) pairs whose pre-activation has the sign of the start, averaged over ReLU layers.

    NaN where training diverged. Source: [ChizatOyallonBach2019] section 3.3.
    """
    model.eval()
    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        return float("nan")
    total, count = 0.0, len(parts.test.labels)
    for x in parts.test.x.split(CHUNK):
        inputs = parts.normalise(x)
        now, start = (preactivations(net, inputs) for net in (model.model, model.start))
        flips = [float(activation_flips(a, b)) for a, b in zip(now, start, strict=True)]
        total += (1 - sum(flips) / len(flips)) * len(x)
    return total / count


def preactivations(net: nn.Module, x: Tensor) -> list[Tensor]:
    """What enters each ReLU of φ, as (n, units)."""
    assert isinstance(net, ResidualNet)
    found, z = [], x
    for layer in net.encoder.children():
        if isinstance(layer, nn.ReLU):
            found.append(z.flatten(1))
        z = layer(z)
    return found
