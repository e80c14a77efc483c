"""Norms and products of long rows in float32: torch adds up millions of entries one after the other and loses digits.

Of 10⁷ entries its norm is off by 4·10⁻⁴ of itself, of 10⁸ by 10⁻², and so is a product of few rows.
"""

import torch
from torch import Tensor

LONG = 2**16  # entries that float32 adds up to 10⁻⁶
_PART = 2**20  # entries that are widened at a time


def norm(values: Tensor, axes: int | None = None) -> Tensor:
    """Euclidean norm over the last `axes` axes, all by default; added up in float64, in the real dtype of the values.

    Part by part: as a whole a copy in float64 would be made.
    """
    dtype = torch.complex128 if values.is_complex() else torch.float64
    flat = values.reshape(-1) if axes is None else values.flatten(-axes)
    size = max(1, _PART // max(1, flat[..., :1].numel()))
    parts = [torch.linalg.vector_norm(part, dim=-1, dtype=dtype) for part in flat.split(size, -1)]
    return torch.linalg.vector_norm(torch.stack(parts, -1), dim=-1).to(values.real.dtype)


def products(one: Tensor, other: Tensor) -> Tensor:
    """one · otherᵀ of rows of the same length, (..., m, p) and (..., n, p) -> (..., m, n)."""
    pairs = zip(one.split(LONG, -1), other.split(LONG, -1), strict=True)
    a, b = next(pairs)
    total = a @ b.mT
    for a, b in pairs:
        total += a @ b.mT
    return total
