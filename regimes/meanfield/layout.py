"""Which runs share which data, and how a pass over them is cut into tiles that stay in cache."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

# Bytes of one tile of activations. On a CPU 1 to 4 MiB a core were best: they stay in cache, and overheads are small
# beside the work (at 256 KiB a step takes 40 % longer). On a GPU the bound only keeps the memory in check.
_CPU_TILE = 2**22
_GPU_TILE = 2**30
# Multiplications in one product with the inputs from which it pays to share a pass between threads (about 1 ms).
_SHARED = 2**24


class Tile(NamedTuple):
    """Consecutive runs, equally many of each of some consecutive groups."""

    groups: slice
    runs: slice
    members: int


def equal_members(groups: int, runs: int) -> list[int]:
    """Members of each group when all groups are of one size."""
    if runs % groups:
        raise ValueError(
            f"an ensemble needs equally many runs in each group of data; got {runs} runs for {groups} groups. "
            "Repeat the data or pass members=."
        )
    return [runs // groups] * groups


def is_short(runs: int, activations: int, x: Tensor) -> bool:
    """Whether a pass over runs of that many activations (neurons × samples) is too short to share between threads."""
    return runs * activations * x.shape[2] < _SHARED


def tile_runs(runs: int, activations: int, x: Tensor) -> int:
    """Runs in a tile, where each has that many activations of the kind of x; at least one.

    On a CPU there are at least as many tiles as threads, unless the pass is short or of few runs.
    """
    if x.device.type != "cpu":
        return max(1, _GPU_TILE // (activations * x.dtype.itemsize))
    threads = 1 if is_short(runs, activations, x) else torch.get_num_threads()
    return max(1, min(_CPU_TILE // (activations * x.dtype.itemsize), -(-runs // threads)))


def tiles(members: Sequence[int], at_most: int) -> Iterator[Tile]:
    """Cut groups of the given sizes into tiles of about `at_most` runs.

    A large group is cut into near-equal parts; neighbouring groups of one size that are small are put together.
    """
    group = run = 0
    for size, equal in groupby(members):
        count = len(list(equal))
        together = max(1, at_most // max(size, 1))
        for first in range(group, group + count, together):
            several = min(together, group + count - first)
            parts = -(-size // at_most) if several == 1 else 1
            cuts = [run + size * several * part // parts for part in range(parts + 1)] if size else [run]
            for start, stop in pairwise(cuts):
                yield Tile(slice(first, first + several), slice(start, stop), (stop - start) // several)
            run += size * several
        group += count
