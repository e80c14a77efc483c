"""Batches of the members of an ensemble, drawn at once: few launches for all members in place of some for each."""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Normalise
from regimes.errors import UserError
from regimes.streams import Data


class MemberBatches:
    """Batches (members, n, ...) whose rows are what each member's own `Batches` would give, in the same order.

    The members need batches of one number and size. Samples that they share lie on the device once; of those that they
    do not share a joined copy is made. Augmentation and normalisation that are the same for all are done at once.

    Members that ask for channels_last get the same numbers with the channels first: vmap makes one grouped convolution
    of theirs, for which it lays the images of all members side by side anew, whatever their layout was.
    """

    def __init__(self, members: Sequence[Batches]) -> None:
        kinds = {(len(own), len(own.data.labels), own.size, own.shuffle, own.ranks) for own in members}
        if len(kinds) != 1:
            raise UserError(f"MemberBatches needs batches of one number and size, not in parts; got {sorted(kinds)}.")
        first = members[0]
        if first.ranks > 1:
            raise UserError("MemberBatches needs whole batches; got the parts of one of several processes.")
        self.members = list(members)
        shared = all(_same(own.data.x, first.data.x) and _same(own.data.labels, first.data.labels) for own in members)
        self.x = first.data.x if shared else torch.cat([own.data.x for own in members])
        self.labels = first.data.labels if shared else torch.cat([own.data.labels for own in members])
        count = len(first.data.labels)
        self.starts = torch.tensor([0 if shared else number * count for number in range(len(members))])
        self.one_augmentation = all(own.augment is first.augment for own in members)
        self.one_normalisation = all(_same_normalisation(own.normalise, first.normalise) for own in members)

    @property
    def usual(self) -> int:
        """Number of samples of a member in every batch but a smaller last one."""
        return self.members[0].usual

    def plain(self, *, shuffle: bool) -> "MemberBatches":
        """As `Batches.plain`; no sample is copied."""
        whole = copy.copy(self)
        whole.members = [own.plain(shuffle=shuffle) for own in self.members]
        return whole

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self.members[0])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (x, labels) of one epoch from step `start` on, the members in front."""
        if not 0 <= start <= len(self):
            raise ValueError(f"epoch needs a start in 0..{len(self)}; got {start}. Was it saved with another size?")
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        first, members, device = self.members[0], len(self.members), self.labels.device
        count, size = len(first.data.labels), first.size
        orders = [
            torch.randperm(count, generator=generator(own.seed, Data.ORDER, epoch))
            if own.shuffle
            else torch.arange(count)
            for own in self.members
        ]
        order = (torch.stack(orders) + self.starts[:, None]).to(device, non_blocking=True)
        for step in range(start, len(self)):
            chosen = order[:, step * size : (step + 1) * size]
            flat = chosen.reshape(-1)
            x, labels = self.x.index_select(0, flat), self.labels.index_select(0, flat)
            x = self._normalised(self._augmented(x, epoch, step))
            yield x.view(members, -1, *x.shape[1:]), labels.view(members, -1, *labels.shape[1:])

    def _augmented(self, x: Tensor, epoch: int, step: int) -> Tensor:
        each = len(x) // len(self.members)
        if all(own.augment is None for own in self.members):
            return x
        drawn = [
            None if own.augment is None else own.augment.draw(each, generator(own.seed, Data.AUGMENT, epoch, step))
            for own in self.members
        ]
        shared = self.members[0].augment
        if self.one_augmentation and shared is not None:
            return shared.apply(x, torch.cat([one for one in drawn if one is not None]).to(x.device, non_blocking=True))
        parts = [
            part
            if own.augment is None or numbers is None
            else own.augment.apply(part, numbers.to(x.device, non_blocking=True))
            for own, part, numbers in zip(self.members, x.split(each), drawn, strict=True)
        ]
        return torch.cat(parts)

    def _normalised(self, x: Tensor) -> Tensor:
        first, each = self.members[0].normalise, len(x) // len(self.members)
        if self.one_normalisation:
            return x if first is None else first(x)
        parts = zip(self.members, x.split(each), strict=True)
        return torch.cat([part if own.normalise is None else own.normalise(part) for own, part in parts])


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same samples in memory; reads no number."""
    return one is other or (
        one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
        and one.device == other.device
        and one.device.type != "meta"
        and one.data_ptr() == other.data_ptr()
    )


def _same_normalisation(one: Callable[[Tensor], Tensor] | None, other: Callable[[Tensor], Tensor] | None) -> bool:
    """Whether both do the same to every sample; read once, when the batches are made."""
    if isinstance(one, Normalise) and isinstance(other, Normalise) and one is not other:
        alike = one.brightest == other.brightest and one.mean.shape == other.mean.shape
        return (
            alike and one.mean.dtype == other.mean.dtype and one.mean.device == other.mean.device and _equal(one, other)
        )
    return one is other


def _equal(one: Normalise, other: Normalise) -> bool:
    pairs = ((one.mean, other.mean), (one.deviation, other.deviation))
    return all(a is b or torch.equal(a.cpu(), b.cpu()) for a, b in pairs)
