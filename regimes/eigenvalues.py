"""Least eigenvalues of many symmetric matrices at once, each known only by its products with vectors."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

EXACT = 32  # features up to which the matrix is written out


def least_eigenvalues(
    product: Callable[[Tensor], Tensor],
    like: Float[Tensor, "n *feature"],
    *,
    generator: torch.Generator,
    steps: int = 32,
) -> Float[Tensor, "n"]:
    """Least eigenvalue of each of n symmetric matrices; `product` maps n vectors (shape of `like`) to n products.

    Exact up to 32 features; beyond, Lanczos with full reorthogonalisation from a random vector: after `steps` products
    the value lies at or above the true one, and at it where the least eigenvalue stands apart. NaN for a matrix some of
    whose products are not finite.
    """
    n, d = len(like), like[0].numel()
    if d <= EXACT:
        basis = torch.eye(d, dtype=like.dtype, device=like.device)
        matrix = torch.stack([product(e.expand(n, d).reshape(like.shape)).reshape(n, d) for e in basis], dim=2)
        return _least(matrix)
    start = torch.randn(n, d, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)
    basis = [start / torch.linalg.vector_norm(start, dim=1, keepdim=True)]
    images = []
    for _ in range(min(steps, d)):
        images.append(product(basis[-1].reshape(like.shape)).reshape(n, d))
        following = _orthogonal(images[-1], basis)
        size = torch.linalg.vector_norm(following, dim=1, keepdim=True)
        # An invariant subspace is exhausted: go on in its complement, where the projected matrix has its own block.
        exhausted = size <= 1e3 * torch.finfo(like.dtype).eps * torch.linalg.vector_norm(
            images[-1], dim=1, keepdim=True
        )
        if bool(exhausted.any()):
            fresh = torch.randn(n, d, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)
            following = torch.where(exhausted, _orthogonal(fresh, basis), following)
            size = torch.linalg.vector_norm(following, dim=1, keepdim=True)
        basis.append(following / size)
    q, image = torch.stack(basis[: len(images)], dim=2), torch.stack(images, dim=2)
    return _least(q.transpose(1, 2) @ image)


def _least(matrices: Float[Tensor, "n k k"]) -> Float[Tensor, "n"]:
    """Of the symmetric part of each; NaN where one has entries that are not finite, which torch refuses for all."""
    finite = matrices.isfinite().all(2).all(1)
    safe = torch.where(finite[:, None, None], matrices, 0.0)
    return torch.where(finite, torch.linalg.eigvalsh((safe + safe.transpose(1, 2)) / 2)[:, 0], torch.nan)


def _orthogonal(vector: Float[Tensor, "n d"], basis: list[Tensor]) -> Float[Tensor, "n d"]:
    """The part orthogonal to the basis; twice, since once loses digits."""
    q = torch.stack(basis, dim=2)
    for _ in range(2):
        vector = vector - (q @ (q.transpose(1, 2) @ vector[:, :, None]))[:, :, 0]
    return vector
