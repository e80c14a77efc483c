"""The kernel of stored pieces, tile by tile; of a symmetric one only the upper half is computed."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import NamedTuple

from torch import Tensor

from regimes.tangent.gram.blocks import Block, Held
from regimes.tangent.gram.forms import Form, Outputs, Piece

_PARTS = 8  # a block on the diagonal is cut into at least so many parts, to leave out what lies below
_ROWS = 256  # but not into parts of fewer rows: small products are slow


class Unit(NamedTuple):
    """A tile of the kernel, written once: samples of one side by samples of the other, from pairs of blocks.

    pairs: one pair of blocks; where the trace needs several blocks of outputs for the same samples, all of those.
    """

    pairs: tuple[tuple[int, int], ...]
    parts: tuple[slice, slice]
    same: bool  # both sides are the same block


def units(one: Sequence[Block], other: Sequence[Block] | None, outputs: Outputs, side: int) -> Iterator[Unit]:
    """All tiles, in the order in which they are written; other = None: the upper half of a symmetric kernel."""
    right = one if other is None else other
    for left_blocks in _together(one, outputs):
        for right_blocks in _together(right, outputs):
            pairs = tuple(zip(left_blocks, right_blocks, strict=True))
            i, j = pairs[0]
            if (other is None and j < i) or (outputs.matched and right[j].outputs != one[i].outputs):
                continue
            same = other is None and i == j
            for parts in _tiles(one[i], right[j], same, side):
                yield Unit(pairs, parts, same)


def _together(blocks: Sequence[Block], outputs: Outputs) -> list[tuple[int, ...]]:
    """Numbers of blocks that go into one tile: for the trace all blocks of outputs of the same samples."""
    if outputs.name != "trace":
        return [(number,) for number in range(len(blocks))]
    found: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        found.setdefault(block.rows.start, []).append(number)
    return [tuple(numbers) for numbers in found.values()]


def side_of(room: int | float, pair: int | float) -> int:
    """Samples of a side of a tile: `room` bytes for the work on it, `pair` bytes for each pair of samples."""
    return max(1, int((room / max(1.0, pair)) ** 0.5))


def fill(
    kernel: Tensor,
    one: Held,
    other: Held | None,
    blocks: tuple[Sequence[Block], Sequence[Block] | None],
    forms: Sequence[Form],
    outputs: Outputs,
    side: int,
    *,
    done: int = 0,
    after: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the kernel of the pieces of two sides; other = None: of the first with itself, exactly symmetric.

    done: so many tiles are there already. after: is told how many are, of how many, after each.
    """
    left_blocks, right_blocks = blocks[0], blocks[0] if blocks[1] is None else blocks[1]
    right = one if other is None else other
    total = sum(1 for _ in units(*blocks, outputs, side))
    held: tuple[tuple[int, int], Sequence[Piece], Sequence[Piece]] | None = None
    for number, (pairs, parts, same) in enumerate(units(*blocks, outputs, side)):
        if number < done:
            continue
        tile = None
        for i, j in pairs:
            if held is None or held[0] != (i, j):
                mine = held[1] if held is not None and held[0][0] == i else None
                held = None  # before others are read
                mine = one[i] if mine is None else mine
                held = ((i, j), mine, mine if same else right[j])
            tile = _added(tile, (left_blocks[i], right_blocks[j]), parts, held[1:], forms, outputs)
        assert tile is not None
        i, j = pairs[0]
        pair = (left_blocks[i], right_blocks[j])
        whole = same and parts[0] == parts[1]
        _put(kernel, tile, pair, parts, outputs, diagonal=whole)
        if other is None and not whole:
            _mirror(kernel, pair, parts, outputs)
        after(number + 1, total)


def _length(part: slice) -> int:
    return part.stop - part.start


def _tiles(one: Block, other: Block, same: bool, side: int) -> Iterator[tuple[slice, slice]]:
    n1, n2 = _length(one.rows), _length(other.rows)
    if same:
        side = min(side, max(ceil(n1 / _PARTS), ceil(_ROWS / _length(one.outputs))))
    for a in range(0, n1, side):
        for b in range(a if same else 0, n2, side):
            yield slice(a, min(a + side, n1)), slice(b, min(b + side, n2))


def _added(
    tile: Tensor | None,
    blocks: tuple[Block, Block],
    parts: tuple[slice, slice],
    pieces: tuple[Sequence[Piece], Sequence[Piece]],
    forms: Sequence[Form],
    outputs: Outputs,
) -> Tensor:
    """The tile with the products of two blocks added; a new one where there is none."""
    if tile is None:
        ks = [outputs.sizes(_length(block.outputs))[1] for block in blocks]
        kernels = outputs.sizes(_length(blocks[0].outputs))[0]
        like = pieces[0][0][0]
        like = like if like.is_floating_point() else pieces[0][0][1]
        tile = like.new_zeros(kernels, _length(parts[0]), ks[0], _length(parts[1]), ks[1])
    for form, one, other in zip(forms, *pieces, strict=True):
        form.add(tile, form.take(one, parts[0]), form.take(other, parts[1]))
    return tile


def _put(
    kernel: Tensor,
    tile: Tensor,
    blocks: tuple[Block, Block],
    parts: tuple[slice, slice],
    outputs: Outputs,
    *,
    diagonal: bool,
) -> None:
    """Write a tile; diagonal: of a part of the samples with itself."""
    if diagonal:
        tile = (tile + tile.permute(0, 3, 4, 1, 2)) / 2
    target = _place(kernel, blocks, parts, outputs)
    if outputs.name == "trace":
        target.copy_(tile[0, :, 0, :, 0])
    elif outputs.name == "full":
        target.copy_(tile[0].permute(0, 2, 1, 3))
    else:
        target.copy_(tile[:, :, 0, :, 0].permute(1, 2, 0))


def _place(kernel: Tensor, blocks: tuple[Block, Block], parts: tuple[slice, slice], outputs: Outputs) -> Tensor:
    one, other = blocks
    rows, columns = (
        slice(block.rows.start + part.start, block.rows.start + part.stop)
        for block, part in zip(blocks, parts, strict=True)
    )
    if outputs.name == "trace":
        return kernel[rows, columns]
    if outputs.name == "full":
        return kernel[rows, columns, one.outputs, other.outputs]
    return kernel[rows, columns, one.outputs]


def _mirror(kernel: Tensor, blocks: tuple[Block, Block], parts: tuple[slice, slice], outputs: Outputs) -> None:
    upper = _place(kernel, blocks, parts, outputs).transpose(0, 1)
    upper = upper.transpose(2, 3) if outputs.name == "full" else upper
    _place(kernel, (blocks[1], blocks[0]), (parts[1], parts[0]), outputs).copy_(upper)
