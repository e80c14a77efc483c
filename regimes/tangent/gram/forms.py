"""The forms in which derivatives of one group of parameters are kept, and how each adds to a tile of the kernel.

B kernels of K outputs each are formed at once (see `Outputs`); g groups of channels; S positions; a derivative is
Σ_s delta_s ⊗ input_s with o and i entries. `add` adds the products of two pieces to a tile (B, n1, K, n2, K).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from regimes.long_sums import LONG, products
from regimes.machine import give_back_memory

Piece = tuple[Tensor, ...]
Inputs = Callable[[], Tensor]  # (n, g, i, S), or whole numbers (n, S): formed when called, as they may be large
_PASS = 8  # multiply-adds in the time that one entry takes to be read, changed and written
_FILED = 200  # multiply-adds in the time that a number takes to be written to a file and read from it


class Outputs(NamedTuple):
    """Which pairs of the K outputs the kernel has: all ("full"), their sum over a = b ("trace"), or each a = b."""

    name: str

    @property
    def matched(self) -> bool:
        return self.name != "full"

    def sizes(self, k: int) -> tuple[int, int, int]:
        """(B, K, factor on o) of k outputs."""
        return {"full": (1, k, 1), "trace": (1, 1, k), "diagonal": (k, 1, 1)}[self.name]

    def empty(self, like: Tensor, before: tuple[int, ...], n: int, k: int, after: tuple[int, ...]) -> Tensor:
        """For values (*before, n, *after) of each of k outputs: (B, *before, n, K, *after)."""
        if self.name == "trace":
            return like.new_empty((1, *before, n, 1, *after[:-1], k * after[-1]))
        return like.new_empty((1, *before, n, k, *after) if self.name == "full" else (k, *before, n, 1, *after))

    def by_output(self, whole: Tensor, k: int, at: int) -> Tensor:
        """A view (*before, n, k, *after) of that, where k is axis `at`."""
        if self.name == "full":
            return whole[0]
        if self.name == "trace":
            return whole[0].select(at, 0).unflatten(-1, (k, -1)).movedim(-2, at)
        return whole.select(at + 1, 0).movedim(0, at)


class Sizes(NamedTuple):
    """Of one group of parameters, for one sample and pair: B, K, g, S, o, i, and the number of samples.

    i = 0: the inputs are whole numbers that stand for unit vectors.
    """

    kernels: int
    outputs: int
    groups: int
    positions: int
    left: int
    right: int
    samples: int


@runtime_checkable
class Form(Protocol):
    """How derivatives of one group are kept and multiplied."""

    def cost(self, s: Sizes) -> int | float:
        """Multiply-adds for one pair of samples."""
        ...

    def room(self, s: Sizes) -> int | float:
        """Numbers that the work on one pair of samples takes beside the tile."""
        ...

    def kept(self, s: Sizes) -> int | float:
        """Numbers that are kept of one sample."""
        ...

    def empty(self, delta: Tensor, inputs: int, n: int, k: int, outputs: Outputs) -> Piece:
        """The piece of n samples and k outputs, to be filled; delta (m, g, o, S) of some, and i."""
        ...

    def fill(
        self, piece: Piece, k: int, outputs: Outputs, some: slice, deltas: Sequence[Tensor], inputs: Inputs
    ) -> None:
        """Write what some of k outputs leave: deltas (n, g, o, S) of each of them, and the inputs of all."""
        ...

    def take(self, piece: Piece, samples: slice) -> Piece: ...

    def axes(self, piece: Piece) -> tuple[int, ...]:
        """Which axis of each of its tensors counts samples."""
        ...

    def add(self, tile: Tensor, one: Piece, other: Piece) -> None: ...


class Rows:
    """The derivatives themselves: (B, n, K, p), in the order of groups, deltas and inputs."""

    def cost(self, s: Sizes) -> int | float:
        p = s.groups * s.left * s.right
        return s.kernels * s.outputs * (s.outputs * p + 2 * s.positions * p / s.samples)

    def room(self, s: Sizes) -> int | float:
        return s.kernels * s.outputs**2

    def kept(self, s: Sizes) -> int | float:
        return s.kernels * s.outputs * s.groups * s.left * s.right

    def empty(self, delta: Tensor, inputs: int, n: int, k: int, outputs: Outputs) -> Piece:
        return (outputs.empty(delta, (), n, k, (delta.shape[1] * delta.shape[2] * inputs,)),)

    def fill(
        self, piece: Piece, k: int, outputs: Outputs, some: slice, deltas: Sequence[Tensor], inputs: Inputs
    ) -> None:
        into = outputs.by_output(piece[0], k, 1)[:, some]
        right = inputs()  # (n, g, i, S)
        left = torch.stack(list(deltas), 2) if len(deltas) > 1 else deltas[0][:, :, None]  # (n, g, c, o, S)
        n, groups, count, o, positions = left.shape
        shape = (groups, o, right.shape[2])
        if positions == 1:
            torch.mul(left.transpose(1, 2), right[:, None].mT, out=into.unflatten(2, shape))
        elif groups == 1 and into.is_contiguous():
            torch.bmm(left.reshape(n, count * o, positions), right[:, 0].mT, out=into.view(n, count * o, -1))
        else:
            found = left.flatten(2, 3) @ right.mT
            into.unflatten(2, shape).copy_(found.unflatten(2, (count, o)).transpose(1, 2))

    def take(self, piece: Piece, samples: slice) -> Piece:
        return (piece[0][:, samples],)

    def axes(self, piece: Piece) -> tuple[int, ...]:
        return (1,)

    def add(self, tile: Tensor, one: Piece, other: Piece) -> None:
        left, right = one[0].flatten(1, 2), other[0].flatten(1, 2)
        for kernel, a, b in zip(tile, left, right, strict=True):
            whole = kernel.view(len(a), len(b))
            if a.shape[1] > LONG:
                whole += products(a, b)
            else:
                whole.addmm_(a, b.T)


class Pairs:
    """Factors (B, g, n, K, S, o) and (g, n, S, i): Σ_st (delta_s·delta'_t)(input_s·input'_t), all products formed.

    Inputs that are whole numbers (n, S) stand for unit vectors.
    """

    def cost(self, s: Sizes) -> int | float:
        pairs = s.groups * s.positions**2
        entries = s.kernels * s.outputs**2
        return pairs * (entries * (s.left + (_PASS if pairs > 1 else 1)) + s.right)

    def room(self, s: Sizes) -> int | float:
        inner = 1.25 if s.right == 0 else 1.0  # numbers are compared first: a byte each
        return s.groups * s.positions**2 * (s.kernels * s.outputs**2 * (1 + 1 / s.positions) + inner)

    def kept(self, s: Sizes) -> int | float:
        return s.groups * s.positions * (s.kernels * s.outputs * s.left + s.right)

    def empty(self, delta: Tensor, inputs: int, n: int, k: int, outputs: Outputs) -> Piece:
        _, groups, o, positions = delta.shape
        left = outputs.empty(delta, (groups,), n, k, (positions, o))
        if inputs == 0:
            return left, delta.new_empty((n, positions), dtype=torch.long)
        return left, delta.new_empty((groups, n, positions, inputs))

    def fill(
        self, piece: Piece, k: int, outputs: Outputs, some: slice, deltas: Sequence[Tensor], inputs: Inputs
    ) -> None:
        into = outputs.by_output(piece[0], k, 2)[:, :, some]
        for number, delta in enumerate(deltas):
            into[:, :, number].copy_(delta.permute(1, 0, 3, 2))
        if some.start == 0:
            right = inputs()
            piece[1].copy_(right.permute(1, 0, 3, 2) if right.is_floating_point() else right)

    def take(self, piece: Piece, samples: slice) -> Piece:
        delta, inputs = piece
        return delta[:, :, samples], inputs[:, samples] if inputs.is_floating_point() else inputs[samples]

    def axes(self, piece: Piece) -> tuple[int, ...]:
        return 2, 1 if piece[1].is_floating_point() else 0

    def add(self, tile: Tensor, one: Piece, other: Piece) -> None:
        (a, x), (b, y) = one, other
        (kernels, groups, n1, k1, s1, _), (n2, k2, s2) = a.shape, b.shape[2:5]
        deltas = products(a.flatten(2, 4), b.flatten(2, 4))
        inputs = _inner(x, y, a.dtype)
        if groups == s1 == s2 == 1:
            tile.addcmul_(deltas.view(tile.shape), inputs.view(1, n1, 1, n2, 1))
            return
        deltas = deltas.view(kernels, groups, n1, k1, s1, n2, k2, s2)
        deltas *= inputs.view(1, groups, n1, 1, s1, n2, 1, s2)
        tile += deltas.sum(7).sum((1, 4))


class Applied:
    """The same factors; the inner products of the inputs are applied to the deltas of one side first.

    Σ_s delta_s · (Σ_t (input_s·input'_t) delta'_t): fewer products than Pairs where K and S are both large.
    """

    def cost(self, s: Sizes) -> int | float:
        work = s.positions * s.right + s.positions * s.outputs * s.left + s.outputs**2 * s.left
        return s.kernels * s.groups * s.positions * (work + s.outputs * s.left * _PASS / 4)

    def room(self, s: Sizes) -> int | float:
        inner = 1.25 if s.right == 0 else s.groups + 1.0  # and those of one group in the other order
        return s.positions * (s.positions * inner + s.left) + s.outputs

    kept, empty, fill, take, axes = Pairs.kept, Pairs.empty, Pairs.fill, Pairs.take, Pairs.axes

    def add(self, tile: Tensor, one: Piece, other: Piece) -> None:
        (a, x), (b, y) = one, other
        (n1, k1, s1, o), (n2, s2) = a.shape[2:], (b.shape[2], b.shape[4])
        if x.is_floating_point():
            inputs = _inner(x, y, a.dtype).view(-1, n1 * s1, n2, s2).transpose(1, 2)
        else:
            inputs = (x.reshape(1, -1, 1) == y[:, None]).to(a.dtype)[None]
        applied = a.new_empty(n2, n1 * s1, o)  # once: malloc may not find room for the next where this one was
        for kernel, left, right in zip(tile, a, b, strict=True):
            for delta, across, delta2 in zip(left, inputs, right, strict=True):
                across = across.contiguous()  # (n2, n1 S, S')
                for output in range(delta2.shape[1]):
                    torch.bmm(across, delta2[:, output], out=applied)
                    flat = delta.reshape(n1, k1, s1 * o), applied.view(n2, n1, s1 * o).transpose(0, 1)
                    kernel[..., output] += products(*flat)
                    del flat
        del applied
        give_back_memory()  # nor for that of the next group


def _inner(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """(g, n1·S, n2·S) inner products of the inputs."""
    if not x.is_floating_point():
        return (x.reshape(-1, 1) == y.reshape(1, -1)).to(dtype)[None]
    return products(x.flatten(1, 2), y.flatten(1, 2))


ROWS, PAIRS, APPLIED = Rows(), Pairs(), Applied()


FORMS: dict[str, tuple[Form, ...]] = {"matrix": (PAIRS, ROWS, APPLIED), "lookup": (PAIRS, APPLIED), "vector": (ROWS,)}


def cheapest(sizes: Sizes, forms: Sequence[Form], *, filed: bool = False) -> Form:
    """Of several forms the one that takes the fewest multiply-adds; `filed`: with what is kept going through files.

    Of n samples there are about n/2 pairs for each.
    """
    files = 2 * _FILED / sizes.samples if filed else 0
    return min(forms, key=lambda form: form.cost(sizes) + files * form.kept(sizes))
