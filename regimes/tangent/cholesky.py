"""One large positive definite solve by Cholesky, with its condition."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.tangent.lanczos import lanczos
from regimes.tangent.spectrum import symmetric

_STEPS = 40


class Solved(NamedTuple):
    """(K + shift·I)⁻¹ y; condition and least eigenvalue by Lanczos, good to a few parts in 100."""

    solution: Float[Tensor, "n columns"]
    condition: Float[Tensor, ""]
    rank: Tensor
    cutoff: Float[Tensor, ""]
    smallest: Float[Tensor, ""]


def cholesky_solve(kernel: Float[Tensor, "n n"], y: Float[Tensor, "n columns"], shift: float, cutoff: float | None):
    """ValueError where K + shift·I is not positive definite in floating point.

    Memory: one further matrix, in which the factor takes the place of K + shift·I.
    """
    matrix, unit = symmetric(kernel)
    size, largest = len(matrix), float(matrix.diagonal().max())  # no entry is larger, unless there is no factor
    matrix.diagonal().add_(shift)
    factor, failed = matrix.mT, torch.empty((), dtype=torch.int32, device=matrix.device)  # by columns, as LAPACK has it
    torch.linalg.cholesky_ex(factor, out=(factor, failed))
    if int(failed):
        raise ValueError(
            f"kernel_ridge needs a ridge that makes the kernel positive definite in floating point; {shift:.3g} on the "
            f"diagonal does not (largest entry {largest:.3g}). Raise the ridge, or compute the kernel in float64."
        )

    def solve(b: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(factor, b, upper=False)
        return torch.linalg.solve_triangular(factor.mT, half, upper=True)

    source = torch.Generator().manual_seed(0)
    start = torch.randn(size, generator=source, dtype=torch.float64, device="cpu").to(matrix.device)
    *_, top = lanczos(lambda v: factor @ (factor.mT @ v), start, min(_STEPS, size))
    *_, end = lanczos(lambda v: solve(v[:, None])[:, 0], start, min(_STEPS, size))
    least = 1 / end.value
    limit = (size * unit if cutoff is None else cutoff) * (top.value - shift)
    if least - shift < -max(limit, 10 * size * torch.finfo(torch.float64).eps * top.value):
        raise ValueError(
            f"a kernel matrix needs to be positive semidefinite; its least eigenvalue is {least - shift:.3e}: compute "
            "it in float64, or raise cutoff if you know its error."
        )
    number = lambda value: torch.tensor(value, dtype=torch.float64, device=matrix.device)  # noqa: E731
    solution = solve(y)
    rank = torch.tensor(size, device=matrix.device)
    return Solved(solution, number(top.value / least), rank, number(max(limit, 0.0)), number(least - shift))
