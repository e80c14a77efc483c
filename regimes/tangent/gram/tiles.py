"""The kernel of stored pieces, tile by tile; of a symmetric one only the upper half is computed."""

from collections.abc import Iterator, Sequence
from math import ceil

from torch import Tensor

from regimes.tangent.gram.blocks import Block, Store
from regimes.tangent.gram.forms import Form, Outputs, Piece

_PARTS = 8  # a block on the diagonal is cut into at least so many parts, to leave out what lies below
_ROWS = 256  # but not into parts of fewer rows: small products are slow


def fill(
    kernel: Tensor,
    one: Store,
    other: Store | None,
    forms: Sequence[Form],
    outputs: Outputs,
    room: int | float,
    pair: int | float,
) -> None:
    """Write the kernel of the two stores; other = None: of the first with itself, exactly symmetric.

    room: bytes for the work on one tile; pair: bytes that a pair of samples takes in it.
    """
    side = max(1, int((room / max(1.0, pair)) ** 0.5))
    right = one if other is None else other
    for i, block in enumerate(one.blocks):
        pieces = one[i]
        for j in range(i if other is None else 0, len(right.blocks)):
            if outputs.matched and right.blocks[j].outputs != block.outputs:
                continue
            same = other is None and i == j
            others = pieces if same else right[j]
            for a, b in _tiles(block, right.blocks[j], same, side):
                _write(kernel, (block, right.blocks[j]), (a, b), (pieces, others), forms, outputs, same and a == b)
                if other is None and not (same and a == b):
                    _mirror(kernel, (block, right.blocks[j]), (a, b), outputs)


def _length(part: slice) -> int:
    return part.stop - part.start


def _tiles(one: Block, other: Block, same: bool, side: int) -> Iterator[tuple[slice, slice]]:
    n1, n2 = _length(one.rows), _length(other.rows)
    if same:
        side = min(side, max(ceil(n1 / _PARTS), ceil(_ROWS / _length(one.outputs))))
    for a in range(0, n1, side):
        for b in range(a if same else 0, n2, side):
            yield slice(a, min(a + side, n1)), slice(b, min(b + side, n2))


def _write(
    kernel: Tensor,
    blocks: tuple[Block, Block],
    parts: tuple[slice, slice],
    pieces: tuple[Sequence[Piece], Sequence[Piece]],
    forms: Sequence[Form],
    outputs: Outputs,
    diagonal: bool,
) -> None:
    """One tile; diagonal: of a part of the samples with itself."""
    ks = [outputs.sizes(_length(block.outputs))[1] for block in blocks]
    kernels = outputs.sizes(_length(blocks[0].outputs))[0]
    tile = kernel.new_zeros(kernels, _length(parts[0]), ks[0], _length(parts[1]), ks[1])
    for form, one, other in zip(forms, *pieces, strict=True):
        form.add(tile, form.take(one, parts[0]), form.take(other, parts[1]))
    if diagonal:
        tile = (tile + tile.permute(0, 3, 4, 1, 2)) / 2
    target = _place(kernel, blocks, parts, outputs)
    if outputs.name == "trace":
        target += tile[0, :, 0, :, 0]
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
