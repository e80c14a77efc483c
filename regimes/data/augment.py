"""Random changes of images, whole batches at once, on the device of the images and before normalisation."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from regimes.checks import shapes

Apply = Callable[[Tensor, Tensor], Tensor]


class Augmentation(NamedTuple):
    """A fixed function of the images and of `numbers` random ones a sample, independent and uniform on [0, 1).

    All randomness is in `draw`, so that a part of a batch can be changed exactly as within the whole batch.
    """

    numbers: int
    apply: Apply

    def draw(self, samples: int, generator: torch.Generator) -> Float[Tensor, "n numbers"]:
        """The random numbers of some samples."""
        return torch.rand(samples, self.numbers, generator=generator, device=generator.device)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Changed images, of the same shape and dtype."""
        shapes("Augmentation", x=(x, "n channels height width"))
        return self.apply(x, self.draw(len(x), generator).to(x.device, non_blocking=True))


_once = lru_cache(maxsize=None, typed=True)  # the same choice is the same object, so that members can share it


@_once
def random_crop(padding: int = 4) -> Augmentation:
    """Each image shifted by −padding..padding pixels along each axis, all shifts alike likely, black moving in.

    Source: [Karkar2020], author code, padding 4 for CIFAR.
    """
    if isinstance(padding, float) or padding < 1:
        raise ValueError(f"random_crop needs a padding of at least one pixel; got {padding}. Leave it out instead.")

    def apply(x: Tensor, numbers: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        top, left = (numbers * (2 * padding + 1)).long().unbind(1)
        windows = pad(x, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(len(x), device=x.device), :, top, left]

    return Augmentation(2, apply)


@_once
def flip(probability: float = 0.5) -> Augmentation:
    """Each image mirrored left to right with a probability."""
    if not 0 <= probability <= 1:
        raise ValueError(f"flip needs a probability in [0, 1]; got {probability}. One half is usual.")

    def apply(x: Tensor, numbers: Tensor) -> Tensor:
        return torch.where(numbers.view(-1, 1, 1, 1) < probability, x.flip(3), x)

    return Augmentation(1, apply)


@_once
def cutout(size: int) -> Augmentation:
    """A black square of size × size pixels whose centre is uniform over the image; what sticks out is cut off."""
    if isinstance(size, float) or size < 1:
        raise ValueError(f"cutout needs a square of at least one pixel; got {size}. Leave it out instead.")

    def apply(x: Tensor, numbers: Tensor) -> Tensor:
        inside = []
        for axis in (0, 1):
            length = x.shape[2 + axis]
            first = (numbers[:, axis] * length).long()[:, None] - size // 2
            place = torch.arange(length, device=x.device)
            inside.append((place >= first) & (place < first + size))
        hidden = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return x.masked_fill(hidden, 0)

    return Augmentation(2, apply)


@_once
def compose(*parts: Augmentation) -> Augmentation:
    """Several augmentations, the first one applied first, each with its own random numbers."""

    def apply(x: Tensor, numbers: Tensor) -> Tensor:
        for part, own in zip(parts, numbers.split([part.numbers for part in parts], dim=1), strict=True):
            x = part.apply(x, own)
        return x

    return Augmentation(sum(part.numbers for part in parts), apply)
