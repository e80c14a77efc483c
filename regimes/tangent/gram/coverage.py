"""Which parameters can be read from the graph: found on two samples, and held against plain gradients."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regimes.errors import out_of_memory
from regimes.long_sums import norm, products
from regimes.tangent.gram.capture import Group, Kept, capture, find_groups, recorded
from regimes.tangent.gram.forms import Outputs
from regimes.tangent.gram.graph import uses

FULL = Outputs("full")


class Coverage(NamedTuple):
    """groups: what is read layer by layer; absent: parameters without any use; rest: all others."""

    groups: tuple[Group, ...]
    absent: tuple[str, ...]
    rest: tuple[str, ...]


def coverage(model: nn.Module, parameters: Mapping[str, Tensor], two: Tensor, k: int) -> Coverage:
    """The groups whose products of derivatives, on two samples and a random cotangent, are those of plain gradients.

    Two samples at once through the graph on one side, each alone by torch.autograd.grad on the other.
    """
    nothing = Coverage((), (), tuple(parameters))
    source = torch.Generator().manual_seed(0)
    try:
        output = recorded(model, two)
        cotangent = torch.randn(2, k, generator=source, dtype=torch.float64, device="cpu").to(output)
        if output.grad_fn is None:
            return nothing
        found, dtype = uses(output, parameters), output.dtype
        del output
        plain = [_gradients(model, two[i : i + 1], parameters, cotangent[i]) for i in (0, 1)]
    except RuntimeError as error:  # what autograd cannot do here, the other route may
        if out_of_memory(error):
            raise
        return nothing
    unused = [name for name, each in found.items() if not each]
    absent = [name for name in unused if not any(gradient[name].any() for gradient in plain)]
    whole = sum(float(norm(gradient[name])) ** 2 for gradient in plain for name in parameters)
    accepted: list[Group] = []
    open_ = find_groups(found, 2, dtype)
    for minor in (False, True):
        if not open_:
            break
        tried = [group._replace(minor=minor) for group in open_]
        own = {name: parameters[name] for group in tried for name in group.names}
        try:
            kept = [Kept(group, 2, 1, FULL) for group in tried]
            there = capture(model, two, own, kept, [cotangent], slice(0, 2))
        except (RuntimeError, AttributeError) as error:  # another graph at each call; what this torch does not keep
            if out_of_memory(error):
                raise
            break
        right = [own and _agree(each, plain, whole) for each, own in zip(kept, there, strict=True)]
        accepted += [group for group, good in zip(tried, right, strict=True) if good]
        open_ = [group for group, good in zip(open_, right, strict=True) if not good]
    if not accepted:  # no graph is looked at then, so that one without a use here would never be missed
        return nothing
    read = {name for group in accepted for name in group.names}
    rest = tuple(name for name in parameters if name not in {*read, *absent})
    return Coverage(tuple(accepted), tuple(absent), rest)


def _gradients(model: nn.Module, one: Tensor, parameters: Mapping[str, Tensor], cotangent: Tensor) -> dict[str, Tensor]:
    """Of ⟨cotangent, f⟩ at one sample, by parameters."""
    output = recorded(model, one)
    options = {"allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad(output, list(parameters.values()), cotangent.view(output.shape), **options)
    return {name: each.to_dense() for name, each in zip(parameters, found, strict=True)}


def _agree(kept: Kept, plain: Sequence[Mapping[str, Tensor]], whole: int | float) -> bool:
    """Whether the products of the two samples are those of the plain gradients."""
    group, piece = kept.group, kept.piece
    one, other = ([each[name].reshape(-1).to(piece[0].dtype) for name in group.names] for each in plain)
    own, mixed, others = (_dot(a, b) for a, b in ((one, one), (one, other), (other, other)))
    expected = torch.stack([own, mixed, mixed, others]).view(2, 2)
    tile = expected.new_zeros(1, 2, 1, 2, 1)
    group.form.add(tile, piece, piece)
    unit = torch.finfo(expected.dtype).eps
    scale = max(float(expected.diagonal().max()), unit * whole)
    return bool((tile.view(2, 2) - expected).abs().max() <= unit**0.6 * scale)


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([products(a[None], b[None])[0, 0] for a, b in zip(one, other, strict=True)]).sum()
