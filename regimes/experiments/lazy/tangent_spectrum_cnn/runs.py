"""Eigenvalues of the tangent kernel of one net at its first weights."""

from typing import Any

import numpy as np
import torch

from regimes.conventions import generator
from regimes.data.classification import classification
from regimes.experiments.lazy.tangent_spectrum_cnn.config import Config
from regimes.models.costs import typical_work
from regimes.models.initialise import initialise, xavier
from regimes.models.vgg import vgg11
from regimes.streams import Classifier
from regimes.tangent.kernel import ntk
from regimes.tangent.spectrum import merge_outputs, spectrum
from regimes.threads import threads_for

SHOWN = 60  # eigenvalues kept beyond the first 20, evenly spaced in log i
MEMORY = 2 * 2**30  # bytes for Jacobians


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Of each net the eigenvalues, from the largest down, with their number i, all of them divided by the first."""
    return [_eigenvalues(config, point["width"], point["seed"]) for point in points]


def _eigenvalues(config: Config, width: int, seed: int) -> list[dict[str, Any]]:
    data = classification(config.dataset, train_size=config.images, test_size=1, seed=seed).to(dtype=torch.float64)
    net = vgg11(data.shape, data.classes, width=width)
    net = initialise(net, xavier, config.gain, generator=generator(seed, Classifier.WEIGHTS)).double()
    x = data.normalise(data.train.x)
    with threads_for(typical_work(net, x, config.images)):
        kernel = merge_outputs(ntk(net, x, memory=MEMORY))
    values = spectrum(kernel).values.flip(0)
    last = int((values > 0).sum())
    numbers = {*range(1, 21), *np.geomspace(20, last, SHOWN).round().astype(int).tolist()}
    return [
        {"index": i, "eigenvalue": float(values[i - 1] / values[0]), "outputs": data.classes, "count": len(values)}
        for i in sorted(numbers)
    ]
