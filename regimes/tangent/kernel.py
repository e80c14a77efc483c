"""Empirical tangent kernel (NTK) of any torch module: dense, blocked, or as a product with a vector."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import vjp, vmap

from regimes.conventions import Params
from regimes.modules import misfit, require_deterministic
from regimes.tangent.functional import Functional, functional, push_forward

Batch = Shaped[Tensor, "n *sample"]
MEMORY = 512 * 2**20  # bytes that the Jacobian blocks of one kernel may take together


class _Tangent(NamedTuple):
    f: Functional
    params: Params
    outputs: int  # k: entries of the output of one sample
    batched: bool  # whether samples can be mapped at once


class _Block(NamedTuple):
    rows: slice  # samples
    outputs: slice


def _tangent(model: nn.Module, x: Tensor, caller: str) -> _Tangent:
    require_deterministic(model, caller)
    if not isinstance(x, Tensor):
        raise ValueError(f"{caller} needs inputs as a tensor (n, ...); got {type(x).__name__}. Use torch.as_tensor.")
    if x.ndim < 1 or len(x) == 0:
        raise ValueError(f"{caller} needs a batch of at least one sample; got shape {tuple(x.shape)}.")
    f, params = functional(model)
    first = next(iter(params.values()))
    if x.device != first.device:
        raise ValueError(f"{caller} needs inputs on the device of the model, {first.device}; got {x.device}.")
    if x.is_floating_point() and x.dtype != first.dtype:
        raise ValueError(
            f"{caller} needs inputs of the dtype of the model, {first.dtype}; got {x.dtype}: convert one of them."
        )
    with torch.no_grad():
        try:
            probe = f(params, x[:1])
        except RuntimeError as error:
            reason = misfit(model, lambda: f(params, x[:1]))
            if reason is None:
                raise
            shape = tuple(x.shape[1:])
            raise ValueError(f"{caller} needs samples that fit the model: with shape {shape} {reason}.") from error
    if not isinstance(probe, Tensor) or probe.ndim < 1 or len(probe) != 1:
        got = f"shape {tuple(probe.shape)}" if isinstance(probe, Tensor) else type(probe).__name__
        raise ValueError(
            f"{caller} needs a model that returns one tensor with a row for each sample; one sample gave {got}."
        )
    # The cells of recurrent layers write in place, which vmap over samples cannot follow.
    batched = not any(isinstance(module, nn.RNNBase) for module in model.modules())
    return _Tangent(f, params, probe.numel(), batched)


def _rows(tangent: _Tangent, x: Tensor, outputs: slice) -> Params:
    """Derivatives of the chosen outputs at each sample: name -> (n, chosen, *shape of the parameter)."""
    reference = next(iter(tangent.params.values()))
    cotangents = torch.eye(tangent.outputs, dtype=reference.dtype, device=reference.device)[outputs]

    def rows(sample: Tensor) -> Params:
        _, pull = vjp(lambda values: tangent.f(values, sample[None]).reshape(-1), tangent.params)[:2]
        return vmap(lambda cotangent: pull(cotangent)[0])(cotangents)

    if tangent.batched:
        return vmap(rows)(x)
    each = [rows(sample) for sample in x]
    return {name: torch.stack([row[name] for row in each]) for name in tangent.params}


def jacobian(model: nn.Module, x: Batch) -> Params:
    """Derivative of every output of every sample: name -> (n, k, *shape of the parameter), outputs flattened to k."""
    tangent = _tangent(model, x, "jacobian")
    return _rows(tangent, x, slice(0, tangent.outputs))


def _blocks(n: int, tangent: _Tangent, block: int | None, memory: int) -> list[_Block]:
    """Samples (and, where one sample is too large, outputs) whose derivatives fit into a third of the memory."""
    row = sum(value.numel() * value.element_size() for value in tangent.params.values())
    fitting = max(1, memory // (3 * row))  # two Jacobians and the working copy of the newer one
    outputs = min(tangent.outputs, fitting)
    samples = block if block is not None else max(1, fitting // outputs)
    return [
        _Block(slice(i, min(i + samples, n)), slice(a, min(a + outputs, tangent.outputs)))
        for i in range(0, n, samples)
        for a in range(0, tangent.outputs, outputs)
    ]


def _contract(first: Params, second: Params, trace: bool) -> Tensor:
    """Σ over parameters of the products of two Jacobians: (n1, n2), or (n1, n2, k1, k2) for separate outputs."""
    total: Tensor | float = 0.0
    for name, left in first.items():
        right = second[name]
        if trace:
            total = total + left.reshape(len(left), -1) @ right.reshape(len(right), -1).T
        else:
            rows, columns = left.shape[:2], right.shape[:2]
            product = left.reshape(rows.numel(), -1) @ right.reshape(columns.numel(), -1).T
            total = total + product.view(*rows, *columns).transpose(1, 2)
    assert isinstance(total, Tensor)
    return total


def ntk(
    model: nn.Module,
    x1: Batch,
    x2: Shaped[Tensor, "n2 *other"] | None = None,
    *,
    outputs: str = "full",
    block: int | None = None,
    memory: int = MEMORY,
) -> Float[Tensor, "n n2 k k"] | Float[Tensor, "n n2"]:
    """Tangent kernel Θ(x, x')_ab = Σ_parameters ∂f_a(x) ∂f_b(x') of any torch module, at its present parameters.

    "full" gives (n1, n2, k, k); "trace" gives Σ_a Θ_aa, the SUM over the k outputs (divide by k for the mean). Outputs
    of more than one axis are flattened to k. x2 = None means x1: then the result is exactly symmetric.
    Derivatives are formed for `block` samples at a time (None: as many as `memory` bytes hold), never for all at once,
    so blocks change the time and not the result. dtype and device are those of the model. Parameters with
    requires_grad=False do not count; shared parameters count once with all their uses.
    ValueError: BatchNorm or Dropout in train mode, an input of another dtype, device or sample shape (where
    a linear or convolutional layer tells), no trainable parameter.
    Source: [JacotGabrielHongler2018].
    """
    if outputs not in ("full", "trace"):
        raise ValueError(f"ntk needs outputs='full' or outputs='trace'; got {outputs!r}.")
    if block is not None and block < 1:
        raise ValueError(f"ntk needs a block of at least one sample; got block={block}.")
    tangent = _tangent(model, x1, "ntk")
    symmetric = x2 is None
    other = x1 if x2 is None else x2
    if other.shape[1:] != x1.shape[1:] or other.dtype != x1.dtype or other.device != x1.device:
        raise ValueError(
            f"ntk needs x1 and x2 of one sample shape, dtype and device; got {tuple(x1.shape)} {x1.dtype} {x1.device} "
            f"and {tuple(other.shape)} {other.dtype} {other.device}."
        )
    if len(other) == 0:
        raise ValueError("ntk needs at least one sample in x2; got none.")
    k, reference = tangent.outputs, next(iter(tangent.params.values()))
    shape = (len(x1), len(other)) if outputs == "trace" else (len(x1), len(other), k, k)
    kernel = torch.zeros(shape, dtype=reference.dtype, device=reference.device)
    for left, right, piece in _pieces(tangent, x1, other, symmetric, outputs == "trace", block, memory):
        if outputs == "trace":
            kernel[left.rows, right.rows] += piece
        else:
            kernel[left.rows, right.rows, left.outputs, right.outputs] = piece
    return _mirrored(kernel) if symmetric else kernel


def _pieces(
    tangent: _Tangent, x1: Tensor, x2: Tensor, symmetric: bool, trace: bool, block: int | None, memory: int
) -> Iterator[tuple[_Block, _Block, Tensor]]:
    with torch.no_grad():
        columns = _blocks(len(x2), tangent, block, memory)
        for left in _blocks(len(x1), tangent, block, memory):
            first = _rows(tangent, x1[left.rows], left.outputs)
            for right in columns:
                if (symmetric and right.rows.start < left.rows.start) or (trace and right.outputs != left.outputs):
                    continue
                same = symmetric and right == left
                second = first if same else _rows(tangent, x2[right.rows], right.outputs)
                yield left, right, _contract(first, second, trace)


def _mirrored(kernel: Tensor) -> Tensor:
    """The upper triangle of samples put below it; the diagonal made symmetric to the last bit."""
    flipped = kernel.transpose(0, 1) if kernel.ndim == 2 else kernel.permute(1, 0, 3, 2)
    index = torch.arange(len(kernel), device=kernel.device)
    upper = (index[:, None] < index).view(*kernel.shape[:2], *[1] * (kernel.ndim - 2))
    lower = upper.transpose(0, 1)
    return torch.where(upper, kernel, torch.where(lower, flipped, (kernel + flipped) / 2))


def ntk_vector_product(
    model: nn.Module, x1: Batch, vector: Float[Tensor, "rows columns"], x2: Shaped[Tensor, "n2 *other"] | None = None
) -> Float[Tensor, "n k"]:
    """Σ_jb Θ(x1_i, x2_j)_ab v_jb without forming Θ or a Jacobian: one vjp at x2, one jvp at x1. x2 = None means x1.

    Memory is that of one training step on x1 or x2. Errors as in ntk.
    """
    tangent = _tangent(model, x1, "ntk_vector_product")
    other = x1 if x2 is None else x2
    if vector.shape != (len(other), tangent.outputs):
        raise ValueError(
            f"ntk_vector_product needs a vector (samples of x2, outputs) = {(len(other), tangent.outputs)}; "
            f"got {tuple(vector.shape)}."
        )
    with torch.no_grad():
        _, pull = vjp(lambda values: tangent.f(values, other).reshape(len(other), -1), tangent.params)[:2]
        (direction,) = pull(vector)
        _, product = push_forward(lambda values: tangent.f(values, x1).reshape(len(x1), -1), tangent.params, direction)
    return product
