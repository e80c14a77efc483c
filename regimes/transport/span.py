"""Few coordinates for few points of many features: distances to a cloud of n points need n + 1 numbers a point."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from regimes.transport.cost import Matrix

WORTH = 2  # features a point of the cloud beyond which the change of coordinates pays


class Span(NamedTuple):
    """Orthonormal basis of the directions in which the points of a cloud differ from their mean.

    A point is written as its coordinates there and its distance to that subspace: its distances to all points of the
    cloud are kept, up to rounding (1e-15 of its distance to the mean). Distances among other points are not.
    """

    origin: Float[np.ndarray, "d"]
    basis: Float[np.ndarray, "d r"]

    def coordinates(self, points: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """(m, r + 1) for points (m, d); the last is not negative."""
        offset = points - self.origin
        inside = offset @ self.basis
        outside = np.linalg.norm(offset - inside @ self.basis.T, axis=1)
        return np.column_stack([inside, outside])


def span(x: Matrix) -> tuple[Span, Float[np.ndarray, "n k"]] | None:
    """Span of a cloud, with the cloud in its coordinates; None unless d > 2 n."""
    n, d = x.shape
    if d <= WORTH * n:
        return None
    origin = x.mean(0)
    basis, factor = np.linalg.qr((x - origin).T)
    return Span(origin, basis), np.column_stack([factor.T, np.zeros(n)])
