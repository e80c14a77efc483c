"""How much a map stretches and squeezes: bi-Lipschitz and Hölder estimates of T and of its inverse, from pairs."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist
from torch import Tensor

from regimes.checks import count
from regimes.transport.cost import Matrix, Points, as_matrix
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
    x: Points, t_of_x: Float[Tensor, "m *other"] | Float[np.ndarray, "m *other"], *, points: int = 2000
) -> Regularity:
    """Estimates over all pairs of at most `points` points, spread evenly over the cloud.

    Hölder exponents are least-squares slopes of log ω against log r between the spacing of the points and the median
    distance (nan if there is no such range); 1 for a Lipschitz map, less where T behaves like a root. Samples bound
    them from one side only: read them as estimates. T may have another number of features than x.
    """
    count("regularity", "points", points, at_least=3)
    x_array, t_array = as_matrix(x, "x", "regularity"), as_matrix(t_of_x, "t_of_x", "regularity")
    if len(x_array) != len(t_array) or len(x_array) < 3:
        raise ValueError(
            f"regularity needs three pairs (x, T(x)) or more; got {len(x_array)} and {len(t_array)} points."
        )
    if len(x_array) > points:
        some = thin(x_array, points)
        x_array, t_array = x_array[some], t_array[some]
    units = _unit(x_array), _unit(t_array)
    before, after = _Distances(x_array / units[0]), _Distances(t_array / units[1])
    ratio = units[1] / units[0]
    return Regularity(
        _stretch(before.pairs, after.pairs) * ratio,
        _stretch(after.pairs, before.pairs) / ratio,
        _in_units(_holder(before, after), *units),
        _in_units(_holder(after, before), *units[::-1]),
        len(x_array),
    )


def _unit(points: Matrix) -> float:
    """A power of two near the extent, in which squares of distances neither vanish nor overflow."""
    extent = float((points.max(0) / 2 - points.min(0) / 2).max())
    return 2.0 ** math.frexp(extent)[1] if extent > 0 else 1.0


def _in_units(fit: Holder, before: float, after: float) -> Holder:
    """The fit for distances that were divided by these."""
    if math.isnan(fit.exponent):
        return fit
    power = math.log(fit.constant) + math.log(after) - fit.exponent * math.log(before)
    return Holder(fit.exponent, math.exp(power) if abs(power) < 700 else 0.0 if power < 0 else math.inf)


class _Distances:
    """Distances of all pairs, and a radius within which nearly every point has neighbours."""

    def __init__(self, points: Matrix):
        square = cdist(points, points)  # from differences: exact also far from 0
        self.pairs = square[np.triu_indices(len(points), 1)]
        np.fill_diagonal(square, np.inf)
        self.resolution = 2 * float(np.quantile(square.min(1), 0.99))


def _stretch(before: np.ndarray, after: np.ndarray) -> float:
    if (after[before == 0] > 0).any():
        return math.inf
    apart = before > 0
    return float((after[apart] / before[apart]).max(initial=0.0))


def _holder(before: _Distances, after: _Distances) -> Holder:
    order = np.argsort(before.pairs)
    distance, modulus = before.pairs[order], np.maximum.accumulate(after.pairs[order])
    low, high = before.resolution, float(distance[len(distance) // 2])
    if not 0 < low < high or modulus[-1] == 0:
        return Holder(math.nan, math.nan)
    radii = np.geomspace(low, high, BINS)
    omega = modulus[np.searchsorted(distance, radii, side="right") - 1]
    seen = omega > 0
    if seen.sum() < 2:
        return Holder(math.nan, math.nan)
    slope, offset = np.polyfit(np.log(radii[seen]), np.log(omega[seen]), 1)
    return Holder(float(slope), float(np.exp(offset)))
