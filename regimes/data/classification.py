"""Labelled samples in parts for training, validation and test: points of the plane, digits, MNIST, CIFAR."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from regimes.conventions import generator
from regimes.data import cifar, images, synthetic
from regimes.data.images import Images
from regimes.data.plane import PLANE
from regimes.errors import UserError
from regimes.streams import Data

POINTS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"circles": synthetic.circles, **PLANE}
NAMES = (*POINTS, "digits", "mnist", "cifar10", "cifar100")
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}
CONSTANTS = {  # mean and standard deviation of each channel over the official training part
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
PLANE_POINTS = 1000
HELD_OUT = 0.2  # test share where there is no official test part
SIZES = {  # samples for training and validation together, and for the test
    **dict.fromkeys(POINTS, (800, 200)),
    "digits": (1438, 359),
    "mnist": (60_000, 10_000),
    **dict.fromkeys(("cifar10", "cifar100"), (50_000, 10_000)),
}


class Labelled(NamedTuple):
    """Samples with one label each: images as bytes (n, channels, height, width), points as floats (n, d).

    In a regression of one's own the labels are numbers (n, ...).
    """

    x: UInt8[Tensor, "n *shape"] | Float[Tensor, "n *shape"]
    labels: Int[Tensor, " n"] | Float[Tensor, "n *target"]

    def to(self, device: torch.device | str) -> "Labelled":
        """The same samples on a device."""
        return Labelled(self.x.to(device), self.labels.to(device))


class Normalise(NamedTuple):
    """x ↦ (x / brightest − mean) / deviation, one mean and deviation a channel (the axis after the samples).

    Bytes in, floats of the dtype of `mean` out, on the device of `mean`.
    """

    mean: Float[Tensor, " channels"]
    deviation: Float[Tensor, " channels"]
    brightest: int

    def __call__(self, x: UInt8[Tensor, "n *shape"] | Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Normalised samples."""
        shape = (-1, *[1] * (x.dim() - 2))
        centre, scale = self.mean * self.brightest, self.deviation * self.brightest
        return (x.to(self.mean.dtype) - centre.view(shape)) / scale.view(shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Normalise":
        """The same constants on another device or in another precision."""
        return self._replace(mean=self.mean.to(device, dtype), deviation=self.deviation.to(device, dtype))


class Classification(NamedTuple):
    """Disjoint parts of one data set; `normalise` turns stored samples into what a model sees.

    validation is None where no sample was asked for. Batches are to be normalised after any augmentation.
    """

    name: str
    train: Labelled
    validation: Labelled | None
    test: Labelled
    classes: int
    normalise: Normalise

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the axis of samples."""
        return tuple(self.train.x.shape[1:])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Classification":
        """All parts on a device; dtype is the precision of normalised samples, stored ones keep theirs."""
        parts = {} if device is None else {part: getattr(self, part).to(device) for part in ("train", "test")}
        if device is not None and self.validation is not None:
            parts["validation"] = self.validation.to(device)
        return self._replace(**parts, normalise=self.normalise.to(device, dtype))


def classification(
    name: str,
    *,
    train_size: int | None = None,
    validation: int = 0,
    test_size: int | None = None,
    choose: Callable[..., Tensor] = images.uniform,
    seed: int = 0,
    data_dir: Path | str | None = None,
) -> Classification:
    """One of the data sets NAMES (circles, donut1d, ..., digits, mnist, cifar10, cifar100), in parts drawn from a seed.

    Training and validation samples come from the official training part and never meet, test samples from the
    official test part; points and digits have none, so 20 % of the samples are held out first. A size of None
    takes all there are (train_size: all that validation leaves). `choose` is `images.uniform` (classes balanced in
    the mean only, as the authors draw) or `images.balanced`. The training samples of one seed are nested in
    train_size and do not depend on the other sizes.
    Source: [Karkar2020] and author code (uniform subsets, channel constants).
    """
    if name not in NAMES:
        raise UserError(f"classification needs one of {', '.join(NAMES)}; got {name!r}.")
    if not callable(choose):
        raise UserError(
            f"classification needs choose as a function: images.uniform or images.balanced; got {choose!r}."
        )
    for size_name, size in (("train_size", train_size), ("validation", validation), ("test_size", test_size)):
        if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
            raise UserError(f"classification needs {size_name} as a whole number; got {size!r}.")
    pool, test, normalise = _points(name, seed) if name in POINTS else _images(name, seed, data_dir)
    _check(name, len(pool.labels), len(test.labels), train_size, validation, test_size)
    train = len(pool.labels) - validation if train_size is None else train_size
    first = _draw(pool.labels, train, choose, generator(seed, Data.TRAIN))
    rest = torch.ones(len(pool.labels), dtype=torch.bool)
    rest[first] = False
    spare = rest.nonzero().squeeze(1)
    second = spare[_draw(pool.labels[spare], validation, choose, generator(seed, Data.VALIDATION))]
    held = len(test.labels) if test_size is None else test_size
    third = _draw(test.labels, held, choose, generator(seed, Data.TEST))
    return Classification(
        name,
        train=_take(pool, first),
        validation=_take(pool, second) if validation else None,
        test=_take(test, third),
        classes=int(pool.labels.max()) + 1,
        normalise=normalise,
    )


def refuse_sizes(name: str, train_size: int | None, validation: int = 0, test_size: int | None = None) -> None:
    """UserError: `classification` cannot give these sizes of a data set of NAMES. Needs no files."""
    pool, held = SIZES[name]
    _check(name, pool, held, train_size, validation, test_size)


def _points(name: str, seed: int) -> tuple[Labelled, Labelled, Normalise]:
    x, labels = POINTS[name](PLANE_POINTS, generator=generator(seed, Data.DRAW))  # in random order already
    held = round(HELD_OUT * PLANE_POINTS)
    untouched = Normalise(torch.zeros(2), torch.ones(2), 1)
    return Labelled(x[held:], labels[held:]), Labelled(x[:held], labels[:held]), untouched


def _images(name: str, seed: int, data_dir: Path | str | None) -> tuple[Labelled, Labelled, Normalise]:
    readers = {"mnist": images.mnist, "cifar10": cifar.cifar10, "cifar100": cifar.cifar100}
    source = images.digits() if name == "digits" else readers[name](data_dir)
    pool, test = _parts(source, seed)
    if name in CONSTANTS:
        mean, deviation = (torch.tensor(numbers) for numbers in CONSTANTS[name])
    else:
        pixels = pool.x.double() / source.brightest
        mean, deviation = pixels.mean().float()[None], pixels.std().float()[None]
    return pool, test, Normalise(mean, deviation, source.brightest)


def _parts(source: Images, seed: int) -> tuple[Labelled, Labelled]:
    shape = SHAPES[source.name]
    whole = Labelled(source.x_train.unflatten(1, shape), source.labels_train)
    if len(source.labels_test):
        return whole, Labelled(source.x_test.unflatten(1, shape), source.labels_test)
    order = torch.randperm(len(whole.labels), generator=generator(seed, Data.DRAW))
    held = round(HELD_OUT * len(order))
    return _take(whole, order[held:]), _take(whole, order[:held])


def _draw(labels: Tensor, count: int, choose: Callable[..., Tensor], stream: torch.Generator) -> Tensor:
    return torch.arange(count) if count == len(labels) else choose(labels, count, generator=stream)


def _take(data: Labelled, positions: Tensor) -> Labelled:
    return Labelled(data.x[positions], data.labels[positions])


def _check(name: str, pool: int, held: int, train: int | None, validation: int, test: int | None) -> None:
    sizes = {"train_size": train, "validation": validation, "test_size": test}
    came = ", ".join(f"{key}={value}" for key, value in sizes.items() if value is not None)
    fits = validation >= 0 and (1 if train is None else train) + validation <= pool and (test or 1) <= held
    if not fits or min(1 if size is None else size for size in (train, test)) < 1:
        raise UserError(
            f"{name} has {pool} samples for training and validation together and {held} for the test; got {came}. "
            "Ask for at least one training and one test sample and no more than there are."
        )
