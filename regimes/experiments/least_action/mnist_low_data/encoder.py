"""The frozen encoder of the 2019 protocol: that of an autoencoder, trained on images without their labels."""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Classification, classification
from regimes.data.digest import digest
from regimes.experiments.least_action.mnist_low_data.config import Config
from regimes.lab.tensor_files import read_tensors, write_tensors
from regimes.models.image_nets import resnet9
from regimes.models.initialise import initialise, orthogonal
from regimes.streams import FewSamples
from regimes.threads import threads_for
from regimes.training.assemble import training_work

FILE, SEED, BATCH = "encoder.pt", 0, 128


class Trained(NamedTuple):
    """Weights of an encoder, and the mean square error a pixel of the images that its autoencoder gives back."""

    weights: dict[str, Tensor]
    error: float


def autoencoder(shape: tuple[int, ...], filters: int) -> nn.Sequential:
    """The encoder of ResNet9, and a decoder that mirrors it: conv 5×5 transposed, stride 2, ReLU, conv 3×3.

    The decoder of the author code is not known to us. Sizes are those of the encoder backwards.
    """
    encoder = resnet9(shape, 10, filters=filters, blocks=1).encoder
    channels, height, width = shape
    rest = ((height + 1) % 2, (width + 1) % 2)
    half = filters // 2
    decoder = nn.Sequential(
        nn.ConvTranspose2d(filters, half, 5, stride=2, padding=2, output_padding=rest),
        nn.ReLU(),
        nn.Conv2d(half, channels, 3, padding=1),
    )
    return nn.Sequential(encoder, decoder)


def train_autoencoder(data: Classification, filters: int, epochs: int) -> Trained:
    """Orthogonal weights of gain 1, Adam with its default settings, mean square error, batches of 128."""
    model = autoencoder(data.shape, filters).to(data.train.x.device)
    initialise(model, orthogonal, 1.0, generator=generator(SEED, FewSamples.AUTOENCODER))
    optimizer = torch.optim.Adam(model.parameters())
    batches = Batches(data.train, BATCH, seed=SEED, normalise=data.normalise)
    errors: list[Tensor] = []
    with threads_for(training_work(model, batches)):
        for epoch in range(epochs):
            errors = []
            for x, _ in batches.epoch(epoch):
                optimizer.zero_grad(set_to_none=True)
                error = mse_loss(model(x), x)
                error.backward()
                optimizer.step()
                errors.append(error.detach())
    weights = {name: value.detach().cpu().clone() for name, value in model[0].state_dict().items()}
    return Trained(weights, float(torch.stack(errors).mean()))


def trained_encoder(config: Config, folder: Path | None) -> Trained:
    """The one encoder of a run. With a folder it is kept there, and read again where training goes on.

    One for all seeds, as in a protocol that trains it once beforehand: it sees neither labels nor test images, so
    seeds share nothing by it that they would not share by the encoder of a published net. Intervals over seeds do not
    hold the chance in its own training.
    """
    sizes = (config.encoder_images, config.filters, config.encoder_epochs)
    data = _images(config.dataset, config.encoder_images, config.data_dir)
    whose = {"sizes": list(sizes), "images": digest([data.train])}
    path = None if folder is None else folder / FILE
    if path is not None and path.exists():
        held = read_tensors(path, "delete it, and the encoder is trained anew")
        if held["whose"] == whose:
            return Trained(held["weights"], held["error"])
    found = _trained(config.dataset, config.data_dir, config.device, *sizes)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {"whose": whose, "weights": found.weights, "error": found.error})
    return found


@lru_cache(maxsize=1)
def _images(dataset: str, images: int | None, data_dir: str | None) -> Classification:
    return classification(dataset, train_size=images, test_size=1, seed=SEED, data_dir=data_dir)


@lru_cache(maxsize=1)
def _trained(dataset: str, data_dir: str | None, device: str, images: int | None, *sizes: Any) -> Trained:
    return train_autoencoder(_images(dataset, images, data_dir).to(device), *sizes)
