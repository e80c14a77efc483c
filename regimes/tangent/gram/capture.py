"""One forward pass and a backward pass for each output, on a block of samples; what the groups of parameters keep."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from regimes.modules import called
from regimes.tangent.functional import derivable
from regimes.tangent.gram import layers
from regimes.tangent.gram.forms import PAIRS, ROWS, Form, Outputs, Piece
from regimes.tangent.gram.graph import Node, Use, dtype_of, shape_of, uses

# Bytes of patches of convolutions that are formed at a time, on a CPU: more would leave the cache, and memory that is
# fetched anew from the system costs three times the product that the patches are for.
_PATCHES = 2**23
Key = tuple[Node, int]  # an operation, and how many of its first axes count its rows


class Group(NamedTuple):
    """Parameters whose derivatives are read together: a weight, with the bias of the same operations if it has one."""

    names: tuple[str, ...]
    kind: str  # "matrix", "lookup", "vector"
    rows: tuple[int, ...] = ()  # of each use, for one sample
    minor: bool = False  # rows of an operation run over samples last: (positions, samples)
    form: Form = ROWS
    axes: tuple[int, int, int, int] = (1, 1, 1, 1)  # of a matrix or table, for one sample: g, S, o, i


class Unread(RuntimeError):
    """The graph of this block is not the one that the groups were found in."""


def recorded(model: nn.Module, x: Tensor) -> Tensor:
    """The output with its graph, whatever is set around; attention and recurrent layers take their plain forms."""
    with torch.inference_mode(False), torch.enable_grad(), derivable(model):
        return called(model, x.clone(), "the tangent kernel")


def find_groups(found: Mapping[str, Sequence[Use]], n: int, dtype: torch.dtype) -> list[Group]:
    """The groups of all parameters whose every use can be read, in a graph of n samples and one dtype."""
    found = {name: each for name, each in found.items() if all(dtype_of(use.node) == dtype for use in each)}
    matrices = {name: each for name, each in found.items() if _all(layers.is_matrix, each)}
    partner: dict[str, str] = {}
    for name, each in found.items():
        if _all(layers.is_bias_of_matrix, each) and all(use.view == () and use.factor == 1 for use in each):
            for weight, others in matrices.items():
                if weight not in partner and _nodes(others) == _nodes(each) and {u.factor for u in others} == {1}:
                    partner[weight] = name
                    break
    groups = []
    for name, each in matrices.items():
        names = (name, partner[name]) if name in partner else (name,)
        groups.append(Group(names, "matrix", axes=layers.matrix_axes(each, n, name in partner)))
    for name, each in found.items():
        if name in matrices or name in partner.values():
            continue
        if _all(layers.is_lookup, each):
            groups.append(Group((name,), "lookup", form=PAIRS, axes=layers.lookup_axes(each, n)))
        elif _all(layers.is_vector, each):
            groups.append(Group((name,), "vector"))
    whole = [group for group in groups if all(layers.rows(use) % n == 0 for use in found[group.names[0]])]
    return [group._replace(rows=tuple(layers.rows(use) // n for use in found[group.names[0]])) for group in whole]


def _seen(group: Group) -> tuple:
    """What two graphs have to agree on."""
    return group.names, group.kind, group.rows, group.axes


def _all(kind: Callable[[Use], bool], each: Sequence[Use]) -> bool:
    return len(each) > 0 and len({use.view for use in each}) == 1 and all(kind(use) for use in each)


def _nodes(each: Sequence[Use]) -> Counter[int]:
    return Counter(id(use.node) for use in each)


def capture(
    model: nn.Module,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    groups: Sequence[Group],
    cotangents: Sequence[Tensor],
    outputs: Outputs,
    *,
    checked: bool = True,
) -> list[Piece]:
    """The pieces of all groups for the samples x; each cotangent (n, k) is one output of the kernel.

    parameters: those of the groups, and those that the graph did not reach when the groups were found.
    Unread: the graph uses a parameter otherwise than it did, or its rows are not those of the samples in their order.
    checked: whether the latter is looked at, by one more pass back; not where the numbers do not count.
    """
    alone = len(x) == 1  # with one sample, torch takes other operations for transposed layouts
    if alone:
        x, cotangents = x.expand(2, *x.shape[1:]), [each.expand(2, -1) for each in cotangents]
    pieces = capture_some(model, x, parameters, groups, cotangents, outputs, checked=checked)
    if any(piece is None for piece in pieces):
        raise Unread("rows in another order")
    whole = [piece for piece in pieces if piece is not None]
    if not alone:
        return whole
    return [group.form.take(piece, slice(0, 1)) for group, piece in zip(groups, whole, strict=True)]


def capture_some(
    model: nn.Module,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    groups: Sequence[Group],
    cotangents: Sequence[Tensor],
    outputs: Outputs,
    *,
    checked: bool = True,
) -> list[Piece | None]:
    """As capture, with None for a group whose rows are not those of the samples."""
    output = recorded(model, x)
    n = len(x)
    found = uses(output, parameters)
    if not {_seen(group) for group in groups} <= {_seen(group) for group in find_groups(found, n, output.dtype)}:
        raise Unread("another graph")
    read = {name for group in groups for name in group.names}
    if any(each and name not in read for name, each in found.items()):
        raise Unread("a parameter that was out of reach is used")
    wanted = [found[group.names[0]] for group in groups]
    keys = [[(use.node, layers.leading(use)) for use in each] for each in wanted]
    with torch.no_grad():
        here = _local(output, n, groups, keys) if checked else [True for _ in groups]
        of_groups = zip(groups, wanted, keys, here, strict=True)
        readers = [
            _Reader(group, each, own, n, outputs, len(cotangents)) if there else None
            for group, each, own, there in of_groups
        ]
        edges = {key for reader in readers if reader is not None for key in reader.keys}
        for place, cotangent in enumerate(cotangents):
            deltas = _pull_back(output, edges, cotangent)
            for reader in readers:
                if reader is not None:
                    reader.read(deltas, place)
            del deltas  # before the next are formed
        return [None if reader is None else reader.piece() for reader in readers]


def _local(output: Tensor, n: int, groups: Sequence[Group], keys: Sequence[Sequence[Key]]) -> list[bool]:
    """For each group: whether what is pulled back from half of the samples arrives in their rows only."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n), device="cpu")
    outside = (order >= n // 2).to(output.device)
    source = torch.Generator().manual_seed(0)
    cotangent = torch.randn(output.shape, generator=source, dtype=torch.float64, device="cpu").to(output).reshape(n, -1)
    cotangent[outside] = 0
    deltas = _pull_back(output, {key for each in keys for key in each}, cotangent)
    return [
        not any(bool(_located(deltas[key], n, group.minor)[outside].any()) for key in own)
        for group, own in zip(groups, keys, strict=True)
    ]


def _pull_back(output: Tensor, keys: set[Key], cotangent: Tensor) -> dict[Key, Tensor]:
    """(N, ...) for each operation, split after its first axes: the cotangent pulled back to its output."""
    nodes = list({node for node, _ in keys})
    if not nodes:
        return {}
    edges, options = [GradientEdge(node, 0) for node in nodes], {"retain_graph": True, "allow_unused": True}
    pulled = dict(
        zip(nodes, torch.autograd.grad(output, edges, cotangent.reshape(output.shape), **options), strict=True)
    )
    found: dict[Key, Tensor] = {}
    for node, first in keys:
        shape, value = shape_of(node), pulled[node]
        value = output.new_zeros(shape) if value is None else value
        found[node, first] = value.reshape(prod(shape[:first]), *shape[first:])
    return found


class _Reader:
    """What one group keeps of n samples: read output after output, so that the deltas of one are held at a time."""

    def __init__(
        self, group: Group, each: Sequence[Use], keys: Sequence[Key], n: int, outputs: Outputs, k: int
    ) -> None:
        self.keys = keys
        self._group, self._each, self._n, self._outputs, self._k = group, each, n, outputs, k
        self._factors = [layers.vector_factor(use) for use in each] if group.kind == "vector" else []
        self._found: Tensor | None = None

    def read(self, deltas: Mapping[Key, Tensor], number: int) -> None:
        """Of one output, which has this number."""
        group, each = self._group, [deltas[key] for key in self.keys]
        if group.kind == "vector":
            self._put(_vector(group, self._each, each, self._factors, self._n), number, slice(0, self._n))
            return
        delta = _deltas(group, self._each, each, self._n)
        step = self._at_once(delta)
        for start in range(0, self._n, step):
            some = slice(start, min(start + step, self._n))
            self._put(group.form.read(delta[some], lambda some=some: self._inputs(some)), number, some)

    def _at_once(self, delta: Tensor) -> int:
        """How many samples."""
        if delta.device.type != "cpu" or self._group.rows != (1,) or not layers.is_convolution(self._each[0]):
            return self._n
        groups, positions, _, inputs = self._group.axes
        return max(1, _PATCHES // (groups * positions * inputs * delta.itemsize))

    def _put(self, value: Tensor, number: int, some: slice) -> None:
        """Beside what was read of other outputs and samples."""
        at = self._group.form.at
        if self._found is None:
            whole = value[:0].sum().expand(*value.shape[: at - 1], self._n, *value.shape[at:])
            self._found = self._outputs.empty(whole, self._k, at)
        place = self._outputs.place(self._found, number, self._k, at)
        place.narrow(at - 1, some.start, some.stop - some.start).copy_(value)

    def piece(self) -> Piece:
        """Of all outputs; what was read is let go."""
        found, self._found, self._factors = self._found, None, []
        assert found is not None
        return self._group.form.keep(found, self._inputs)

    def _inputs(self, some: slice = slice(None)) -> Tensor:
        """Of a matrix (n, g, i, S), or some of its samples where each has one row; of a table its numbers (n, S)."""
        group, each, n = self._group, self._each, self._n
        if group.kind == "lookup":
            return torch.cat([_located(layers.lookup_numbers(use), n, group.minor) for use in each], 1)
        with_bias = len(group.names) == 2
        if group.rows == (1,):
            return layers.matrix_inputs(each[0], with_bias, some)
        return _joined([_positions(layers.matrix_inputs(use, with_bias), n, group.minor) for use in each])


def _vector(
    group: Group, each: Sequence[Use], deltas: Sequence[Tensor], factors: Sequence[Tensor | None], n: int
) -> Tensor:
    """The derivatives (n, p) of a broadcast parameter."""
    rows = [layers.vector_rows(*one) for one in zip(each, deltas, factors, strict=True)]
    parts = [_located(part, n, group.minor).sum(1) for part in rows]
    return sum(parts[1:], parts[0])


def _deltas(group: Group, each: Sequence[Use], deltas: Sequence[Tensor], n: int) -> Tensor:
    """(n, g, o, S) of a matrix or table."""
    pairs = list(zip(each, deltas, strict=True))
    if group.kind == "lookup":
        parts = [_located(layers.lookup_deltas(use, delta), n, group.minor) for use, delta in pairs]
        return torch.cat(parts, 1).mT[:, None]  # from (n, S, o)
    return _joined([_positions(layers.matrix_deltas(use, delta), n, group.minor) for use, delta in pairs])


def _located(rows: Tensor, n: int, minor: bool) -> Tensor:
    """(N, ...) -> (n, N / n, ...): the rows of each sample."""
    return rows.unflatten(0, (-1, n)).transpose(0, 1) if minor else rows.unflatten(0, (n, -1))


def _positions(rows: Tensor, n: int, minor: bool) -> Tensor:
    """(N, ..., L) -> (n, ..., N / n · L): the rows of a sample are further positions."""
    if len(rows) == n:
        return rows
    return _located(rows, n, minor).movedim(1, -2).flatten(-2)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)
