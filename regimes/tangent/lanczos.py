"""The top of a symmetric operator that is known by its products only, between bounds."""

from collections.abc import Callable, Iterator
from math import inf, log
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.long_sums import norm, products

DOUBT = 1e-3  # probability, over the random start, that the largest eigenvalue is above the upper bound
Vector = Float[Tensor, " size"]


class Step(NamedTuple):
    """What Lanczos knows after some steps: the eigenvalue of largest modulus of the operator on the Krylov space.

    `residual` = ‖A v − value·v‖: an eigenvalue of A is that near. `whole`: the space is invariant under A, so a random
    start has seen the true top.
    """

    value: float
    residual: float
    steps: int
    whole: bool
    vector: Callable[[], Vector]


def lanczos(apply: Callable[[Vector], Vector], start: Vector, steps: int) -> Iterator[Step]:
    """One Lanczos step after the other, each with one product, all vectors kept and held orthogonal.

    Memory: one vector for each step.
    """
    size = len(start)
    basis = torch.empty(min(steps, size), size, dtype=start.dtype, device=start.device)
    basis[0] = start / norm(start)
    diagonal, beside, scale = [], [], 0.0
    for number in range(1, len(basis) + 1):
        known = basis[:number]
        image = apply(known[-1])
        diagonal.append(float(products(known[-1:], image[None])))
        scale = max(scale, float(norm(image)))
        for _ in range(2):
            image = image - known.mT @ products(known, image[None])[:, 0]
        left = float(norm(image))
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        top = int(values.abs().argmax())
        weights = vectors[:, top].to(start)
        whole = number == size or left <= 100 * torch.finfo(start.dtype).eps * scale
        residual = 0.0 if whole else left * abs(float(vectors[-1, top]))
        yield Step(float(values[top]), residual, number, whole, lambda known=known, w=weights: w @ known)
        if whole or not left < inf:
            return
        beside.append(left)
        if number < len(basis):
            basis[number] = image / left


def _tridiagonal(diagonal: list[float], beside: list[float]) -> Float[Tensor, "steps steps"]:
    main, off = torch.tensor(diagonal, dtype=torch.float64), torch.tensor(beside, dtype=torch.float64)
    return torch.diag(main) + torch.diag(off, 1) + torch.diag(off, -1)


def ceiling(step: Step, size: int, looks: int = 1) -> float:
    """An upper bound of the largest eigenvalue of a positive semidefinite operator, but for a probability of DOUBT.

    looks: at how many steps at most it is asked for, where its value decides which of them is the last; the doubt is
    shared among them. After k steps from a random direction, λ <= θ/(1 − ε) with ε =
    (ln(1.648 √size · looks / DOUBT) / (2k − 1))², whatever the spectrum; inf while ε >= 1. Never below θ + residual, by
    which Lanczos itself measures its error.
    Source: [KuczynskiWozniakowski1992] theorem 4.2.
    """
    if step.whole or step.value == 0:
        return step.value
    missed = (log(1.648 * size**0.5 * looks / DOUBT) / (2 * step.steps - 1)) ** 2
    return max(step.value + step.residual, step.value / (1 - missed) if missed < 1 else inf)
