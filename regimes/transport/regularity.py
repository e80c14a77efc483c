"""How much a map stretches and squeezes: bi-Lipschitz and Hölder estimates of T and of its inverse, from pairs."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from regimes.transport.cost import Matrix, Points, as_matrix, cost_matrix
from regimes.transport.partition import thin

BINS = 16


class Holder(NamedTuple):
    """Fit ω(r) ≈ constant · r^exponent of the modulus of continuity ω(r) = max ‖T(x) − T(x')‖ over ‖x − x'‖ ≤ r."""

    exponent: float
    constant: float


class Regularity(NamedTuple):
    """Largest stretch of T and of its inverse over the pairs seen (lower bounds of the true ones), and Hölder fits.

    lipschitz = max ‖T(x) − T(x')‖/‖x − x'‖ and inverse_lipschitz = max ‖x − x'‖/‖T(x) − T(x')‖, inf where two points
    share an image (or, for `lipschitz`, where equal points have different images).
    """

    lipschitz: float
    inverse_lipschitz: float
    holder: Holder
    inverse_holder: Holder
    points: int


def regularity(
    x: Points, t_of_x: Float[Tensor, "n *feature"] | Float[np.ndarray, "n *feature"], *, points: int = 2000
) -> Regularity:
    """Estimates over all pairs of at most `points` points, spread evenly over the cloud.

    Hölder exponents are least-squares slopes of log ω against log r over the lower half of the distances; 1 for a
    Lipschitz map, less where T behaves like a root. Samples bound them from one side only: read them as estimates.
    """
    x_array, t_array = as_matrix(x, "x"), as_matrix(t_of_x, "t_of_x")
    if len(x_array) != len(t_array) or len(x_array) < 3:
        raise ValueError(
            f"regularity needs three pairs (x, T(x)) or more; got {len(x_array)} and {len(t_array)} points."
        )
    if len(x_array) > points:
        some = thin(x_array, points)
        x_array, t_array = x_array[some], t_array[some]
    before, after = _distances(x_array), _distances(t_array)
    return Regularity(
        _stretch(before, after), _stretch(after, before), _holder(before, after), _holder(after, before), len(x_array)
    )


def _distances(points: Matrix) -> Float[np.ndarray, "pairs"]:
    return cost_matrix(points, points, 1.0)[np.triu_indices(len(points), 1)]


def _stretch(before: np.ndarray, after: np.ndarray) -> float:
    if (after[before == 0] > 0).any():
        return math.inf
    apart = before > 0
    return float((after[apart] / before[apart]).max(initial=0.0))


def _holder(before: np.ndarray, after: np.ndarray) -> Holder:
    apart = before > 0
    order = np.argsort(before[apart])
    distance, modulus = before[apart][order], np.maximum.accumulate(after[apart][order])
    if len(distance) < 4 or modulus[-1] == 0:
        return Holder(math.nan, math.nan)
    # Radii evenly spaced in log from the 100th smallest distance (fewer pairs tell little) to the median.
    low, high = distance[min(100, len(distance) // 4)], distance[len(distance) // 2]
    radii = np.geomspace(low, high, BINS)
    omega = modulus[np.searchsorted(distance, radii, side="right") - 1]
    seen = omega > 0
    if low == high or seen.sum() < 2:
        return Holder(math.nan, math.nan)
    slope, offset = np.polyfit(np.log(radii[seen]), np.log(omega[seen]), 1)
    return Holder(float(slope), float(np.exp(offset)))
