"""Ground cost ‖x − y‖^p between two clouds: input checks, exact pair costs, cost matrices."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# One point a row; further axes are flattened. Tensors on any device, any float type: the arithmetic is float64.
Points = Float[Tensor, "n *feature"] | Float[np.ndarray, "n *feature"]
Weights = Float[Tensor, "_"] | Float[np.ndarray, "_"]
Matrix = Float[np.ndarray, "n d"]
Vector = Float[np.ndarray, "n"]
Index = Int[np.ndarray, "e"]


def as_matrix(points: Points, name: str = "points") -> Matrix:
    """Float64 array (n, d) of a cloud given as a tensor or an array; ValueError unless finite and not empty."""
    array = points.detach().cpu().double().numpy() if isinstance(points, Tensor) else np.asarray(points, np.float64)
    if array.ndim < 1 or array.size == 0:
        raise ValueError(f"{name} must hold at least one point, shape (n, d); got shape {tuple(array.shape)}.")
    array = np.ascontiguousarray(array.reshape(len(array), -1))
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(1).sum())
        raise ValueError(f"{name} must be finite; {bad} of {len(array)} rows hold NaN or infinity: remove them first.")
    return array


def check_exponent(p: float) -> float:
    """The exponent p of the cost as a float; ValueError unless 1 ≤ p < ∞ (below 1 the cost is not convex)."""
    if not (math.isfinite(p) and p >= 1):
        raise ValueError(f"the cost ‖x − y‖^p needs 1 <= p < infinity; got p = {p}.")
    return float(p)


def check_pair(x: Matrix, y: Float[np.ndarray, "m k"], p: float) -> None:
    """ValueError unless both clouds live in one dimension and their costs do not overflow float64."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"both clouds need the same number of features; got {x.shape[1]} and {y.shape[1]}.")
    reach = max(np.abs(x).max(), np.abs(y).max())
    size = 2 * math.sqrt(x.shape[1]) * reach
    if size > 0 and max(p, 2) * math.log10(size) > 290:
        raise ValueError(f"costs of points as large as {reach:.3g} overflow float64 at p = {p}: rescale both clouds.")


def check_weights(weights: Weights | None, count: int, name: str) -> Vector | None:
    """Weights as float64 of any positive total, None stays None; ValueError if negative, not finite, 0 or misshapen."""
    if weights is None:
        return None
    array = (weights.detach().cpu() if isinstance(weights, Tensor) else torch.as_tensor(weights)).double().numpy()
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), one weight a point; got {tuple(array.shape)}.")
    if not np.isfinite(array).all() or (array < 0).any() or array.sum() <= 0:
        raise ValueError(f"{name} must be finite, not negative and not all zero; got values from {array.min()}.")
    return array


def power(squared: Float[np.ndarray, "*shape"], p: float) -> Float[np.ndarray, "*shape"]:
    """‖z‖^p from ‖z‖² ≥ 0."""
    if p == 2:
        return squared
    root = np.sqrt(squared)
    return root if p == 1 else root**p


def paired_cost(x: Matrix, y: Matrix, p: float) -> Vector:
    """Cost ‖x_i − y_i‖^p of each pair; norm over features, no factor ½, from differences (no cancellation)."""
    difference = x - y
    return power(np.einsum("nd,nd->n", difference, difference), p)


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
    return power(squared, p)
