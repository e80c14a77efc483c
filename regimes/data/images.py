"""Real images as plain tensors: digits (embedded in scikit-learn) and MNIST (from its original files)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from regimes.data import files
from regimes.data.dataset import Dataset, class_targets
from regimes.errors import UserError

Pixels = Float[Tensor, "n d"]
Scaling = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Images(NamedTuple):
    """Flattened images with their labels; x_test is empty where no official test set exists."""

    name: str
    x_train: UInt8[Tensor, "n d"]
    labels_train: Int[Tensor, " n"]
    x_test: UInt8[Tensor, "n_test d"]
    labels_test: Int[Tensor, " n_test"]
    brightest: int


def digits() -> Images:
    """The 1,797 handwritten digits of 8 × 8 pixels, values 0..16, that scikit-learn carries; no official test set."""
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    x, labels = torch.from_numpy(x).to(torch.uint8), torch.from_numpy(labels).long()
    return Images("digits", x, labels, x[:0], labels[:0], brightest=16)


def mnist(data_dir: Path | str | None = None) -> Images:
    """MNIST: 60,000 training and 10,000 test images of 28 × 28 pixels, values 0..255, hashes checked.

    The files are looked for as `files.locate` says. Raises FileNotFoundError where they are not and cannot be
    downloaded, ValueError where one is truncated or changed.
    """
    paths = files.locate(None if data_dir is None else Path(data_dir))
    x, labels, x_test, labels_test = (files.read(path, file) for path, file in zip(paths, files.MNIST, strict=True))
    return Images("mnist", x.flatten(1), labels.long(), x_test.flatten(1), labels_test.long(), brightest=255)


def unit_interval(x: Pixels, x_test: Float[Tensor, "n_test d"]) -> tuple[Pixels, Float[Tensor, "n_test d"]]:
    """Pixels left in [0, 1]."""
    return x, x_test


def unit_norm(x: Pixels, x_test: Float[Tensor, "n_test d"]) -> tuple[Pixels, Float[Tensor, "n_test d"]]:
    """Each image divided by its own Euclidean norm: points of the unit sphere; UserError for a black one."""
    norms = x.norm(dim=1, keepdim=True), x_test.norm(dim=1, keepdim=True)
    if any(bool((norm == 0).any()) for norm in norms):
        raise UserError("unit_norm needs images that are not all black: one has no direction. Use unit_interval.")
    return x / norms[0], x_test / norms[1]


def standardised(x: Pixels, x_test: Float[Tensor, "n_test d"]) -> tuple[Pixels, Float[Tensor, "n_test d"]]:
    """One mean and one deviation, those of all training pixels together, taken from both parts."""
    mean, deviation = x.mean(), x.std()
    if not deviation > 0:
        raise UserError("standardised needs pixels that differ; these are all alike. Use unit_interval.")
    return (x - mean) / deviation, (x_test - mean) / deviation


def uniform(labels: Int[Tensor, " n"], count: int, *, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Positions of `count` samples drawn uniformly without replacement: the classes are balanced in the mean only."""
    if count > len(labels):
        raise UserError(f"uniform needs {count} samples; got {len(labels)}. Ask for fewer samples.")
    return torch.randperm(len(labels), generator=generator)[:count]


def balanced(labels: Int[Tensor, " n"], count: int, *, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Positions of `count` samples without replacement, class counts equal (the first classes get one more if odd)."""
    values = labels.unique()
    shares = [count // len(values) + (rank < count % len(values)) for rank in range(len(values))]
    chosen = []
    for value, share in zip(values.tolist(), shares, strict=True):
        members = (labels == value).nonzero().squeeze(1)
        if len(members) < share:
            raise UserError(
                f"balanced needs {share} samples of class {value}; got {len(members)}. Ask for fewer samples."
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:share]])
    joined = torch.cat(chosen)
    return joined[torch.randperm(len(joined), generator=generator)]


def split(
    images: Images,
    train: int,
    test: int,
    *,
    generator: torch.Generator,
    classes: Sequence[int] | None = None,
    choose: Callable[..., Tensor] = uniform,
    scaling: Scaling = unit_norm,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """Disjoint training and test samples of some classes as a Dataset.

    classes lists the labels kept, in the order of the targets: (3, 8) gives −1 for a three and +1 for an eight;
    None keeps all. Training samples come from the official training part and test samples from the official test
    part; where there is none, both come from one pool and never share a sample. `choose` is uniform or balanced,
    `scaling` one of unit_interval, unit_norm, standardised, applied after division by the brightest value.
    """
    for name, choice in (("choose", choose), ("scaling", scaling)):
        if not callable(choice):
            raise UserError(
                f"split needs {name} as a function, such as images.uniform or images.unit_norm; got {choice!r}."
            )
    known = images.labels_train.unique().tolist()
    classes = known if classes is None else list(classes)
    if len(classes) < 2 or len(set(classes)) != len(classes) or not set(classes) <= set(known):
        raise UserError(
            f"{images.name} needs at least two different classes out of {', '.join(map(str, known))}; "
            f"got {', '.join(map(str, classes)) or 'none'}."
        )
    pool = _keep(images.labels_train, classes)
    separate = len(images.labels_test) > 0
    test_pool = _keep(images.labels_test, classes) if separate else pool
    wanted = [(train, len(pool)), (test, len(test_pool))] if separate else [(train + test, len(pool))]
    if min(train, test) < 1 or any(count > held for count, held in wanted):
        held = f"{len(pool)} and {len(test_pool)}" if separate else f"{len(pool)} together"
        raise UserError(
            f"{images.name} has {held} samples of these classes for training and test; got train={train}, "
            f"test={test}. Ask for at least one of each and no more than there are."
        )
    first = pool[choose(images.labels_train[pool], train, generator=generator)]
    if separate:
        source, source_labels = images.x_test, images.labels_test
    else:
        source, source_labels = images.x_train, images.labels_train
        taken = torch.zeros(len(source_labels), dtype=torch.bool)
        taken[first] = True
        test_pool = pool[~taken[pool]]
    second = test_pool[choose(source_labels[test_pool], test, generator=generator)]
    x_train, x_test = scaling(
        images.x_train[first].to(dtype) / images.brightest, source[second].to(dtype) / images.brightest
    )
    number = torch.zeros(max(known) + 1, dtype=torch.long)
    number[torch.tensor(classes)] = torch.arange(len(classes))
    return Dataset(
        images.name,
        x_train,
        class_targets(number[images.labels_train[first]], len(classes), dtype=dtype),
        x_test,
        class_targets(number[source_labels[second]], len(classes), dtype=dtype),
        classes=len(classes),
    )


def _keep(labels: Tensor, classes: Sequence[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(classes)).nonzero().squeeze(1)
