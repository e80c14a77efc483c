"""Derivatives of a tangent model row by row, pulled back and pushed forward: what works for every model."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vjp, vmap

from regimes.conventions import Params
from regimes.tangent.functional import push_forward
from regimes.tangent.model import TangentModel
from regimes.tangent.precision import full_precision


def rows(tangent: TangentModel, x: Tensor, outputs: Tensor, names: Sequence[str]) -> Params:
    """Derivatives of the chosen outputs at each sample: name -> (n, chosen, *shape of the parameter)."""
    cotangents = torch.eye(tangent.outputs, dtype=tangent.dtype, device=tangent.device)[outputs]
    params = {name: tangent.params[name] for name in names}

    def one(sample: Tensor) -> Params:
        _, pull = vjp(lambda values: tangent.f({**tangent.params, **values}, sample[None]).reshape(-1), params)[:2]
        return vmap(lambda cotangent: pull(cotangent)[0])(cotangents)

    # Recurrent layers in float32 have derivatives only where gradients are on.
    with full_precision(tangent.device), torch.set_grad_enabled(tangent.recurrent):
        if not tangent.recurrent:
            return vmap(one)(x)
        each = [one(sample) for sample in x]
        return {name: torch.stack([row[name] for row in each]).detach() for name in names}


def pull_back(tangent: TangentModel, x: Tensor, cotangent: Tensor) -> Params:
    """Jᵀ·cotangent."""
    with torch.set_grad_enabled(tangent.recurrent), full_precision(tangent.device):
        _, pull = vjp(lambda values: tangent.f(values, x).reshape(len(x), -1), tangent.params)[:2]
        return {name: each.detach() for name, each in pull(cotangent)[0].items()}


def push(tangent: TangentModel, x: Tensor, direction: Params) -> Tensor:
    """J·direction."""
    with torch.set_grad_enabled(tangent.recurrent), full_precision(tangent.device):
        f = tangent.f
        return push_forward(lambda values: f(values, x).reshape(len(x), -1), tangent.params, direction)[1].detach()
