"""The swap of two targets that saves most, over all pairs: matrix products bound every gain, differences decide."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from regimes.transport.cost import Matrix, paired_cost, raised, saving

PAIRS = 4_000_000  # looked at together
Bound = Callable[[slice], Float[np.ndarray, "r n"]]


def swap_gains(x: Matrix, t: Matrix, i: np.ndarray, j: np.ndarray, p: float) -> Float[np.ndarray, "e"]:
    """c_ii + c_jj − c_ij − c_ji of listed pairs, from differences: for p = 2 it is −2 ⟨x_i − x_j, t_i − t_j⟩."""
    out, step = np.empty(len(i)), max(1, PAIRS // x.shape[1])
    for start in range(0, len(i), step):
        part = slice(start, start + step)
        a, b = i[part], j[part]
        if p == 2:
            out[part] = -2 * np.einsum("ed,ed->e", x[a] - x[b], t[a] - t[b])
        else:
            out[part] = saving(x[a], t[a], t[b], p) + saving(x[b], t[b], t[a], p)
    return out


def largest_swap_gain(x: Matrix, t: Matrix, p: float) -> tuple[float, tuple[int, int]]:
    """The largest gain of a swap and its two points; 0 if none gains. Memory is O(n).

    Every pair whose bound exceeds the best gain met is computed anew: what rounding hides from the bound is not lost.
    """
    bound = (_product_bound if p == 2 else _distance_bound)(x, t, p)
    n, best, members = len(x), 0.0, (0, 0)
    step = max(1, PAIRS // n)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        above = bound(part)
        above[np.arange(n) <= np.arange(n)[part, None]] = -np.inf  # each pair once
        first = np.unravel_index(int(np.argmax(above)), above.shape)
        for chosen in ([[first[0]], [first[1]]], None):  # the most promising one first: it rules out most others
            i, j = np.nonzero(above > best) if chosen is None else (np.array(side) for side in chosen)
            gains = swap_gains(x, t, i + start, j, p)
            if len(gains) and gains.max() > best:
                k = int(np.argmax(gains))
                best, members = float(gains[k]), (int(i[k]) + start, int(j[k]))
    return best, members


def _product_bound(x: Matrix, t: Matrix, p: float) -> Bound:
    """Upper bounds of −2 ⟨x_i − x_j, t_i − t_j⟩, each cloud about its own centre: a shift of either changes no gain.

    Rounding is within ε (‖x_i‖ + ‖x_j‖) (‖t_i‖ + ‖t_j‖): of d products, of sums and of the centring, a factor 2 to
    spare.
    """
    x, t = x - np.median(x, axis=0), t - np.median(t, axis=0)
    own, far_x, far_t = np.einsum("nd,nd->n", x, t), np.linalg.norm(x, axis=1), np.linalg.norm(t, axis=1)
    epsilon = (4 * x.shape[1] + 24) * np.finfo(float).eps
    one = np.ones(len(x))
    alone = epsilon * far_x * far_t - 2 * own
    left = np.column_stack([2 * x, 2 * t, epsilon * far_x, epsilon * far_t, alone, one])
    right = np.column_stack([t, x, far_t, far_x, one, alone])
    return lambda part: left[part] @ right.T


def _distance_bound(x: Matrix, t: Matrix, p: float) -> Bound:
    """Upper bounds of c_ii + c_jj − c_ij − c_ji from lower bounds of ‖x_i − t_j‖² by products, as in `screening`."""
    own, origin = paired_cost(x, t, p), np.median(np.concatenate([x, t]), axis=0)
    x, t = x - origin, t - origin
    epsilon = (4 * x.shape[1] + 24) * np.finfo(float).eps * max(1, p / 2)
    square_x, square_t = np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", t, t)

    def least(a: np.ndarray, b: np.ndarray, square_a: np.ndarray, square_b: np.ndarray) -> np.ndarray:
        squared = (1 - 2 * epsilon) * (square_a[:, None] + square_b) - 2 * a @ b.T
        return (1 - epsilon) * raised(np.maximum(squared, 0, out=squared), p)

    def bound(part: slice) -> Float[np.ndarray, "r n"]:
        others = least(x[part], t, square_x[part], square_t) + least(t[part], x, square_t[part], square_x)
        return (1 + epsilon) * (own[part, None] + own) - others

    return bound
