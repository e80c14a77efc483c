"""One forward pass and a backward pass for each output, on some samples; what the groups of parameters keep."""

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
from regimes.tangent.gram.forms import PAIRS, ROWS, Form, Inputs, Outputs, Piece
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
    arriving: int = 0  # entries that are pulled back to its operations, for one sample and output


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
    return [_counted(group, found[group.names[0]], n) for group in whole]


def _counted(group: Group, each: Sequence[Use], n: int) -> Group:
    """With the rows and entries of each use, for one of n samples."""
    arriving = sum(prod(shape_of(use.node)) for use in each) // n
    return group._replace(rows=tuple(layers.rows(use) // n for use in each), arriving=arriving)


def _seen(group: Group) -> tuple:
    """What two graphs have to agree on."""
    return group.names, group.kind, group.rows, group.axes


def _all(kind: Callable[[Use], bool], each: Sequence[Use]) -> bool:
    return len(each) > 0 and len({use.view for use in each}) == 1 and all(kind(use) for use in each)


def _nodes(each: Sequence[Use]) -> Counter[int]:
    return Counter(id(use.node) for use in each)


class Kept:
    """What one group keeps of n samples and k outputs, filled in part by part."""

    def __init__(self, group: Group, n: int, k: int, outputs: Outputs) -> None:
        self.group, self.k, self.outputs = group, k, outputs
        self._n = n
        self._piece: Piece | None = None

    @property
    def piece(self) -> Piece:
        assert self._piece is not None
        return self._piece

    def _part(self, samples: slice, empty: Callable[[], Piece]) -> Piece:
        """The part of some samples; room for all is made when the first are there."""
        if self._piece is None:
            self._piece = empty()
        return self.group.form.take(self._piece, samples)

    def matrix(self, samples: slice, some: slice, deltas: Sequence[Tensor], inputs: Inputs) -> None:
        """Of a matrix or table, for some of the outputs."""
        form, i = self.group.form, self.group.axes[3]
        part = self._part(samples, lambda: form.empty(deltas[0], i, self._n, self.k, self.outputs))
        form.fill(part, self.k, self.outputs, some, deltas, inputs)

    def vector(self, samples: slice, output: int, rows: Tensor) -> None:
        """Of a broadcast parameter, for one output: (n, p)."""
        (part,) = self._part(samples, lambda: (self.outputs.empty(rows, (), self._n, self.k, rows.shape[1:]),))
        self.outputs.by_output(part, self.k, 1)[:, output].copy_(rows)


def capture(
    model: nn.Module,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    kept: Sequence[Kept],
    cotangents: Sequence[Tensor],
    samples: slice,
    *,
    room: int = 0,
    checked: bool = True,
) -> list[bool]:
    """Fill in what the groups keep of the samples x, which are these of all; each cotangent (k,) is one output.

    Whether the rows of each group are those of the samples in their order; what is not so is not filled in.
    parameters: those of the groups, and those that the graph did not reach when the groups were found.
    room: bytes for what arrives at the layers of further outputs, which is read together.
    Unread: the graph uses a parameter otherwise than it did.
    checked: whether the order is looked at, by one more pass back; not where the numbers do not count.
    """
    output, n, groups = recorded(model, x), len(x), [each.group for each in kept]
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
        of_groups = zip(kept, wanted, keys, here, strict=True)
        readers = [_Reader(one, each, own, n, samples) for one, each, own, there in of_groups if there]
        edges = {key for reader in readers for key in reader.keys}
        sizes = [prod(shape_of(node)) * output.itemsize for node, _ in edges]
        together = 1 + room // max(1, sum(sizes) + max(sizes, default=0))  # those of one layer are put side by side
        for start in range(0, len(cotangents), together):
            some = slice(start, min(start + together, len(cotangents)))
            deltas = [_pull_back(output, edges, cotangent.expand(n, -1)) for cotangent in cotangents[some]]
            for reader in readers:
                reader.read(deltas, some)
            del deltas  # before the next are formed
    return here


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
    """Reads what one group keeps of n samples: outputs by outputs, so that the deltas of some are held at a time."""

    def __init__(self, kept: Kept, each: Sequence[Use], keys: Sequence[Key], n: int, samples: slice) -> None:
        self.keys = keys
        self._kept, self._group, self._each, self._n, self._samples = kept, kept.group, each, n, samples
        self._factors = [layers.vector_factor(use) for use in each] if kept.group.kind == "vector" else []

    def read(self, deltas: Sequence[Mapping[Key, Tensor]], some: slice) -> None:
        """Of some outputs."""
        own = [[each[key] for key in self.keys] for each in deltas]
        if self._group.kind == "vector":
            for output, each in enumerate(own, some.start):
                rows = _vector(self._group, self._each, each, self._factors, self._n)
                self._kept.vector(self._samples, output, rows)
            return
        left = [_deltas(self._group, self._each, each, self._n) for each in own]
        step, first = self._at_once(left[0]), self._samples.start
        for start in range(0, self._n, step):
            part = slice(start, min(start + step, self._n))
            at = slice(first + part.start, first + part.stop)
            self._kept.matrix(at, some, [each[part] for each in left], lambda part=part: self._inputs(part))

    def _at_once(self, delta: Tensor) -> int:
        """How many samples."""
        if delta.device.type != "cpu" or self._group.rows != (1,) or not layers.is_convolution(self._each[0]):
            return self._n
        groups, positions, _, inputs = self._group.axes
        return max(1, _PATCHES // (groups * positions * inputs * delta.itemsize))

    def _inputs(self, some: slice) -> Tensor:
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
