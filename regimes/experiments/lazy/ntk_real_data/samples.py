"""Images and centred one-hot targets, and the two things that may be done to images before a kernel sees them."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from regimes.data.classification import Labelled, classification
from regimes.experiments.lazy.ntk_real_data.config import Config

CLASSES = 10
TESTS = {"digits": 359, "mnist": 10000}  # images that there are for the test


class Part(NamedTuple):
    """Images in [0, 1], and targets: one-hot less 1/10."""

    x: Float[Tensor, "n 1 side side"]
    y: Float[Tensor, "n k"]


class Parts(NamedTuple):
    """Disjoint training, validation and test samples."""

    train: Part
    validation: Part
    test: Part


def parts(config: Config, dataset: str, n: int, seed: int) -> Parts:
    """The samples of one seed: those of training are nested in n; validation samples never come from the test part."""
    found = classification(
        dataset,
        train_size=n,
        validation=config.held(dataset),
        test_size=None if config.test_size is None or n in config.n_tuned else min(config.test_size, TESTS[dataset]),
        seed=seed,
        data_dir=config.data_dir,
    )
    assert found.validation is not None

    def part(some: Labelled) -> Part:
        return Part(some.x.double() / found.normalise.brightest, one_hot(some.labels.long(), CLASSES).double() - 0.1)

    return Parts(*(part(some) for some in (found.train, found.validation, found.test)))


def prepared(x: Float[Tensor, "n 1 side side"], *, window: int = 1, unit: bool = False) -> Float[Tensor, "n d"]:
    """Flat inputs: means over windows × windows pixels, zeros around the image; `unit`: each divided by its norm.

    A mean over windows is linear: a net whose first layer is this average pooling has the kernel of its image.
    """
    flat = avg_pool2d(x, window, stride=1, padding=window // 2).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12) if unit else flat


def error(outputs: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> float:
    """Share of samples whose largest output is not at their class."""
    return float((outputs.argmax(1) != y.argmax(1)).double().mean())
