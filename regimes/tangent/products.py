"""J and its transpose times a vector, by whichever way a tangent model allows."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.func import vjp

from regimes.conventions import Params
from regimes.tangent.functional import push_forward
from regimes.tangent.model import TangentModel
from regimes.tangent.precision import full_precision

_ROWS = 256 * 2**20  # bytes of derivatives formed at a time where the forward mode is missing


def pull_back(tangent: TangentModel, x: Tensor, cotangent: Tensor) -> Params:
    """Jᵀ·cotangent (n, k) of all samples together: name -> shape of the parameter."""
    return pull_back_each(tangent, x, [cotangent])[0]


def pull_back_each(tangent: TangentModel, x: Tensor, cotangents: Iterable[Tensor]) -> list[Params]:
    """Jᵀ·cotangent of each cotangent (n, k), after one forward pass where torch.func follows the model."""
    f = tangent.f
    with torch.set_grad_enabled(tangent.recurrent), full_precision(tangent.device):
        if not (tangent.found.transforms and tangent.found.forward):
            return [tangent.plain.pull(x, lambda value, _, u=u: u.reshape(value.shape))[1] for u in cotangents]
        _, pull = vjp(lambda values: f(values, x).reshape(len(x), -1), tangent.params)[:2]
        return [{name: each.detach() for name, each in pull(u)[0].items()} for u in cotangents]


def push(tangent: TangentModel, x: Tensor, direction: Params) -> Tensor:
    """J·direction: (n, k)."""
    f, found = tangent.f, tangent.found
    with torch.set_grad_enabled(tangent.recurrent), full_precision(tangent.device):
        if not found.forward:
            return _by_rows(tangent, x, direction)
        if not found.transforms:
            return tangent.plain.push(x, direction)[1].reshape(len(x), -1)
        return push_forward(lambda values: f(values, x).reshape(len(x), -1), tangent.params, direction)[1].detach()


def _by_rows(tangent: TangentModel, x: Tensor, direction: Params) -> Tensor:
    """J·direction from the derivatives of some samples at a time."""
    row = tangent.outputs * sum(value.numel() * value.element_size() for value in tangent.params.values())
    product = torch.zeros(len(x), tangent.outputs, dtype=tangent.dtype, device=tangent.device)
    step = max(1, _ROWS // row)
    for start in range(0, len(x), step):
        rows = tangent.rows(x[start : start + step], slice(None))
        for name, along in direction.items():
            left, right = real_rows(rows[name]), real_rows(along[None, None])
            product[start : start + step] += (left * right).flatten(2).sum(2)
    return product


def real_rows(rows: Tensor) -> Tensor:
    """Derivatives by the real and the imaginary part of a complex parameter, side by side: Re(J J̄ᵀ) of the products."""
    return torch.view_as_real(rows.resolve_conj()) if rows.is_complex() else rows
