"""Products of the vectors of all pairs, and 1 − their cosine without loss of digits where it is near 0."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NEAR = 1e-5  # a difference below this share of its parts is formed again from single entries: the angle is 4e-3 there
ENTRIES = 2**20  # numbers that are gathered at a time for that


def products(left: Tensor, right: Tensor, everywhere: bool) -> Tensor:
    """Products over the last axis of left (n1, 1, *s, d) and right (1, n2, *s, d), or of (n, 1, *s, d) and itself.

    everywhere: of all pairs of positions, (n1, n2, *s, *s); else of each position with itself, (n1, n2, *s).
    """
    positions, d = left.shape[2:-1], left.shape[-1]
    if not positions:
        return left[:, 0] @ right[0].mT
    left, right = left.flatten(2, -2), right.flatten(2, -2)
    if not everywhere:
        return (left[:, 0].transpose(0, 1) @ right[0].permute(1, 2, 0)).permute(1, 2, 0).unflatten(2, positions)
    if len(right) > 1 or right.shape[1] == 1:  # each sample with itself, or one with all
        found = left @ right.mT
    else:
        flat = left.reshape(-1, d) @ right.reshape(-1, d).mT
        found = flat.unflatten(1, right.shape[1:3]).unflatten(0, (len(left), -1)).transpose(1, 2)
    return found.unflatten(3, positions).unflatten(2, positions)


def spread(left: Tensor, right: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors of both sides so that their other axes broadcast with the pairs."""
    positions = left.ndim - 3
    if pairs.ndim == left.ndim - 1 or positions == 0:
        return left, right
    ones = (1,) * positions
    left = left.reshape(*left.shape[:-1], *ones, left.shape[-1])
    return left, right.reshape(*right.shape[:2], *ones, *right.shape[2:])


def sharpened(
    coarse: Float[Tensor, "n1 n2 *positions"],
    scale: Float[Tensor, "n1 n2 *positions"],
    near: Bool[Tensor, "n1 n2 *positions"],
    left: Tensor,
    right: Tensor,
    sign: int = 1,
) -> Float[Tensor, "n1 n2 *positions"]:
    """scale·(1 − sign·u·v), known coarsely, again as scale·‖u − sign·v‖²/2 at the pairs that are `near`.

    left and right: the unit vectors u and v on a last axis, their other axes broadcasting with the pairs.
    """
    places = near.nonzero(as_tuple=True)
    if not len(places[0]):
        return coarse
    exact = []
    for chunk in zip(*(place.split(max(1, ENTRIES // left.shape[-1])) for place in places), strict=True):
        u, v = (side[_within(chunk, side)] for side in (left, right))
        exact.append(torch.sub(u, v, alpha=sign).square().sum(-1) / 2)
    return coarse.index_put(places, torch.cat(exact) * scale[places])


def _within(places: Sequence[Tensor], side: Tensor) -> tuple[Tensor, ...]:
    return tuple(
        place if size > 1 else torch.zeros_like(place) for place, size in zip(places, side.shape[:-1], strict=True)
    )
