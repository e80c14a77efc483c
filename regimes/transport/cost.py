"""Ground cost ‖x − y‖^p between two clouds: input checks, exact pair costs, cost matrices."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import finite, real, shapes

# One point a row; further axes are flattened. Tensors on any device, any float type: the arithmetic is float64.
Points = Float[Tensor, "n *feature"] | Float[np.ndarray, "n *feature"]
Weights = Float[Tensor, "_"] | Float[np.ndarray, "_"]
Matrix = Float[np.ndarray, "n d"]
Vector = Float[np.ndarray, "n"]
Index = Int[np.ndarray, "e"]


def as_matrix(points: Points, name: str = "points", caller: str = "transport") -> Matrix:
    """Float64 array (n, d) of a cloud given as a tensor or an array; a vector holds n points of one feature.

    ValueError unless real, finite and not empty.
    """
    real(caller, half=True, **{name: points})
    shapes(caller, cure="Pass at least one point a cloud, one point a row", **{name: (points, "n *feature")})
    finite(caller, **{name: points})
    array = points.detach().cpu().double().numpy() if isinstance(points, Tensor) else points.astype(np.float64)
    return np.ascontiguousarray(array.reshape(len(array), -1))


def as_pair(caller: str, p: float, **clouds: Any) -> tuple[Matrix, Float[np.ndarray, "m d"]]:
    """Two clouds as matrices; ValueError unless p ≥ 1, one dimension, and costs that do not overflow float64."""
    p = check_exponent(p, caller)
    (x_name, x_points), (y_name, y_points) = clouds.items()
    x, y = as_matrix(x_points, x_name, caller), as_matrix(y_points, y_name, caller)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{caller} needs {x_name} and {y_name} with the same number of features; got {x.shape[1]} and {y.shape[1]}."
        )
    reach = max(np.abs(x).max(), np.abs(y).max())
    size = 2 * math.sqrt(x.shape[1]) * reach
    if size > 0 and max(p, 2) * math.log10(size) > 290:
        raise ValueError(
            f"{caller} needs costs that float64 can hold; those of points as large as {reach:.3g} overflow at p = {p}: "
            "rescale both clouds."
        )
    return x, y


def as_pairing(caller: str, p: float, **clouds: Any) -> tuple[Matrix, Matrix]:
    """Two clouds as matrices, the i-th point of one paired with the i-th of the other: one shape (n, d)."""
    x, t = as_pair(caller, p, **clouds)
    if x.shape != t.shape:
        names = " and ".join(clouds)
        raise ValueError(f"{caller} needs {names} of one shape, a pair a row; got {len(x)} and {len(t)} points.")
    return x, t


def check_exponent(p: float, caller: str = "the cost ‖x − y‖^p") -> float:
    """The exponent p of the cost as a float; ValueError unless 1 ≤ p < ∞ (below 1 the cost is not convex)."""
    try:
        fits = not isinstance(p, bool) and 1 <= float(p) < math.inf
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"{caller} needs 1 <= p < infinity; got p = {p!r}. Change p.")
    return float(p)


def check_weights(weights: Weights | None, count: int, name: str, caller: str) -> Vector | None:
    """Weights as float64 of any positive total, None stays None; ValueError if negative, not finite, 0 or misshapen."""
    if weights is None:
        return None
    real(caller, half=True, **{name: weights})
    finite(caller, **{name: weights})
    array = weights.detach().cpu().double().numpy() if isinstance(weights, Tensor) else weights.astype(np.float64)
    if array.shape != (count,):
        raise ValueError(f"{caller} needs {name} ({count},), one weight a point; got {tuple(array.shape)}.")
    if (array < 0).any() or array.sum() <= 0:
        raise ValueError(f"{caller} needs {name} not negative and not all zero; got values from {array.min()}.")
    return array


def raised(squared: Float[np.ndarray, "*shape"], p: float) -> Float[np.ndarray, "*shape"]:
    """‖z‖^p from ‖z‖² ≥ 0."""
    if p == 2:
        return squared
    root = np.sqrt(squared)
    return root if p == 1 else root**p


def paired_cost(x: Matrix, y: Matrix, p: float) -> Vector:
    """Cost ‖x_i − y_i‖^p of each pair; norm over features, no factor ½, from differences (no cancellation)."""
    difference = x - y
    return raised(np.einsum("nd,nd->n", difference, difference), p)


def edge_cost(x: Matrix, y: Float[np.ndarray, "m d"], rows: Index, columns: Index, p: float) -> Float[np.ndarray, "e"]:
    """Cost ‖x_i − y_j‖^p of listed pairs (i, j), from differences, in slices so that memory stays O(pairs)."""
    out = np.empty(len(rows))
    step = max(1, 4_000_000 // x.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        out[part] = paired_cost(x[rows[part]], y[columns[part]], p)
    return out


def cost_matrix(x: Matrix, y: Float[np.ndarray, "m d"], p: float) -> Float[np.ndarray, "n m"]:
    """All costs ‖x_i − y_j‖^p, from differences one feature at a time (exact also where clouds are far from 0)."""
    squared = np.zeros((len(x), len(y)))
    for k in range(x.shape[1]):
        difference = x[:, k, None] - y[None, :, k]
        difference *= difference
        squared += difference
    return raised(squared, p)
