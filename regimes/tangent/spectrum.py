"""Eigenvalues of kernel matrices in float64, with what is zero in them told apart from what is not."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regimes.checks import kind, not_negative, real, shapes

_BLOCK = 2**24  # entries that are compared at a time


class Spectrum(NamedTuple):
    """K = U diag(λ) Uᵀ in float64; eigenvalues ascending, those of absolute value at most `cutoff` set to exactly 0."""

    values: Float[Tensor, "*runs n"]
    vectors: Float[Tensor, "*runs n n"]
    kept: Bool[Tensor, "*runs n"]
    cutoff: Float[Tensor, "*runs"]
    smallest: Float[Tensor, "*runs"]

    @property
    def rank(self) -> Int[Tensor, "*runs"]:
        """Number of eigenvalues above the cutoff."""
        return self.kept.sum(-1)


def spectrum(kernel: Float[Tensor, "*runs n m"], *, cutoff: float | None = None) -> Spectrum:
    """Eigendecomposition of symmetric positive semidefinite kernel matrices, in float64 whatever the input.

    cutoff is relative to the largest eigenvalue; None means n·ε with ε the rounding unit of the dtype of the INPUT:
    below it the entries of a float32 kernel say nothing, also when solved in float64.
    ValueError: not square, not finite, not symmetric, of 16 bits, or an eigenvalue below −cutoff.
    """
    if cutoff is not None:
        not_negative("a kernel matrix", "cutoff", cutoff, single=True)
        if cutoff >= 1:
            raise ValueError(f"a kernel matrix needs a relative cutoff below 1, which keeps nothing; got {cutoff}.")
    matrix, unit = symmetric(kernel)
    size = matrix.shape[-1]
    values, vectors = torch.linalg.eigh(matrix)
    largest = values[..., -1].clamp(min=0)
    limit = (size * unit if cutoff is None else cutoff) * largest
    if (values[..., 0] < -limit).any():
        raise ValueError(
            f"a kernel matrix needs to be positive semidefinite; its least eigenvalue is {values[..., 0].min():.3e}, "
            f"beyond rounding ({-limit.max():.1e}): compute it in float64, or raise cutoff if you know its error."
        )
    kept = values > limit[..., None]
    return Spectrum(torch.where(kept, values, 0.0), vectors, kept, limit, values[..., 0])


def symmetric(kernel: Float[Tensor, "*runs n m"]) -> tuple[Float[Tensor, "*runs n n"], float]:
    """(K + Kᵀ)/2 in float64, a new tensor, and the rounding unit of the dtype of K."""
    cure = "merge_outputs turns (n, n, k, k) into (n·k, n·k)"
    shapes("a kernel matrix", kernel=(kernel, "*runs n n"), cure=cure)
    real("a kernel matrix", kernel=kernel)
    unit = torch.finfo(kernel.dtype).eps
    matrix = kernel.detach().to(torch.float64)
    if not matrix.isfinite().all():
        raise ValueError(
            "a kernel matrix needs finite entries; got nan or inf: look at the inputs and weights it came from."
        )
    scale = torch.maximum(matrix.amax((-2, -1)), -matrix.amin((-2, -1)))
    step = max(1, _BLOCK // max(1, matrix.numel() // matrix.shape[-1]))
    for start in range(0, matrix.shape[-1], step):  # a large kernel leaves no room for another of its size
        rows = slice(start, start + step)
        apart = (matrix[..., rows, :] - matrix[..., :, rows].mT).abs().amax((-2, -1))
        if (apart > 100 * unit * scale).any():
            raise ValueError("a kernel matrix needs to be symmetric; the one given is not: was it a test-train kernel?")
    return torch.add(matrix, matrix.mT).div_(2), unit


def merge_outputs(kernel: Float[Tensor, "*runs n1 n2 k1 k2"]) -> Float[Tensor, "*runs rows columns"]:
    """The full kernel (n1, n2, k, k) of a net with k outputs as a matrix over (sample, output) pairs, sample-major.

    It goes with targets and outputs reshaped from (n, k) to (n·k, 1). GradientFlow and kernel_ridge take the full
    kernel itself, and count n samples: of a merged one they would count n·k.
    """
    kind("merge_outputs", "kernel", kernel, Tensor, "a tensor")
    shapes("merge_outputs", kernel=(kernel, "*runs n1 n2 k k"), cure='Pass ntk(..., outputs="full")')
    n1, n2, k1, k2 = kernel.shape[-4:]
    return kernel.transpose(-3, -2).reshape(*kernel.shape[:-4], n1 * k1, n2 * k2)
