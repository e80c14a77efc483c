"""The kernel of stored pieces, tile by tile; of a symmetric one only the upper half is computed."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import NamedTuple

from torch import Tensor

from regimes.checks import not_finite
from regimes.machine import give_back_memory
from regimes.tangent.finite import CURE
from regimes.tangent.gram.blocks import Block, Held, Strip
from regimes.tangent.gram.forms import Form, Outputs, Piece

TILING = 5  # goes up with each change of the order of tiles: a file that was begun in another order cannot go on
_PARTS = 16  # a block on the diagonal is cut into at least so many parts, to leave out what lies below
_CACHE = 32 * 2**20  # bytes of the work on a tile at most: of more, parts leave the cache before they are read
_ROWS = 128  # but not into parts of fewer rows: small products are slow
Target = tuple[Tensor, Sequence[int]]  # a kernel, and the numbers of the pieces that it is made of


class Unit(NamedTuple):
    """A tile of the kernel, written once: samples of one side by samples of the other, from strips and blocks.

    pairs: one strip and block; where the trace needs several blocks of outputs for the same samples, all of those.
    parts: samples, counted from the first of the strip, and of the block. inside: the block is one of the strip, and
    what lies below the diagonal is left out. square: the last rows of the tile are those of its columns.
    """

    pairs: tuple[tuple[int, int], ...]
    parts: tuple[slice, slice]
    inside: bool
    square: bool


def units(
    one: Sequence[Strip], other: Sequence[Block], outputs: Outputs, side: int, *, symmetric: bool
) -> Iterator[Unit]:
    """All tiles, in the order in which they are written; symmetric: of the upper half."""
    for left in _together(one, outputs):
        for right in _together(other, outputs):
            pairs = tuple(zip(left, right, strict=True))
            strip, j = one[left[0]], right[0]
            if (symmetric and j < strip.blocks.start) or (outputs.matched and other[j].outputs != strip.outputs):
                continue
            inside = symmetric and j in strip.blocks
            for parts, square in _tiles(strip, other[j], inside, side):
                yield Unit(pairs, parts, inside, square)


def _together(blocks: Sequence[Block] | Sequence[Strip], outputs: Outputs) -> list[tuple[int, ...]]:
    """Numbers of blocks that go into one tile: for the trace all blocks of outputs of the same samples."""
    if outputs.name != "trace":
        return [(number,) for number in range(len(blocks))]
    found: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        found.setdefault(block.rows.start, []).append(number)
    return [tuple(numbers) for numbers in found.values()]


def side_of(room: int | float, pair: int | float) -> int:
    """Samples of a side of a tile: `room` bytes for the work on it, at most _CACHE; `pair` bytes for each pair."""
    return max(1, int((min(room, _CACHE) / max(1.0, pair)) ** 0.5))


def fill(
    targets: Sequence[Target],
    one: Held,
    other: Held | None,
    blocks: tuple[Sequence[Strip], Sequence[Block]],
    forms: Sequence[Form],
    outputs: Outputs,
    side: int,
    *,
    caller: str,
    done: int = 0,
    onto: bool = False,
    after: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the kernels of the pieces of two sides; other = None: of the first with itself, exactly symmetric.

    done: so many tiles are there already. onto: a trace is added to what is there. after: is told how many are, of how
    many, after each. ValueError: an entry that is NaN or infinite.
    """
    order = list(units(*blocks, outputs, side, symmetric=other is None))
    right = one if other is None else other
    held: tuple[int, Sequence[Piece]] | None = None
    theirs: tuple[int, Sequence[Piece]] | None = None
    for number, (pairs, parts, inside, square) in enumerate(order[done:], done):
        tiles: list[Tensor | None] = [None] * len(targets)
        for i, j in pairs:
            strip, block = blocks[0][i], blocks[1][j]
            if held is None or held[0] != i:
                held = theirs = None  # before others are read
                held = (i, one.strip(strip.blocks, forms))
            if not inside and (theirs is None or theirs[0] != j):
                theirs = None
                theirs = (j, right[j])
            offset = block.rows.start - strip.rows.start if inside else 0
            taken = (parts[0], slice(offset + parts[1].start, offset + parts[1].stop))
            for place, (_, chosen) in enumerate(targets):
                both = (held[1], held[1] if theirs is None or inside else theirs[1])
                tiles[place] = _added(tiles[place], (strip, block), taken, both, forms, chosen, outputs)
                del both  # so that what is held can go
        strip, block = blocks[0][pairs[0][0]], blocks[1][pairs[0][1]]
        for (kernel, _), tile in zip(targets, tiles, strict=True):
            assert tile is not None
            _require_finite(tile, (strip, block), parts, caller)
            if square:
                last = tile[:, -_length(parts[1]) :]
                last.copy_((last + last.permute(0, 3, 4, 1, 2)) / 2)
            _put(kernel, tile, (strip, block), parts, outputs, onto)
            if other is None:
                above = slice(parts[0].start, parts[0].stop - square * _length(parts[1]))
                _mirror(kernel, (strip, block), (above, parts[1]), outputs)
        after(number + 1, len(order))
        give_back_memory()  # the products of the next tile have other sizes


def _length(part: slice) -> int:
    return part.stop - part.start


def _require_finite(tile: Tensor, blocks: tuple[Strip, Block], parts: tuple[slice, slice], caller: str) -> None:
    if not not_finite(tile):
        return
    _, i, _, j, _ = (~tile.isfinite()).nonzero()[0].tolist()
    (i, j) = (block.rows.start + part.start + at for block, part, at in zip(blocks, parts, (i, j), strict=True))
    raise ValueError(f"{caller} needs finite derivatives; the kernel of samples {i} and {j} is NaN or infinite. {CURE}")


def _tiles(one: Strip, other: Block, inside: bool, side: int) -> Iterator[tuple[tuple[slice, slice], bool]]:
    """Samples of both sides, and whether the tile ends on the diagonal; of a block inside the strip, down to it."""
    n1, n2 = _length(one.rows), _length(other.rows)
    alone = len(one.blocks) == 1
    if not inside:
        yield from ((parts, False) for parts in _rectangles(slice(0, n1), slice(0, n2), side))
        return
    if alone:
        yield from _triangle(slice(0, n1), min(side, max(ceil(n1 / _PARTS), ceil(_ROWS / _length(one.outputs)))), side)
        return
    offset = other.rows.start - one.rows.start
    for b in range(0, n2, side):
        columns = slice(b, min(b + side, n2))
        above, end = offset + b, offset + columns.stop
        if end > side:
            for a in range(0, above, side):
                yield (slice(a, min(a + side, above)), columns), False
        yield (slice(above if end > side else 0, end), columns), True


def _triangle(part: slice, least: int, side: int) -> Iterator[tuple[tuple[slice, slice], bool]]:
    """What lies on and above the diagonal: a rectangle between two halves, then the halves; squares at the end."""
    if _length(part) <= least:
        yield (part, part), True
        return
    middle = part.start + least * ceil(_length(part) / least / 2)  # so that no square is small but the last
    first, second = slice(part.start, middle), slice(middle, part.stop)
    yield from ((parts, False) for parts in _rectangles(first, second, side))
    yield from _triangle(first, least, side)
    yield from _triangle(second, least, side)


def _rectangles(rows: slice, columns: slice, side: int) -> Iterator[tuple[slice, slice]]:
    """All pairs, in rectangles of at most side² pairs, and of at most `side` rows."""
    high = min(side, _length(rows))
    wide = side**2 // high
    for a in range(rows.start, rows.stop, high):
        for b in range(columns.start, columns.stop, wide):
            yield slice(a, min(a + high, rows.stop)), slice(b, min(b + wide, columns.stop))


def _added(
    tile: Tensor | None,
    blocks: tuple[Strip, Block],
    parts: tuple[slice, slice],
    pieces: tuple[Sequence[Piece], Sequence[Piece]],
    forms: Sequence[Form],
    chosen: Sequence[int],
    outputs: Outputs,
) -> Tensor:
    """The tile with the products of two blocks added; a new one where there is none."""
    if tile is None:
        ks = [outputs.sizes(_length(block.outputs))[1] for block in blocks]
        kernels = outputs.sizes(_length(blocks[0].outputs))[0]
        like = pieces[0][0][0]
        like = like if like.is_floating_point() else pieces[0][0][1]
        tile = like.new_zeros(kernels, _length(parts[0]), ks[0], _length(parts[1]), ks[1])
    for number in chosen:
        form, one, other = forms[number], pieces[0][number], pieces[1][number]
        form.add(tile, form.take(one, parts[0]), form.take(other, parts[1]))
    return tile


def _put(
    kernel: Tensor, tile: Tensor, blocks: tuple[Strip, Block], parts: tuple[slice, slice], outputs: Outputs, onto: bool
) -> None:
    target = _place(kernel, blocks, parts, outputs)
    if outputs.name == "trace":
        entries = tile[0, :, 0, :, 0]
        target.copy_(target + entries if onto else entries)
    elif outputs.name == "full":
        target.copy_(tile[0].permute(0, 2, 1, 3))
    else:
        target.copy_(tile[:, :, 0, :, 0].permute(1, 2, 0))


def _place(
    kernel: Tensor,
    blocks: tuple[Strip | Block, Strip | Block],
    parts: tuple[slice, slice],
    outputs: Outputs,
) -> Tensor:
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


def _mirror(kernel: Tensor, blocks: tuple[Strip, Block], parts: tuple[slice, slice], outputs: Outputs) -> None:
    upper = _place(kernel, blocks, parts, outputs).transpose(0, 1)
    upper = upper.transpose(2, 3) if outputs.name == "full" else upper
    _place(kernel, (blocks[1], blocks[0]), (parts[1], parts[0]), outputs).copy_(upper)
