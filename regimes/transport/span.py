"""Few coordinates for few points of many features: distances to a cloud of n points need n + 1 numbers a point."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from regimes.transport.cost import Matrix

SHORTEST = 1e-5  # share of the diameter: a displacement by it keeps ten digits
WORTH = 2  # features a point of the cloud beyond which the change of coordinates pays


class Span(NamedTuple):
    """A cloud x, an orthonormal basis of the directions in which it extends, and x in that basis, with a last 0.

    An image of a point is written as its coordinates there and its distance to that subspace: its distances to all
    points of x are kept, up to 1e-15 of the diameter of x. Distances among images are not.
    """

    x: Float[np.ndarray, "n d"]
    basis: Float[np.ndarray, "d r"]
    x_short: Float[np.ndarray, "n k"]

    def keeps(self, t: Float[np.ndarray, "n d"]) -> bool:
        """Whether `images` of these keep their own distances: none that moves at all moves less than SHORTEST."""
        moved = np.linalg.norm(t - self.x, axis=1)
        widest = 2 * np.abs(self.x_short).max(initial=0.0)
        return not bool(((moved > 0) & (moved < SHORTEST * widest)).any())

    def images(self, t: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """(n, r + 1) for one image a point (n, d), by its displacement: what does not move keeps its coordinates."""
        moved = t - self.x
        inside = moved @ self.basis
        outside = np.linalg.norm(moved - inside @ self.basis.T, axis=1)
        return np.column_stack([self.x_short[:, :-1] + inside, outside])


def span(x: Matrix) -> Span | None:
    """Span of a cloud; None unless d > 2 n."""
    n, d = x.shape
    if d <= WORTH * n:
        return None
    basis, factor = np.linalg.qr((x - x.mean(0)).T)
    return Span(x, basis, np.column_stack([factor.T, np.zeros(n)]))
