"""Empirical tangent kernel (NTK) of any torch module: dense, blocked, or as a product with a vector."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import vjp

from regimes.checks import alike, count, finite, shapes
from regimes.conventions import Params
from regimes.tangent.functional import push_forward
from regimes.tangent.model import TangentModel, require_samples, tangent_model
from regimes.tangent.precision import full_precision

Batch = Shaped[Tensor, "n *sample"]
MEMORY = 512 * 2**20  # bytes that the Jacobian blocks of one kernel may take together


class _Block(NamedTuple):
    rows: slice  # samples
    outputs: slice


def jacobian(model: nn.Module, x: Batch) -> Params:
    """Derivative of every output of every sample: name -> (n, k, *shape of the parameter), outputs flattened to k."""
    tangent = tangent_model(model, x, "jacobian")
    return tangent.rows(x.detach(), slice(0, tangent.outputs))


def _others(x1: Tensor, x2: Tensor | None, caller: str) -> Tensor:
    """x2, which has to be samples of the kind of x1; x1 where it is None."""
    if x2 is None:
        return x1.detach()
    require_samples(x2, caller, "x2")
    if x2.shape[1:] != x1.shape[1:] or x2.dtype != x1.dtype or x2.device != x1.device:
        raise ValueError(
            f"{caller} needs x1 and x2 of one sample shape, dtype and device; got {tuple(x1.shape)} {x1.dtype} "
            f"{x1.device} and {tuple(x2.shape)} {x2.dtype} {x2.device}. Convert one of them."
        )
    finite(caller, x2=x2)
    return x2.detach()


def _blocks(n: int, tangent: TangentModel, block: int | None, memory: int) -> list[_Block]:
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
    for name in first:
        left, right = _real(first[name]), _real(second[name])
        if trace:
            total = total + left.reshape(len(left), -1) @ right.reshape(len(right), -1).T
        else:
            rows, columns = left.shape[:2], right.shape[:2]
            product = left.reshape(rows.numel(), -1) @ right.reshape(columns.numel(), -1).T
            total = total + product.view(*rows, *columns).transpose(1, 2)
    assert isinstance(total, Tensor)
    return total


def _real(rows: Tensor) -> Tensor:
    """Derivatives by the real and the imaginary part of a complex parameter, side by side: Re(J J̄ᵀ) of the products."""
    return torch.view_as_real(rows.resolve_conj()) if rows.is_complex() else rows


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
    A complex parameter counts as its real and imaginary parts. Models that vmap or torch.func cannot follow (writes in
    place, branches on data, custom functions, checkpoints, torch.jit) go sample by sample through plain autograd.
    Computed in full precision, whatever autocast and torch.set_float32_matmul_precision say.
    ValueError: a model that does not map each sample by itself (BatchNorm or Dropout in train mode, samples that mix),
    trained tensors that are not registered, parts under torch.no_grad or detach, parameters of 16 bits, inputs that are
    not finite or of another dtype, device or sample shape, and the rest of regimes.tangent.model.
    Source: [JacotGabrielHongler2018].
    """
    if not isinstance(outputs, str) or outputs not in ("full", "trace"):
        raise ValueError(f"ntk needs outputs='full' or outputs='trace'; got {outputs!r}.")
    if block is not None:
        count("ntk", "block", block)
    count("ntk", "memory", memory)
    tangent = tangent_model(model, x1, "ntk")
    symmetric = x2 is None
    x1, other = x1.detach(), _others(x1, x2, "ntk")
    k = tangent.outputs
    shape = (len(x1), len(other)) if outputs == "trace" else (len(x1), len(other), k, k)
    kernel = torch.zeros(shape, dtype=tangent.dtype, device=tangent.device)
    for left, right, piece in _pieces(tangent, x1, other, symmetric, outputs == "trace", block, memory):
        if outputs == "trace":
            kernel[left.rows, right.rows] += piece
        else:
            kernel[left.rows, right.rows, left.outputs, right.outputs] = piece
    return _mirrored(kernel) if symmetric else kernel


def _pieces(
    tangent: TangentModel, x1: Tensor, x2: Tensor, symmetric: bool, trace: bool, block: int | None, memory: int
) -> Iterator[tuple[_Block, _Block, Tensor]]:
    with torch.no_grad(), full_precision(tangent.device):
        columns = _blocks(len(x2), tangent, block, memory)
        for left in _blocks(len(x1), tangent, block, memory):
            first = tangent.rows(x1[left.rows], left.outputs)
            for right in columns:
                if (symmetric and right.rows.start < left.rows.start) or (trace and right.outputs != left.outputs):
                    continue
                same = symmetric and right == left
                second = first if same else tangent.rows(x2[right.rows], right.outputs)
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
    tangent = tangent_model(model, x1, "ntk_vector_product")
    x1, other = x1.detach(), _others(x1, x2, "ntk_vector_product")
    cure = f"A row for each of the {len(other)} samples of x2, a column for each of the {tangent.outputs} outputs"
    shapes("ntk_vector_product", vector=(vector, f"{len(other)} {tangent.outputs}"), cure=cure)
    finite("ntk_vector_product", vector=vector)
    alike("ntk_vector_product", vector=vector, output=torch.empty(0, dtype=tangent.dtype, device=tangent.device))
    f, params, found = tangent.f, tangent.params, tangent.found
    with torch.set_grad_enabled(tangent.recurrent), full_precision(tangent.device):
        if not (found.transforms and found.forward):
            given = vector.detach()
            direction = tangent.plain.pull(other, lambda value, _: given.reshape(value.shape))[1]
            if not found.forward:
                return _by_rows(tangent, x1, direction)
            return tangent.plain.push(x1, direction)[1].reshape(len(x1), -1)
        _, pull = vjp(lambda values: f(values, other).reshape(len(other), -1), params)[:2]
        direction = pull(vector.detach())[0]
        _, product = push_forward(lambda values: f(values, x1).reshape(len(x1), -1), params, direction)
    return product.detach()


def _by_rows(tangent: TangentModel, x: Tensor, direction: Params) -> Float[Tensor, "n k"]:
    """J·direction from the derivatives of some samples at a time."""
    product = torch.zeros(len(x), tangent.outputs, dtype=tangent.dtype, device=tangent.device)
    along = {name: _real(each)[None, None] for name, each in direction.items()}
    for block in _blocks(len(x), tangent, None, MEMORY):
        rows = tangent.rows(x[block.rows], block.outputs)
        product[block.rows, block.outputs] = _contract(rows, along, trace=False)[:, 0, :, 0]
    return product
