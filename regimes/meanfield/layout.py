"""Which runs share which data, and how a pass over them is cut into tiles that stay in cache."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from regimes.checks import count

# Bytes of one tile of activations. On a CPU 4 to 16 MiB were best: they stay in its last cache, and overheads are small
# beside the work (at 256 KiB a step takes 40 % longer). On a GPU the bound only keeps the memory in check.
_CPU_TILE = 2**23
_GPU_TILE = 2**30


class Tile(NamedTuple):
    """Consecutive runs, equally many of each of some consecutive groups."""

    groups: slice
    runs: slice
    members: int


def equal_members(groups: int, runs: int) -> list[int]:
    """Members of each group when all groups are of one size."""
    count("an ensemble", "runs", runs)
    if runs % count("an ensemble", "groups", groups):
        raise ValueError(
            f"an ensemble needs equally many runs in each group of data; got {runs} runs for {groups} groups. "
            "Repeat the data or pass members=."
        )
    return [runs // groups] * groups


def tile_runs(activations: int, dtype: torch.dtype, device: torch.device) -> int:
    """Number of runs whose `activations` (neurons × samples) fit in a tile; at least one."""
    budget = _CPU_TILE if device.type == "cpu" else _GPU_TILE
    return max(1, budget // (activations * dtype.itemsize))


def tile_work(runs: int, neurons: int, x: torch.Tensor) -> int:
    """Multiply-adds of the products b_j·x_i of one tile: what one matrix product of an ensemble is on inputs x."""
    samples, inputs = x.shape[-2:]
    return min(runs, tile_runs(neurons * samples, x.dtype, x.device)) * neurons * samples * inputs


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


def versions(*tensors: Tensor | None) -> list[int]:
    """Numbers that change where one of the tensors is written to; one of inference mode has none."""
    return [0 if part is None or part.is_inference() else part._version for part in tensors]
