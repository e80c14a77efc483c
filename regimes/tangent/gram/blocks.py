"""Blocks of samples and outputs that fit into the memory promised, and where their pieces wait for one another."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from io import FileIO
from math import ceil
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from regimes.machine import give_back_memory
from regimes.tangent.gram.forms import Form, Piece

_UNSEEN = (0.2, 8 * 2**20)  # share and bytes of the memory promised, the greater: for libraries and the allocator
_KEPT = 0.85  # share of the rest which pieces may take where all of them stay
FEW = 16  # samples of a pass: fewer take longer each, and pieces do not stay for their sake
# Bytes for what arrives at the layers of further outputs, read together with the first, and as a share of the plan.
_ROOM = (2**28, 1 / 8)


class Block(NamedTuple):
    rows: slice  # samples
    outputs: slice

    def __str__(self) -> str:
        return f"{self.rows.start}_{self.outputs.start}"


class Bytes(NamedTuple):
    """Bytes of m samples and K outputs: fixed + m (sample + K · output)."""

    fixed: int | float
    sample: int | float
    output: int | float

    def of(self, m: int | float, k: int | float) -> int | float:
        return self.fixed + m * (self.sample + k * self.output)

    def stored(self, n: int, k: int, outputs: int) -> int | float:
        """Of n samples and all k outputs in blocks of some outputs, each with what belongs to a sample in it again."""
        return self.fixed + n * (ceil(k / outputs) * self.sample + k * self.output)

    def samples(self, room: int | float, k: int | float) -> int:
        """How many samples fit; at least one."""
        return max(1, int((room - self.fixed) / max(1.0, self.sample + k * self.output)))


def fitted(two: int | float, four: int | float, more: int | float, k: int) -> Bytes:
    """From the bytes of 2 samples and k outputs, of 4 and k, and of 4 and k + 1."""
    output = max(0.0, (more - four) / 4)
    sample = max(0.0, (four - two) / 2 - k * output)
    return Bytes(max(0.0, two - 2 * (sample + k * output)), sample, output)


class Layout(NamedTuple):
    samples: int  # of a block
    outputs: int  # of a block
    stays: bool  # all pieces stay in memory
    tile: int | float  # bytes left for the work on one tile
    strip: int = 1  # blocks of the left side that are held together
    at_once: int = 1  # samples of a pass in which pieces are formed, at most
    room: int = 0  # bytes for what arrives at the layers of further outputs in it


def _planned(memory: int) -> int:
    """The bytes that tensors may take: all but what is unseen, and no less than half."""
    share, least = _UNSEEN
    return int(max(memory - max(share * memory, least), memory / 2))


def stays(everything: int | float, memory: int) -> bool:
    """Whether all pieces, of so many bytes together, may stay in memory beside the work."""
    return everything <= _KEPT * _planned(memory)


def layout(n: int, k: int, peak: Bytes, kept: Bytes, memory: int, block: int | None) -> Layout:
    """Sizes such that pieces, work and tile take `memory` bytes together, where one sample and one output do.

    n: samples of both sides together. What tensors may take of it is planned with.
    """
    whole, memory = memory, _planned(memory)
    room = int(min(_ROOM[0], _ROOM[1] * memory))
    memory -= room
    outputs = k
    while outputs > 1 and (peak.of(1, outputs) > memory / 2 or kept.of(1, outputs) > memory / 5):
        outputs = ceil(outputs / 2)
    everything = kept.stored(n, k, outputs)
    work = Bytes(*(max(0.0, most - own) for most, own in zip(peak, kept, strict=True)))  # beside what is kept
    at_once = work.samples(memory - everything, outputs)
    if stays(everything, whole) and at_once >= min(n, FEW):
        return Layout(min(n, block or n), outputs, True, memory - everything, 1, at_once, room)
    kept = kept._replace(fixed=0)
    if block is None and outputs == k:
        samples = min(n, kept.samples(memory / 8, k))
        own = kept.of(samples, k)
        at_once = min(samples, work.samples(memory / 2 - own, k))
        strip = int((memory - own - max(work.of(at_once, k), memory / 8)) / own)
        if strip > 1:  # what is held is not read again for each block of the other side
            return Layout(samples, k, False, memory - (strip + 1) * own, strip, at_once, room)
    samples = min(n, block or kept.samples(memory / 4, outputs))
    own = kept.of(samples, outputs)
    at_once = min(samples, work.samples(0.9 * memory - own, outputs))
    return Layout(samples, outputs, False, max(memory / 4, memory - 3 * own), 1, at_once, room)


def passes(n: int, most: int) -> list[slice]:
    """n samples, two or more, in passes of about the same size; two at least, so that the last ones may overlap."""
    size = ceil(n / ceil(n / max(2, most)))
    return [slice(min(start, n - 2), min(start + size, n)) for start in range(0, n, size)]


class Strip(NamedTuple):
    """Blocks of the left side that are held together."""

    blocks: range
    rows: slice
    outputs: slice


def strips(blocks: Sequence[Block], count: int) -> list[Strip]:
    """Runs of `count` blocks; more than one only where each has all outputs."""
    runs = [range(i, min(i + count, len(blocks))) for i in range(0, len(blocks), count)]
    ends = [(blocks[run[0]], blocks[run[-1]]) for run in runs]
    return [
        Strip(run, slice(first.rows.start, last.rows.stop), first.outputs)
        for run, (first, last) in zip(runs, ends, strict=True)
    ]


def cut(n: int, k: int, sizes: Layout) -> list[Block]:
    return [
        Block(slice(i, min(i + sizes.samples, n)), slice(a, min(a + sizes.outputs, k)))
        for i in range(0, n, sizes.samples)
        for a in range(0, k, sizes.outputs)
    ]


@runtime_checkable
class Held(Protocol):
    """The pieces of each block, by its number."""

    def __getitem__(self, index: int) -> Sequence[Piece]: ...

    def strip(self, blocks: Sequence[int], forms: Sequence[Form]) -> Sequence[Piece]:
        """Those of several blocks, joined; of blocks that will not be asked for again."""
        ...


class Store:
    """The pieces of each block, formed once: in memory, else in files, else (no room on the disk) formed again."""

    def __init__(
        self,
        blocks: Sequence[Block],
        form: Callable[[Block], list[Piece]],
        stays: bool,
        folder: Path,
        size: int | float,
    ) -> None:
        self.blocks, self._form, self._stays, self._folder = blocks, form, stays, folder
        self._on_disk = not stays and shutil.disk_usage(folder).free > 1.2 * size
        self._held: dict[int, list[Piece]] = {}
        self._shapes: dict[int, list[list[_Shape]]] = {}  # of what is in files

    def fill(self) -> None:
        """Form all pieces that can be kept, one block at a time."""
        if self._stays or self._on_disk:
            for index in range(len(self.blocks)):
                self[index]

    def __getitem__(self, index: int) -> list[Piece]:
        if self._stays:
            if index not in self._held:
                self._held[index] = self._formed(index)
            return self._held[index]
        if index in self._shapes:
            return _read(self._file(index), self._shapes[index])
        pieces = self._formed(index)
        if self._on_disk:
            self._shapes[index] = _written(self._file(index), pieces)
        return pieces

    def strip(self, blocks: Sequence[int], forms: Sequence[Form]) -> Sequence[Piece]:
        if len(blocks) == 1:
            return self[blocks[0]]
        rows = sum(_length(self.blocks[index].rows) for index in blocks)
        joined: list[Piece] = []
        start = 0
        for index in blocks:
            known = index in self._shapes
            pieces = _read(self._file(index), self._shapes[index]) if known else self._formed(index)
            joined = joined or [_empty(form, piece, rows) for form, piece in zip(forms, pieces, strict=True)]
            stop = start + _length(self.blocks[index].rows)
            for form, whole in zip(forms, joined, strict=True):
                for target, tensor in zip(form.take(whole, slice(start, stop)), pieces.pop(0), strict=True):
                    target.copy_(tensor)
            start = stop
        return joined

    def _formed(self, index: int) -> list[Piece]:
        """What malloc keeps of the work is given back: pieces that stay lie between its parts."""
        pieces = self._form(self.blocks[index])
        give_back_memory()
        return pieces

    def _file(self, index: int) -> Path:
        return self._folder / str(self.blocks[index])


def _length(part: slice) -> int:
    return part.stop - part.start


def _empty(form: Form, piece: Piece, rows: int) -> Piece:
    """A piece for so many samples."""
    sizes = [list(tensor.shape) for tensor in piece]
    for size, axis in zip(sizes, form.axes(piece), strict=True):
        size[axis] = rows
    return tuple(tensor.new_empty(size) for tensor, size in zip(piece, sizes, strict=True))


class _Shape(NamedTuple):
    size: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _written(file: Path, pieces: Sequence[Piece]) -> list[list[_Shape]]:
    """Write the entries alone: a format that checks and describes them takes longer than the products."""
    with file.open("wb") as target:
        for piece in pieces:
            for tensor in piece:
                plain = tensor.detach().cpu().contiguous().reshape(-1)
                target.write(plain.view(torch.uint8).numpy().data)
    return [[_Shape(tuple(tensor.shape), tensor.dtype, tensor.device) for tensor in piece] for piece in pieces]


def _read(file: Path, shapes: Sequence[Sequence[_Shape]]) -> list[Piece]:
    with file.open("rb", buffering=0) as source:
        return [tuple(_entries(source, shape) for shape in each) for each in shapes]


def _entries(source: FileIO, shape: _Shape) -> Tensor:
    tensor = torch.empty(shape.size, dtype=shape.dtype, device="cpu")
    target = memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else memoryview(b"")
    start = 0
    while start < len(target):  # a call reads 2 GiB at most
        read = source.readinto(target[start:])
        if not read:
            raise RuntimeError("a temporary file of the tangent kernel was cut short")
        start += read
    return tensor.to(shape.device)


def folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="regimes_kernel_")
