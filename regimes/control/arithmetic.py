"""The arithmetic of steps with one size a run."""

from collections.abc import Sequence

import torch
from torch import Tensor


def _rows(part: Tensor) -> Tensor:
    """(runs, ...) -> (runs, entries); of one number a run (runs, 1)."""
    return part.unsqueeze(-1).flatten(1)


def finite_runs(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([_rows(part).isfinite().all(1) for part in parts]).all(0)


def root_mean_square(part: Tensor) -> Tensor:
    rows = _rows(part)
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64) / rows.shape[1] ** 0.5


def combine(
    parts: tuple[Tensor, ...] | None,
    size: float | Tensor,
    slopes: Sequence[tuple[Tensor, ...]],
    weights: Sequence[float],
) -> tuple[Tensor, ...]:
    """parts + size · Σ_i weights_i slopes_i, with one size or one a run; without the first term if no parts."""
    result = []
    for index, slope in enumerate(slopes[0]):
        base = None if parts is None else parts[index]
        terms = [(each[index], weight) for each, weight in zip(slopes, weights, strict=True) if weight]
        if not terms:
            result.append(torch.zeros_like(slope) if base is None else base)
            continue
        (first, weight), *others = terms
        if isinstance(size, Tensor):
            column = size.to(slope.dtype).reshape(-1, *[1] * (slope.ndim - 1))
            total = first * (weight * column) if base is None else torch.addcmul(base, first, column, value=weight)
            for term, weight in others:
                total.addcmul_(term, column, value=weight)
        else:
            total = first * (weight * size) if base is None else torch.add(base, first, alpha=weight * size)
            for term, weight in others:
                total.add_(term, alpha=weight * size)
        result.append(total)
    return tuple(result)


def choose(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old)
