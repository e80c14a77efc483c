"""The networks, objectives and batches that are tried; tiny ones where the device is a CPU, which only rehearses."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from regimes.conventions import generator
from regimes.data.augment import compose, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import CONSTANTS, Labelled, Normalise
from regimes.models.build import build
from regimes.models.initialise import initialise, kaiming
from regimes.models.layout import channels_last
from regimes.models.residual import ResidualNet
from regimes.models.timed import timed
from regimes.training.ensemble import Ensemble, descend_together
from regimes.training.loop import Training, descend
from regimes.training.objectives import FORMS, LEVELS, LeastAction, Objective, Plain

RULE: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4, "fused": True}
CLASSES = 10
Net = tuple[str, dict[str, Any], bool]  # architecture, options, whether its blocks have times
FULL: dict[str, Net] = {
    "resnet9": ("resnet9", {"filters": 64}, False),
    "resnext50": ("resnext50", {}, False),
}
SMALL: dict[str, Net] = {
    "resnet9": ("resnet9", {"filters": 8, "blocks": 3}, False),
    "resnext50": ("resnext50", {"cardinality": 2}, False),
    "timed resnet20": ("preact_resnet", {"depth": 20}, True),
}
TINY: dict[str, Net] = {
    "resnet9": ("resnet9", {"filters": 2, "blocks": 2}, False),
    "resnext50": ("resnext50", {"cardinality": 1, "width": 1}, False),
    "timed resnet20": ("preact_resnet", {"depth": 8}, True),
}


def nets(device: str, *, full: bool = False) -> dict[str, Net]:
    """Networks by name: of full size, or small ones where the answer counts and not the time."""
    if device == "cuda":
        return FULL if full else SMALL
    return {name: net for name, net in TINY.items() if name in FULL or not full}


def side(device: str) -> int:
    """Pixels of an image along each side."""
    return 32 if device == "cuda" else 8


def objectives() -> dict[str, Callable[[], Objective]]:
    """The risk alone, and least action in every form and at every level."""
    pairs = itertools.product(FORMS, LEVELS)
    made = {
        f"{form}, {level}": lambda form=form, level=level: LeastAction(form=form, level=level, growth=0.1)
        for form, level in pairs
    }
    return {"plain": Plain, **made}


def network(net: Net, device: str, dtype: torch.dtype, *, last: bool = True, seed: int = 0) -> ResidualNet:
    """A network with Kaiming weights of a seed, drawn on the CPU in float32; its channels last unless told otherwise.

    Times are never sorted: sorting is the one thing that waits for the card.
    """
    arch, options, times = net
    made = initialise(build(arch, (3, 32, 32), CLASSES, **options), kaiming, generator=generator(seed))
    made = (timed(made, sorting="never") if times else made).to(device, dtype)
    return channels_last(made) if last else made


def batches(size: int, count: int, place: str, dtype: torch.dtype, *, seed: int = 0) -> Batches:
    """`count` augmented batches of random images, of which the last one is smaller."""
    samples = max(2, count * size - size // 2)
    x = torch.randint(0, 256, (samples, 3, 32, 32), generator=generator(1, seed), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (samples,), generator=generator(2, seed))
    mean, deviation = (torch.tensor(numbers, dtype=dtype) for numbers in CONSTANTS["cifar10"])
    normalise, augment = Normalise(mean, deviation, 255).to(place), compose(random_crop(4), flip())
    return Batches(Labelled(x, labels).to(place), size, seed=seed, normalise=normalise, augment=augment)


def training(net: Net, objective: Objective, device: str, dtype: torch.dtype, *, last: bool = True) -> Training:
    """A network with what trains it."""
    model = network(net, device, dtype, last=last)
    return Training(model, objective, torch.optim.SGD(model.parameters(), **RULE))


def steps(made: Training, data: Batches, context: AbstractContextManager[Any] | None = None) -> Iterator[Any]:
    """Endless steps of one network."""
    return descend(made, data, epochs=10**6, autocast=context or nullcontext())


def together(
    net: Net,
    objective: Any,
    device: str,
    dtype: torch.dtype,
    members: int,
    size: int,
    count: int,
    context: AbstractContextManager[Any] | None = None,
) -> tuple[Ensemble, Iterator[Any]]:
    """An ensemble, each member on batches of its own, and its endless steps."""
    ensemble = Ensemble([network(net, device, dtype, seed=seed) for seed in range(members)])
    own = [batches(size, count, device, dtype, seed=seed) for seed in range(members)]
    optimizer = torch.optim.SGD(ensemble.parameters(), **RULE)
    return ensemble, descend_together(
        ensemble, objective, optimizer, own, epochs=10**6, autocast=context or nullcontext()
    )


def flat(model: nn.Module) -> Tensor:
    """All weights in one vector on the CPU, in float64."""
    return torch.cat([weight.detach().double().cpu().flatten() for weight in model.parameters()])
