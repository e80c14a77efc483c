"""The pieces of the kernel for a block of samples and outputs: read from the graph, and the rest row by row."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regimes.conventions import Params
from regimes.tangent.gram.blocks import FEW, Block, Bytes, Layout, fitted, passes, stays
from regimes.tangent.gram.capture import Group, Kept, Unread, capture
from regimes.tangent.gram.coverage import Coverage
from regimes.tangent.gram.footprint import most_bytes
from regimes.tangent.gram.forms import FORMS, ROWS, Form, Outputs, Piece, Sizes, cheapest
from regimes.tangent.model import unit_rows
from regimes.tangent.products import real_rows

# Derivatives of chosen outputs by named parameters: (x, outputs, names) -> name -> (n, K, *shape of the parameter).
RowsOf = Callable[[Tensor, Tensor, Sequence[str]], Params]


class Features(NamedTuple):
    """How pieces are formed, for one kernel."""

    model: nn.Module
    params: Params  # trainable, as the model holds them
    covered: Coverage
    rows: RowsOf
    chosen: Tensor  # which outputs
    width: int  # k: all outputs
    outputs: Outputs
    dtype: torch.dtype

    @property
    def forms(self) -> list[Form]:
        return [group.form for group in self.covered.groups] + [ROWS for _ in self.covered.rest]

    def sized(self, n: int, memory: int) -> "Features":
        """With the cheapest form for each group, for n samples; where the pieces do not fit, of files as well."""
        kernels, outputs, more = self.outputs.sizes(len(self.chosen))
        groups = [(group, _sizes(group, kernels, outputs, more, n)) for group in self.covered.groups]

        def chosen(filed: bool) -> list[Form]:
            return [cheapest(sizes, FORMS[group.kind], filed=filed) for group, sizes in groups]

        forms = chosen(filed=False)
        kept = n * sum(form.kept(sizes) for form, (_, sizes) in zip(forms, groups, strict=True))
        if not stays(kept * self.dtype.itemsize, memory):
            forms = chosen(filed=True)
        found = tuple(group._replace(form=form) for form, (group, _) in zip(forms, groups, strict=True))
        return self._replace(covered=self.covered._replace(groups=found))

    def pieces(
        self, x: Tensor, outputs: slice = slice(None), sizes: Layout | None = None, *, checked: bool = True
    ) -> list[Piece]:
        """Of all groups, then of the rest, for the samples x; sizes = None: all samples in one pass."""
        n, chosen = len(x), self.chosen[outputs]
        x = x.expand(2, *x.shape[1:]) if n == 1 else x  # with one, torch takes other operations for transposed layouts
        units = list(unit_rows(chosen, self.width, self.dtype))
        names = [name for group in self.covered.groups for name in group.names]
        known = {name: self.params[name] for name in (*names, *self.covered.absent)}
        kept = [Kept(group, len(x), len(chosen), self.outputs) for group in self.covered.groups]
        rest = [Kept(Group((name,), "vector"), len(x), len(chosen), self.outputs) for name in self.covered.rest]
        room = 0 if sizes is None else sizes.room
        for samples in passes(len(x), len(x) if sizes is None else self._at_once(len(chosen), sizes)):
            part = x[samples]
            if kept and not all(capture(self.model, part, known, kept, units, samples, room=room, checked=checked)):
                raise Unread("rows in another order")
            if rest:
                found = self.rows(part, chosen, self.covered.rest)
                for each, name in zip(rest, self.covered.rest, strict=True):
                    rows = real_rows(found[name]).to(self.dtype).reshape(len(part), len(chosen), -1)
                    for output in range(len(chosen)):
                        each.vector(samples, output, rows[:, output])
        return [each.group.form.take(each.piece, slice(0, n)) for each in (*kept, *rest)]

    def _at_once(self, k: int, sizes: Layout) -> int:
        """Samples of a pass: no more than the deltas of all outputs leave room for, except where these would be few."""
        arriving = [group.arriving for group in self.covered.groups]
        deltas = k * self.dtype.itemsize * (sum(arriving) + max(arriving, default=0))  # as capture counts them
        return min(sizes.at_once, max(FEW, sizes.room // max(1, deltas)))

    def room(self, k: int, n: int) -> int | float:
        """Numbers that the work on one pair of samples takes, with k outputs: a tile, its mirror, its products."""
        kernels, outputs, more = self.outputs.sizes(k)
        tile = kernels * outputs**2
        sizes = [_sizes(group, kernels, outputs, more, n) for group in self.covered.groups]
        rooms = [group.form.room(size) for group, size in zip(self.covered.groups, sizes, strict=True)]
        return 2 * tile + max([tile, *rooms])

    def cost(self, n: int) -> int | float:
        """Multiply-adds for one pair of n samples, by what is read from the graph."""
        sizes = self.outputs.sizes(len(self.chosen))
        return sum(group.form.cost(_sizes(group, *sizes, n)) for group in self.covered.groups)

    def measured(self, two: Tensor, enough: Callable[[Bytes, Bytes], bool]) -> tuple[Bytes, Bytes]:
        """(most bytes alive while pieces are formed, bytes that they keep), from a few samples and outputs.

        Bounds by what four samples take come first: where they are `enough`, one call serves for three.
        """
        few = two[[0, 1, 0, 1]]
        known = [*self.model.parameters(), *self.model.buffers(), few]

        def of(samples: int, outputs: int) -> tuple[int, int]:
            most, pieces = most_bytes(lambda: self.pieces(few[:samples], slice(0, outputs), checked=False), known)
            return most, sum(tensor.nbytes for piece in pieces for tensor in piece)

        most = min(3, len(self.chosen))  # what only the second output adds is in the slope else
        more, fewer = of(4, most), max(1, most - 1)
        peak, kept = (Bytes(each, 0, each / (4 * most)) for each in more)
        if not enough(peak, kept):
            each = zip(of(2, fewer), of(4, fewer), more, strict=True)
            peak, kept = (fitted(*bytes_, fewer) for bytes_ in each)
        return peak, kept

    def former(self, x: Tensor, sizes: Layout) -> Callable[[Block], list[Piece]]:
        return lambda block: self.pieces(x[block.rows], block.outputs, sizes)


def _sizes(group: Group, kernels: int, outputs: int, more: int, n: int) -> Sizes:
    g, positions, left, right = group.axes
    return Sizes(kernels, outputs, g, positions, left * more, right, n)
