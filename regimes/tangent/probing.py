"""Products of tangent kernels with common random directions, by backward passes: what estimates are made of.

For u, v in the space of all outputs of all samples, uᵀΘv = ⟨Jᵀu, Jᵀv⟩. Nothing of size (n, n) or (n·k, p) is formed.
"""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes import checks
from regimes.checks import count, finite, kind, real, shapes
from regimes.conventions import Params
from regimes.tangent.gram.blocks import folder
from regimes.tangent.inputs import same_samples
from regimes.tangent.operator import TangentOperator
from regimes.tangent.products import real_rows

PROBES = 16
_CHUNK = 2**25  # bytes of derivatives that are multiplied at a time


class Probed(NamedTuple):
    """G = DᵀΘD of directions D: the first `fixed` ones orthonormal, the others random signs orthogonal to those.

    centred: D has mean zero over the samples, so that G tells of HΘH with H = 1 − 11ᵀ/n for each output.
    target: the coordinates of y/‖y‖ in D. passes: over all samples. Without random directions D spans the whole
    space, and what follows from G is exact. call: what all of one call of probe share.
    """

    products: Float[Tensor, "d d"]
    fixed: int
    target: Float[Tensor, " d"] | None
    centred: bool
    passes: int
    call: object = None

    @property
    def random(self) -> int:
        """How many directions are random."""
        return len(self.products) - self.fixed


def probe(
    operators: Sequence[TangentOperator],
    y: Float[Tensor, "n k"] | None = None,
    *,
    generator: torch.Generator,
    probes: int = PROBES,
    sketched: int | None = None,
    centred: bool = False,
) -> list[Probed]:
    """The products of each of several kernels, of one shape and on one set of samples, with common directions.

    y, if given, is the first of the fixed directions. `sketched` more of them come from what the kernels make of
    random vectors, in equal parts from each: they take the largest eigenvalues out of the noise, as Hutch++ does.
    None: half as many as probes, or none where J has no forward mode. Passes of a kernel: one backward (with a forward
    one) for each direction, and two for each sketched one from it. With as many directions as the space has dimensions
    a basis is taken instead, and the numbers are exact.
    Memory: that of the operator, and d numbers for each output of each sample.
    Source: [MeyerMuscoMuscoWoodruff2021].
    """
    first = _checked(operators, y, generator)
    probes = count("probe", "probes", probes, 3)
    if sketched is None:
        sketched = probes // 2 if all(each.tangent.found.forward for each in operators) else 0
    sketched = count("probe", "sketched", sketched, 0)
    n, k = len(first.x), first.outputs
    if centred and n == 1:
        raise ValueError("probe needs at least two samples with centred=True; of one sample nothing is left.")
    columns: list[Tensor] = []
    if y is not None:
        columns.append(_column(y, centred))
        if not columns[0].any():
            raise ValueError(f"probe needs targets that are not all {'equal' if centred else 'zero'}.")
    passes = [0] * len(operators)
    if (y is not None) + sketched + probes >= n * k:
        directions = _centred(torch.eye(n * k, dtype=torch.float64).view(n * k, n, k), centred).flatten(1).T
        fixed, target = n * k, None if y is None else columns[0] / columns[0].norm()
    else:
        for place in range(sketched):
            turn = place % len(operators)
            start = _random((n, k), generator, signs=False)
            image = operators[turn].matvec(_centred(start[None], centred)[0].to(first.x.device, first.tangent.dtype))
            columns.append(_column(image, centred))
            passes[turn] += 2
        basis = _orthonormal(columns, n * k)
        signs = _centred(_random((probes, n, k), generator, signs=True), centred).flatten(1).T
        signs = signs - basis @ (basis.T @ signs)
        directions, fixed = torch.cat([basis, signs], 1), basis.shape[1]
        target = None if y is None else basis.new_zeros(fixed + probes).index_fill(0, torch.tensor([0]), 1.0)
    every, call = directions.T.reshape(-1, n, k), object()
    return [
        Probed(_products(operator, every), fixed, target, centred, len(every) + before, call)
        for operator, before in zip(operators, passes, strict=True)
    ]


def _checked(operators: Any, y: Any, generator: Any) -> TangentOperator:
    kind("probe", "operators", operators, Sequence, "a list of tangent operators")
    if not operators:
        raise ValueError("probe needs at least one tangent operator; got none.")
    for operator in operators:
        kind("probe", "operators", operator, TangentOperator, "tangent operators; use regimes.tangent_operator")
    for one, other in pairwise(operators):
        if one.tangent.dtype != other.tangent.dtype:
            raise ValueError(
                f"probe needs operators of one dtype; got {one.tangent.dtype} and {other.tangent.dtype}. Convert one."
            )
        if one.outputs != other.outputs or not same_samples(one.model, one.x, other.model, other.x):
            raise ValueError("probe needs operators with one number of outputs on one set of samples, in one order.")
    checks.generator("probe", generator)
    first = operators[0]
    if y is not None:
        cure = f"A row for each of the {len(first.x)} samples, a column for each of the {first.outputs} outputs"
        shapes("probe", y=(y, f"{len(first.x)} {first.outputs}"), cure=cure)
        real("probe", y=y)
        finite("probe", y=y)
    return first


def _random(shape: tuple[int, ...], generator: torch.Generator, *, signs: bool) -> Tensor:
    """On the host in float64: signs, or normal numbers."""
    device = generator.device
    if signs:
        return torch.randint(0, 2, shape, generator=generator, device=device).cpu().double() * 2 - 1
    return torch.randn(shape, generator=generator, device=device, dtype=torch.float64).cpu()


def _centred(vectors: Float[Tensor, "m n k"], centred: bool) -> Float[Tensor, "m n k"]:
    return vectors - vectors.mean(1, keepdim=True) if centred else vectors


def _column(vector: Tensor, centred: bool) -> Float[Tensor, " nk"]:
    return _centred(vector.detach().cpu().double()[None], centred).reshape(-1)


def _orthonormal(columns: Sequence[Tensor], size: int) -> Float[Tensor, "nk q"]:
    """A basis of the span; the first column is the first vector, up to its length. Vectors of the span are left out."""
    if not columns:
        return torch.zeros(size, 0, dtype=torch.float64)
    basis: list[Tensor] = []
    for column in columns:
        rest = column
        for _ in range(2):  # once more, as rounding leaves what it takes away
            for unit in basis:
                rest = rest - (unit @ rest) * unit
        if rest.norm() > 1e-6 * column.norm():
            basis.append(rest / rest.norm())
    return torch.stack(basis, 1) if basis else torch.zeros(size, 0, dtype=torch.float64)


def _products(operator: TangentOperator, directions: Float[Tensor, "d n k"]) -> Float[Tensor, "d d"]:
    """DᵀΘD: pulled back in groups, kept in memory or in a file, multiplied in float64."""
    d, size = len(directions), sum(real_rows(value).numel() for value in operator.tangent.params.values())
    dtype, device = operator.tangent.dtype, operator.tangent.device
    row = size * dtype.itemsize
    group = max(1, min(d, operator.memory // (4 * row)))
    with folder() as place:
        if d * row <= operator.memory // 2:
            kept = torch.empty(d, size, dtype=dtype, device=device)
        else:
            free = shutil.disk_usage(place).free
            if free < 1.1 * d * row:
                raise ValueError(
                    f"probe keeps {d} derivatives, {d * row} bytes, in memory or in a temporary file; "
                    f"the disk has {free}. Pass fewer probes, or set TMPDIR to another disk."
                )
            kept = torch.from_file(str(Path(place) / "rows"), shared=True, size=d * size, dtype=dtype).view(d, size)
        for start in range(0, d, group):
            part = directions[start : start + group].to(device, dtype)
            for number, gradient in enumerate(operator.vjps(list(part))):
                kept[start + number] = _flat(gradient)
        products = torch.zeros(d, d, dtype=torch.float64)
        step = max(1, _CHUNK // (8 * d))
        for start in range(0, size, step):
            part = kept[:, start : start + step].double()
            products += (part @ part.T).cpu()
        del kept
    finite("probe", **{"derivatives of the model": products})
    return products


def _flat(gradient: Params) -> Tensor:
    return torch.cat([real_rows(value).reshape(-1) for value in gradient.values()])
