"""Arithmetic of states: tuples of tensors with a leading runs axis."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regimes.control.cores import one_core_if_short

State = tuple[Tensor, ...]


def finite(state: Sequence[Tensor]) -> Tensor:
    """Whether every entry of a run is finite."""
    return torch.stack([part.isfinite().flatten(1).all(1) for part in state]).all(0)


def copy(state: Sequence[Tensor]) -> State:
    """The state in memory of its own."""
    with one_core_if_short(state[0]):
        return tuple(part.clone() for part in state)


def root_mean_square(part: Tensor) -> Tensor:
    """√(mean of the squares of the entries) of each run, in float64."""
    rows = part.flatten(1)
    with one_core_if_short(part):
        return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64) / rows.shape[1] ** 0.5


def combine(start: State | None, size: Tensor, slopes: Sequence[State], weights: Sequence[float]) -> State:
    """start + size · Σ_i weights_i slopes_i, with one size a run; without the first term if there is no start."""
    result = []
    for index, slope in enumerate(slopes[0]):
        column = size.to(slope.dtype).reshape(-1, *[1] * (slope.ndim - 1))
        (first, weight), *others = [(each[index], w) for each, w in zip(slopes, weights, strict=True) if w]
        with one_core_if_short(slope):
            if start is None:
                total = first * (weight * column)
            else:
                total = torch.addcmul(start[index], first, column, value=weight)
            for term, weight in others:
                total.addcmul_(term, column, value=weight)
        result.append(total)
    return tuple(result)


def choose(chosen: Tensor, yes: State, no: State) -> State:
    """The one state for chosen runs, the other for the rest."""
    result = []
    for one, other in zip(yes, no, strict=True):
        with one_core_if_short(one):
            result.append(torch.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), one, other))
    return tuple(result)
