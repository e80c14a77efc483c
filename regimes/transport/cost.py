"""Ground cost ‖x − y‖^p between two clouds: input checks, exact pair costs, cost matrices."""

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from torch import Tensor

from regimes.checks import finite, given, real, shapes, without_values

# One point a row; further axes are flattened. Tensors on any device, any float type, and lists of numbers: the
# arithmetic is float64.
Points = Float[Tensor, "n *feature"] | Float[np.ndarray, "n *feature"] | list | tuple
Others = Float[Tensor, "m *other"] | Float[np.ndarray, "m *other"] | list | tuple  # a second cloud
Weights = Float[Tensor, "_"] | Float[np.ndarray, "_"] | list | tuple
Matrix = Float[np.ndarray, "n d"]
Vector = Float[np.ndarray, "n"]
Index = Int[np.ndarray, "e"]


def as_matrix(points: Any, name: str = "points", caller: str = "transport") -> Matrix:
    """Float64 array (n, d) of a cloud given as a tensor, an array or a list; a vector holds n points of one feature.

    Numbers in a list are float64, as they are in Python. ValueError unless real, finite and not empty.
    """
    points = as_array(points, name, caller)
    real(caller, half=True, numpy=True, **{name: points})
    shapes(caller, cure="Pass at least one point a cloud, one point a row", **{name: (points, "n *feature")})
    finite(caller, **{name: points})
    array = points.detach().cpu().double().numpy() if isinstance(points, Tensor) else points.astype(np.float64)
    return np.ascontiguousarray(array.reshape(len(array), -1))


def as_array(values: Any, name: str, caller: str) -> Any:
    """Tensors and arrays as they are, a list (or tuple) of numbers as a float64 array; anything else is left alone.

    ValueError for entries that are hidden (masked arrays), left out (sparse tensors), or no numbers.
    """
    given(caller, **{name: values})
    if isinstance(values, np.ma.MaskedArray) or type(values).__name__ == "MaskedTensor":
        raise ValueError(f"{caller} needs {name} without a mask: what it hides would count. Leave those points out.")
    if isinstance(values, Tensor) and (values.layout != torch.strided or values.is_quantized or without_values(values)):
        kind = str(values.layout if values.layout != torch.strided else values.dtype).removeprefix("torch.")
        meta = without_values(values)
        cure = "Pass one that holds its numbers" if meta else f"Convert: {name}.to_dense()"
        raise ValueError(f"{caller} needs {name} as a plain tensor; got {'meta' if meta else kind}. {cure}.")
    if isinstance(values, np.ndarray):
        native = values.dtype.kind == "f" and not values.dtype.isnative
        return np.asarray(values, values.dtype.newbyteorder("=") if native else None)
    if not isinstance(values, list | tuple):
        return values
    try:
        if any(isinstance(each, np.ma.MaskedArray) for each in values):
            raise ValueError("masked entries")
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise ValueError(f"entries of {array.dtype}")
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).partition(". ")[0]
        raise ValueError(
            f"{caller} needs {name} as rows of numbers, all of one length; got a list of something else ({reason}). "
            "Pass an array or a tensor."
        ) from None
    return array.astype(np.float64)


def as_pair(caller: str, p: float, *, any_size: bool = False, **clouds: Any) -> tuple[Matrix, Float[np.ndarray, "m d"]]:
    """Two clouds as matrices; ValueError unless p ≥ 1, one dimension, and costs that float64 can hold.

    With `any_size` the costs may be too large or too small: the caller chooses a unit.
    """
    p = check_exponent(p, caller)
    (x_name, x_points), (y_name, y_points) = clouds.items()
    x, y = as_matrix(x_points, x_name, caller), as_matrix(y_points, y_name, caller)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{caller} needs {x_name} and {y_name} with the same number of features; got {x.shape[1]} and {y.shape[1]}."
        )
    size = max(p, 2) * extent(x, y)
    if not any_size and abs(size) > 290 and math.isfinite(size):
        how = "overflow" if size > 0 else "vanish"
        raise ValueError(
            f"{caller} needs costs that float64 can hold; those of points as far apart as 10^{extent(x, y):.1f} {how} "
            f"at p = {p:g}: rescale both clouds."
        )
    return x, y


def extent(*clouds: Float[np.ndarray, "_ d"]) -> float:
    """Decimal logarithm of the diagonal of the box that holds the clouds, −inf for a single place; never overflows."""
    high, low = np.max([cloud.max(0) for cloud in clouds], axis=0), np.min([cloud.min(0) for cloud in clouds], axis=0)
    part = 0.5 if max(np.abs(high).max(), np.abs(low).max()) > 1e300 else 1.0
    sides = part * high - part * low
    widest = float(sides.max())
    return math.log10(widest) + math.log10(np.linalg.norm(sides / widest) / part) if widest > 0 else -math.inf


def as_pairing(caller: str, p: float, *, any_size: bool = False, **clouds: Any) -> tuple[Matrix, Matrix]:
    """Two clouds as matrices, the i-th point of one paired with the i-th of the other: one shape (n, d)."""
    x, t = as_pair(caller, p, any_size=any_size, **clouds)
    if x.shape != t.shape:
        names = " and ".join(clouds)
        raise ValueError(f"{caller} needs {names} of one shape, a pair a row; got {len(x)} and {len(t)} points.")
    return x, t


def check_exponent(p: Any, caller: str = "the cost ‖x − y‖^p") -> float:
    """The exponent p of the cost as a float; ValueError unless 1 ≤ p < ∞ (below 1 the cost is not convex)."""
    if not isinstance(p, Real) or isinstance(p, bool | np.bool_) or not 1 <= float(p) < math.inf:
        raise ValueError(f"{caller} needs 1 <= p < infinity; got p = {p!r}. Change p.")
    return float(p)


def check_weights(weights: Any, count: int, name: str, caller: str) -> Vector | None:
    """Weights as float64 of any positive total, None stays None; ValueError if negative, not finite, 0 or misshapen."""
    if weights is None:
        return None
    weights = as_array(weights, name, caller)
    real(caller, half=True, numpy=True, **{name: weights})
    finite(caller, **{name: weights})
    array = weights.detach().cpu().double().numpy() if isinstance(weights, Tensor) else weights.astype(np.float64)
    if array.shape != (count,):
        raise ValueError(f"{caller} needs {name} ({count},), one weight a point; got {tuple(array.shape)}.")
    if (array < 0).any() or not array.any():
        raise ValueError(f"{caller} needs {name} not negative and not all zero; got values from {array.min()}.")
    largest = array.max()
    return array if 1e-100 < largest < 1e100 else array / largest  # sums and ratios of the others would not fit


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


def saving(
    x: Float[np.ndarray, "*e d"], t: Float[np.ndarray, "*e d"], other: Float[np.ndarray, "*e d"], p: float
) -> Float[np.ndarray, "*e"]:
    """‖x − t‖^p − ‖x − other‖^p row by row, from ‖x − t‖² − ‖x − s‖² = ⟨s − t, (x − t) + (x − s)⟩.

    Where both costs are large and nearly equal their difference keeps its digits, which costs taken apart would lose.
    """
    before, after = x - t, x - other
    difference = np.einsum("...d,...d->...", other - t, before + after)
    if p == 2:
        return difference
    first, second = (np.einsum("...d,...d->...", z, z) for z in (before, after))
    return power_difference(first, second, difference, p)


def power_difference(
    first: Float[np.ndarray, "*e"], second: Float[np.ndarray, "*e"], difference: Float[np.ndarray, "*e"], p: float
) -> Float[np.ndarray, "*e"]:
    """first^(p/2) − second^(p/2) of squared lengths whose difference is known better than they are."""
    larger = np.maximum(first, second)
    share = np.divide(np.abs(difference), larger, out=np.zeros_like(larger), where=larger > 0)
    with np.errstate(divide="ignore"):  # log 0 = −inf where the other length is 0
        part = -np.expm1(p / 2 * np.log1p(-np.minimum(share, 1)))
    return np.sign(difference) * raised(larger, p) * part


def cost_matrix(x: Matrix, y: Float[np.ndarray, "m d"], p: float) -> Float[np.ndarray, "n m"]:
    """All costs ‖x_i − y_j‖^p, from differences, one feature after the other (exact also far from 0)."""
    return raised(cdist(x, y, "sqeuclidean"), p)
