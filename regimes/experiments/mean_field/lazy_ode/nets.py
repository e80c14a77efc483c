"""Residual nets of scale α, their lazy ODE, and the tangent model of the whole net: three outputs of one displacement.

Weights θ = (u, v) = θ_0 + δ/α. The net, less what its blocks do at the start:
    X_{l+1} = X_l + (1/(L M)) Σ_j α [f(X_l, θ_lj) − f(X_l, θ_0,lj)],      f(X, θ) = u tanh(v·X), output w·X_L.
The lazy ODE has α = ∞, Σ_j ∇_θ f(X_l, θ_0,lj)·δ_lj: linear in δ, not in X. The tangent model of the whole net has the
same at X_l = x, the states of the untrained net: linear in δ altogether.

Laws of θ_0, drawn afresh for every block: `mirrored`, M/2 neurons from N(0, I) and the same with −u, whose blocks do
nothing at the start; `correlated`, v ~ N(0, I) and u = B v + ξ, where ξ ~ N(0, I) and the entries of B, one a seed, are
from N(0, 1). No symmetry of that law turns f into −f.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import generator
from regimes.streams import DeepFlow


class Weights(NamedTuple):
    """u and v of all neurons."""

    output: Float[Tensor, "runs L M d"]
    input: Float[Tensor, "runs L M d"]


Block = Callable[[Tensor, int], Tensor]  # unbind: a slice a block would make the backward pass quadratic in L


def start(law: str, layers: int, width: int, d: int, seeds: Sequence[int]) -> Weights:
    """θ_0, one net a seed."""
    nets = []
    for seed in seeds:
        draw = generator(seed, DeepFlow.BLOCKS, layers)
        size = (2, layers, width // 2 if law == "mirrored" else width, d)
        output, inner = torch.randn(size, generator=draw, dtype=torch.float64)
        if law == "mirrored":
            output, inner = torch.cat([output, -output], 1), torch.cat([inner, inner], 1)
        else:
            turn = torch.randn(d, d, generator=generator(seed, DeepFlow.MEASURE), dtype=torch.float64)
            output = output + inner @ turn.T
        nets.append((output, inner))
    return Weights(*(torch.stack(part) for part in zip(*nets, strict=True)))


def scaled(first: Weights, moved: Weights, alpha: Float[Tensor, " runs"]) -> Block:
    """Σ_j α [f(X, θ) − f(X, θ_0)] of the net."""
    scale = alpha[:, None, None]
    now = [(one + by / scale[..., None]).unbind(1) for one, by in zip(first, moved, strict=True)]
    before = [part.unbind(1) for part in first]

    def block(state: Tensor, cell: int) -> Tensor:
        new, old = (torch.tanh(state @ inner[cell].mT) @ output[cell] for output, inner in (now, before))
        return scale * (new - old)

    return block


def lazy(first: Weights, moved: Weights) -> Block:
    """Σ_j ∇_θ f(X, θ_0)·δ."""
    (output, inner), (by_output, by_inner) = ([part.unbind(1) for part in weights] for weights in (first, moved))

    def block(state: Tensor, cell: int) -> Tensor:
        values = torch.tanh(state @ inner[cell].mT)
        along = (1 - values.square()) * (state @ by_inner[cell].mT)
        return values @ by_output[cell] + along @ output[cell]

    return block


def states(x: Float[Tensor, "runs n d"], block: Block, layers: int, width: int) -> Float[Tensor, "runs n d"]:
    """X_L."""
    state = x
    for cell in range(layers):
        state = state + block(state, cell) / (layers * width)
    return state


def tangent(x: Float[Tensor, "runs n d"], block: Block, layers: int, width: int) -> Float[Tensor, "runs n d"]:
    """The last states of the model that is linear in δ: every block of the lazy ODE sees x."""
    return x + torch.stack([block(x, cell) for cell in range(layers)]).sum(0) / (layers * width)


def block_kernel(weights: Weights, x: Float[Tensor, "runs n d"]) -> Float[Tensor, "runs L n n d d"]:
    """(1/M) Σ_j ∇_θ f(x, θ) ∇_θ f(x', θ)ᵀ of every block: σσ' I + u uᵀ σ̇σ̇' x·x', tanh's values σ and slopes σ̇."""
    values = torch.tanh(torch.einsum("rnd,rlmd->rlmn", x, weights.input))
    slopes = 1 - values.square()
    equal = torch.eye(x.shape[2], dtype=x.dtype)
    of_output = torch.einsum("rlmn,rlmk->rlnk", values, values)[..., None, None] * equal
    inner = (x @ x.mT)[:, None, :, :, None, None]
    of_input = torch.einsum("rlmn,rlmk,rlmd,rlme->rlnkde", slopes, slopes, weights.output, weights.output) * inner
    return (of_output + of_input) / weights.output.shape[2]
