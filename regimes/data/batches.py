"""Batches of labelled samples, made on the device that holds them; (epoch, step) is the whole position."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from regimes.checks import count, finite, shapes
from regimes.conventions import generator
from regimes.data.augment import Augmentation
from regimes.data.classification import Labelled
from regimes.errors import UserError, users_choice
from regimes.streams import Data


class Batches:
    """Samples in batches of `size`, augmented, then normalised, on their own device and without host synchronisation.

    The order of an epoch comes from (seed, epoch) alone and the augmentation from (seed, epoch, step) alone, drawn on
    the CPU, so that a resumed run and another device see the same batches. shuffle=False keeps the stored order.

    channels_last: images lie so in memory, on the device, as convolutions work through them fastest.
    only: the places of the samples that are taken, all others being left out; None: all samples.

    A last, smaller batch is kept, unless it is shuffled and a single sample: batch normalisation needs two. With
    several ranks `size` counts the joined batch, of which rank r receives the samples r, r + ranks, r + 2 ranks...:
    together all ranks see what one rank alone would see, in as many steps.
    """

    def __init__(
        self,
        data: Labelled,
        size: int,
        *,
        seed: int = 0,
        normalise: Callable[[Tensor], Tensor] | None = None,
        augment: Augmentation | None = None,
        shuffle: bool = True,
        channels_last: bool = False,
        only: Tensor | None = None,
    ) -> None:
        with users_choice():
            count("Batches", "size", size)
            shapes("Batches", x=(data.x, "n *feature"), labels=(data.labels, "n *target"))
            for name, part in (("x", data.x), ("labels", data.labels)):
                if part.is_floating_point() and part.device.type == "cpu":  # elsewhere it would wait for the card
                    finite("Batches", **{name: part})
        for name, choice in (("normalise", normalise), ("augment", augment)):
            if choice is not None and not callable(choice):
                raise UserError(f"Batches needs {name} as a function; got {choice!r}.")
        if augment is not None and data.x.dim() != 4:
            raise UserError(
                f"Batches can augment images (n, channels, height, width) only; got samples of shape "
                f"{tuple(data.x.shape)}. Leave augment out."
            )
        self.data, self.size, self.seed, self.only = data, size, seed, only
        self.normalise, self.augment, self.shuffle = normalise, augment, shuffle
        self.channels_last = channels_last and data.x.dim() == 4
        self.rank, self.ranks = 0, 1
        if len(self) == 0:
            raise UserError(
                f"Batches needs at least {2 if shuffle else 1} samples; got {self.samples}. Take more samples."
            )

    def shard(self, rank: int, ranks: int) -> "Batches":
        """The part of the same batches that one of several processes sees.

        Parts differ by one sample where `ranks` does not divide a batch: the mean over all of it weighs them by size.
        Where samples are not shuffled, a part of the last batch may be empty, and is then left out.
        """
        if not 0 <= rank < ranks:
            raise UserError(f"shard needs 0 ≤ rank < ranks; got rank={rank}, ranks={ranks}.")
        least = min(self.joined(step) for step in (range(len(self)) if self.shuffle else [0]))
        if least < ranks:
            raise UserError(
                f"{ranks} processes need a sample each of every batch; a batch of {self.size} from "
                f"{self.samples} samples has {least}. Take another batch size or fewer processes."
            )
        part = copy.copy(self)
        part.rank, part.ranks = rank, ranks
        return part

    def plain(self, *, shuffle: bool) -> "Batches":
        """The same samples as they are stored, for all ranks: not augmented, in another order or that of storage."""
        whole = copy.copy(self)
        whole.augment, whole.shuffle, whole.rank, whole.ranks = None, shuffle, 0, 1
        return whole

    @property
    def samples(self) -> int:
        """Number of samples in an epoch."""
        return len(self.data.labels) if self.only is None else len(self.only)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(self.samples, self.size)
        return full + (rest >= (2 if self.shuffle else 1))

    @property
    def usual(self) -> int:
        """Number of samples of this rank in every batch but a smaller last one."""
        return len(range(self.rank, self.joined(0), self.ranks))

    def joined(self, step: int) -> int:
        """Number of samples of batch `step` over all ranks."""
        return min(self.size, self.samples - step * self.size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (x, labels) of one epoch from step `start` on."""
        if not 0 <= start <= len(self):
            raise ValueError(f"epoch needs a start in 0..{len(self)}; got {start}. Was it saved with another size?")
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        count, device = self.samples, self.data.labels.device
        if self.shuffle:
            drawn = torch.randperm(count, generator=generator(self.seed, Data.ORDER, epoch))
            order = (drawn if self.only is None else self.only[drawn]).to(device, non_blocking=True)
        else:
            order = torch.arange(count, device=device) if self.only is None else self.only.to(device)
        for step in range(start, len(self)):
            chosen = order[step * self.size : (step + 1) * self.size]
            mine = chosen[self.rank :: self.ranks]
            if len(mine) == 0:
                continue
            x, labels = self.data.x.index_select(0, mine), self.data.labels.index_select(0, mine)
            if self.augment is not None:
                # Drawn for the joined batch, so that a sample is treated alike whichever rank receives it.
                stream = generator(self.seed, Data.AUGMENT, epoch, step)
                numbers = self.augment.draw(len(chosen), stream)[self.rank :: self.ranks]
                x = self.augment.apply(x, numbers.to(device, non_blocking=True))
            if self.channels_last:  # as bytes, before they become floats
                x = x.contiguous(memory_format=torch.channels_last)
            yield x if self.normalise is None else self.normalise(x), labels
