"""Norms and products of long rows in float32: torch adds up millions of entries one after the other and loses digits.

Of 10⁷ entries its norm is off by 4·10⁻⁴ of itself, of 10⁸ by 10⁻², and so is a product of few rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LONG = 2**16  # entries that float32 adds up to 10⁻⁶


def norm(values: Tensor, dim: Sequence[int] | None = None) -> Tensor:
    """Euclidean norm over some axes, all by default; added up in float64, in the real dtype of the values."""
    dtype = torch.complex128 if values.is_complex() else torch.float64
    return torch.linalg.vector_norm(values, dim=dim, dtype=dtype).to(values.real.dtype)


def products(one: Tensor, other: Tensor) -> Tensor:
    """one · otherᵀ of rows of the same length, (..., m, p) and (..., n, p) -> (..., m, n)."""
    pairs = zip(one.split(LONG, -1), other.split(LONG, -1), strict=True)
    a, b = next(pairs)
    total = a @ b.mT
    for a, b in pairs:
        total += a @ b.mT
    return total
