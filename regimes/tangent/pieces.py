"""J and its transpose times vectors over any number of samples: some samples at a time, as many as memory holds."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor

from regimes.conventions import Params
from regimes.machine import give_back_memory
from regimes.tangent.gram.footprint import most_bytes
from regimes.tangent.model import TangentModel
from regimes.tangent.precision import full_precision
from regimes.tangent.products import pull_back_each, push

_FEW = 4  # samples that need no measurement
_DUAL = 4  # times the bytes of a value that the forward mode takes; seen were 2 to 3.8, after one copy of the weights
_COUNTED = 0.4  # of the memory: the C library keeps much of what a pass frees, and a process took twice what was alive


class Pieces:
    """Products with J and Jᵀ of a tangent model, whose work on the samples stays within `memory` bytes."""

    def __init__(self, tangent: TangentModel, memory: int) -> None:
        self.tangent, self.memory = tangent, memory
        self._samples: dict[str, int] = {}  # at a time, by kind of product

    def pull_back(self, x: Tensor, cotangents: Sequence[Tensor]) -> list[Params]:
        """Jᵀu for each cotangent u (n, k), summed over the pieces. The sums themselves are not counted."""
        u = cotangents[0]
        total: list[Params] = []
        for part in self._parts("pull_back", x, lambda few: pull_back_each(self.tangent, few, [u[: len(few)]])):
            found = pull_back_each(self.tangent, x[part], [each[part] for each in cotangents])
            if not total:
                total = found
                continue
            for before, more in zip(total, found, strict=True):
                for name, value in more.items():
                    before[name] = before[name] + value
        return total

    def push(self, x: Tensor, direction: Params) -> Tensor:
        """J·direction: (n, k)."""
        dual = self.tangent.found.transforms and self.tangent.found.forward
        parts = self._parts("push", x, self._value if dual else lambda few: push(self.tangent, few, direction), dual)
        return torch.cat([push(self.tangent, x[part], direction) for part in parts])

    def _value(self, few: Tensor) -> Tensor:
        """What stands for the forward mode in a measurement: torch crashes where tensors are counted in it.

        (A sum with alpha=, addcmul with value=, ... of a number that has a derivative and one that has none.)
        """
        graph = self.tangent.recurrent
        with torch.set_grad_enabled(graph), full_precision(self.tangent.device):
            return self.tangent.f({name: each.requires_grad_(graph) for name, each in self.tangent.params.items()}, few)

    def _parts(self, kind: str, x: Tensor, work: Callable[[Tensor], Any], dual: bool = False) -> Iterator[slice]:
        n = len(x)
        size = n if n <= _FEW else self._samples.get(kind, 0) or self._measured(kind, x, work, dual)
        size = ceil(n / ceil(n / min(size, n)))  # pieces of one size
        for start in range(0, n, size):
            yield slice(start, min(start + size, n))
            if size < n:
                give_back_memory()

    def _measured(self, kind: str, x: Tensor, work: Callable[[Tensor], Any], dual: bool) -> int:
        """How many samples the counted share of the memory holds, from the bytes that two and four of them take."""
        weights = list(self.tangent.plain.model.parameters())
        known = [*weights, *self.tangent.plain.model.buffers(), x]
        two, four = (most_bytes(lambda m=m: work(x[:m]), known)[0] for m in (2, 4))
        if dual:
            copy = sum(each.nbytes for each in weights)
            two, four = (_DUAL * each + copy for each in (two, four))
        sample = max(1.0, (four - two) / 2)
        self._samples[kind] = max(1, int((_COUNTED * self.memory - max(0.0, two - 2 * sample)) / sample))
        return self._samples[kind]
